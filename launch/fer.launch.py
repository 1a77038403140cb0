"""The emotion node: ros2 launch fer_ros fer.launch.py image:=/camera/image_raw.

Several cameras: cameras:=front,rear image:=image_raw takes front/image_raw and rear/image_raw.
"""

from launch.actions import DeclareLaunchArgument, OpaqueFunction
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue
from launch_ros.substitutions import FindPackageShare

from launch import LaunchContext, LaunchDescription

# Topics that the node takes, under the names that it has for them.
TOPICS = {
    "image": "image",
    "image/compressed": "compressed",
    "camera_info": "camera_info",
}
# Given, they win over the parameter file; left empty, they leave it alone.
OVERRIDES = {
    "model": ("classifier.model", "name or folder of a model"),
    "device": ("classifier.device", "auto, cpu, cuda or cuda:N"),
    "source": ("source", "camera, or ros4hri for the faces that another node finds"),
    "image_transport": ("image_transport", "raw, or compressed for the topic <compressed>"),
    "privacy": ("privacy", "false lets pictures of faces leave the node"),
    "autostart": ("autostart", "false leaves configuring and activating to a lifecycle manager"),
    "use_sim_time": ("use_sim_time", "true when a bag or a simulation publishes /clock"),
}


def generate_launch_description() -> LaunchDescription:
    image = LaunchConfiguration("image")
    settings = PathJoinSubstitution([FindPackageShare("fer_ros"), "config", "fer.yaml"])
    arguments = {
        "cameras": ("", "names, separated by commas; the topics of each are below its name"),
        "image": ("image", "topic of the camera"),
        "compressed": ([image, "/compressed"], "topic of its compressed images"),
        "camera_info": ("camera_info", "topic of its calibration"),
        "params_file": (settings, "parameters"),
        "namespace": ("", "of the node's topics"),
        "log_level": ("info", "debug to fatal"),
        **{name: ("", about) for name, (_, about) in OVERRIDES.items()},
    }
    declared = [
        DeclareLaunchArgument(name, default_value=value, description=about)
        for name, (value, about) in arguments.items()
    ]
    return LaunchDescription([*declared, OpaqueFunction(function=emotion_node)])


def emotion_node(context: LaunchContext) -> list[Node]:
    given = {name: LaunchConfiguration(name) for name in OVERRIDES}
    overrides: dict[str, object] = {
        OVERRIDES[name][0]: value for name, value in given.items() if value.perform(context)
    }
    remapped = {topic: LaunchConfiguration(name).perform(context) for topic, name in TOPICS.items()}
    cameras = LaunchConfiguration("cameras").perform(context)
    if cameras:
        names = [name.strip() for name in cameras.split(",")]
        overrides["cameras"] = ParameterValue(names)
        remapped = {
            f"{camera}/{topic}": f"{camera}/{name}"
            for camera in names
            for topic, name in remapped.items()
        }
    return [
        Node(
            package="fer_ros",
            executable="emotion_node",
            name="emotion_node",
            namespace=LaunchConfiguration("namespace"),
            parameters=[LaunchConfiguration("params_file"), overrides],
            remappings=[*remapped.items()],
            ros_arguments=["--log-level", ["emotion_node:=", LaunchConfiguration("log_level")]],
            output="screen",
        )
    ]
