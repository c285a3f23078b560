"""ROS 2 nodes: convert messages, hand them on, publish what comes back. All of rclpy is here."""
