"""A made-up camera and the emotion node: ``ros2 launch fer_ros demo.launch.py source:=0``."""

from launch.actions import DeclareLaunchArgument, GroupAction, IncludeLaunchDescription
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.substitutions import FindPackageShare

from launch import LaunchDescription


def generate_launch_description() -> LaunchDescription:
    share = FindPackageShare("fer_ros")
    return LaunchDescription(
        [
            DeclareLaunchArgument(
                "source",
                default_value="sample",
                description="sample, the number of a webcam, a picture, video or folder",
            ),
            DeclareLaunchArgument(
                "loop", default_value="true", description="starts again at the end"
            ),
            # In a group of its own: the node's argument source is not the camera's.
            GroupAction(
                [
                    IncludeLaunchDescription(
                        PathJoinSubstitution([share, "launch", "fer.launch.py"]),
                        launch_arguments={
                            "image_transport": "compressed",
                            "privacy": "false",  # the debug image is there to be seen
                            "source": "",
                        }.items(),
                    )
                ]
            ),
            Node(
                package="fer_ros",
                executable="camera",
                parameters=[
                    {
                        "source": LaunchConfiguration("source"),
                        "loop": LaunchConfiguration("loop"),
                        # JPEG gets through every middleware as it is shipped.
                        "image_transport": "compressed",
                    }
                ],
                output="screen",
            ),
        ]
    )
