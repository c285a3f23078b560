"""Simulated robots: the built-in tabletop with its tasks and experts, and LIBERO.

Knows MuJoCo, which lives here only. Must not know models or ROS. Read `tabletop` first, then
`tasks`.
"""
