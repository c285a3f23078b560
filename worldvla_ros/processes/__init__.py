"""The nodes of a launch as child processes, where there is no `ros2` command.

Knows command lines, signals and pipes. Must not know rclpy or what a node does. Read `supervisor`
first, which starts and watches them; `guardian` ends them when the supervisor itself is gone.
"""
