"""From a prompt to a chunk or to images: passes, caches, decoding.

Knows ids, positions and the device of the weights. Must not know prompts' wording, files, robots
or ROS. Read `engine` first, then `chunks` and `images`.
"""
