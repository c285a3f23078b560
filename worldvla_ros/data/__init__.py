"""Recordings in, episodes out: what training and measuring read.

Knows file formats of episodes. Must not know simulators, models or ROS. Read `episodes`.
"""
