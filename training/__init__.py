"""From data to checkpoints that the robot loads. Not installed with the package."""
