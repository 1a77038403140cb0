"""The emotion node for one camera: ros2 launch fer_ros fer.launch.py image:=/camera/image_raw."""

from launch.actions import DeclareLaunchArgument, OpaqueFunction
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.substitutions import FindPackageShare

from launch import LaunchContext, LaunchDescription

# Given, they win over the parameter file; left empty, they leave it alone.
OVERRIDES = {
    "image_transport": "raw or compressed; compressed subscribes to <image>/compressed",
    "autostart": "false leaves configuring and activating to a lifecycle manager",
    "use_sim_time": "true when a bag or a simulation publishes /clock",
}


def generate_launch_description() -> LaunchDescription:
    settings = PathJoinSubstitution([FindPackageShare("fer_ros"), "config", "fer.yaml"])
    arguments = [
        DeclareLaunchArgument("image", default_value="image", description="topic of the camera"),
        DeclareLaunchArgument("params_file", default_value=settings, description="parameters"),
        DeclareLaunchArgument("namespace", default_value="", description="of the node's topics"),
        DeclareLaunchArgument("log_level", default_value="info", description="debug to fatal"),
    ]
    arguments += [
        DeclareLaunchArgument(name, default_value="", description=about)
        for name, about in OVERRIDES.items()
    ]
    return LaunchDescription([*arguments, OpaqueFunction(function=emotion_node)])


def emotion_node(context: LaunchContext) -> list[Node]:
    given = {name: LaunchConfiguration(name) for name in OVERRIDES}
    overrides = {name: value for name, value in given.items() if value.perform(context)}
    image = LaunchConfiguration("image")
    return [
        Node(
            package="fer_ros",
            executable="emotion_node",
            name="emotion_node",
            namespace=LaunchConfiguration("namespace"),
            parameters=[LaunchConfiguration("params_file"), overrides],
            remappings=[("image", image), ("image/compressed", [image, "/compressed"])],
            ros_arguments=["--log-level", ["emotion_node:=", LaunchConfiguration("log_level")]],
            output="screen",
        )
    ]
