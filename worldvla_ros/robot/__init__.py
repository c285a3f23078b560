"""What a robot is, what it is told and when nothing: pure functions of numbers and time.

Knows descriptions, kinematics, guards and chunks as motion. Must not know torch, ROS or models.
Read `description` first, then `player`, which puts the rest together.
"""
