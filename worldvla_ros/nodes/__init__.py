"""ROS 2 nodes: convert messages, hand them on, publish what comes back.

The only room with rclpy. Must not know networks, training or how anything is computed. Read
`runtime` first, then `policy`.
"""
