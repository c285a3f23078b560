"""Measuring checkpoints: success, imagination, LIBERO, precision. Only the command imports it.

Knows policy, world model and simulations. Must not know training or ROS. Read `success` first.
"""
