"""Recordings in, episodes out: what training and measuring read.

Knows file formats of episodes. Must not know simulators, models or ROS. Read `episodes` first;
`places` names the columns of a place, `wording` says how a source words its tasks.
"""
