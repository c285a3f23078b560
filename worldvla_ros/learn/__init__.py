"""Training: from episodes to a checkpoint folder.

Knows models, sequences and optimisers. Must not know how a checkpoint is judged, or ROS. Read
`train` first, the order of the stages.
"""
