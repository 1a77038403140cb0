"""Read, write and create ROS 2 bags."""
