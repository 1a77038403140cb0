"""Facial emotions for robots: a ROS-free library around a two-stream network."""
