"""ROS 2 nodes: they convert messages, hand them on, and publish what comes back. The only place with rclpy."""
