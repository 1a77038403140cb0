"""The thin shell that speaks ROS 2; the only room that imports rclpy and messages."""
