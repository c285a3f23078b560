"""Values ⇄ ids, encode and decode side by side: text, numbers, images, and whole sequences.

Knows token ids and wording. Must not know torch, ROS or robots. Read `vocab` first, the only place
with ids, then `sequence`, the only place with prompts.
"""
