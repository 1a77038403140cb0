"""The emotion node: ros2 launch fer_ros fer.launch.py image:=/camera/image_raw.

Several cameras: cameras:=front,rear image:=image_raw subscribes to front/image_raw and
rear/image_raw.
"""

from pathlib import Path

from launch import LaunchContext, LaunchDescription
from launch.actions import DeclareLaunchArgument, OpaqueFunction
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue
from launch_ros.substitutions import FindPackageShare

NODE_NAME = "emotion_node"
# Topic names of the node, and the launch arguments that remap them.
TOPIC_ARGUMENTS = {
    "image": "image",
    "image/compressed": "compressed",
    "camera_info": "camera_info",
}
RESPAWN_DELAY_S = 2.0
# Launch arguments that override the parameter file unless they are empty.
PARAMETER_ARGUMENTS = {
    "model": ("classifier.model", "name or folder of a model"),
    "device": ("classifier.device", "auto, cpu, cuda or cuda:N"),
    "input_source": ("input_source", "camera, or ros4hri: faces that another node publishes"),
    "image_transport": ("image_transport", "raw, or compressed: subscribes to <compressed>"),
    "hri_namespace": ("hri_namespace", "namespace of the REP-155 topics, such as /humans"),
    "publish_images": ("publish_images", "true publishes the debug image and face crops"),
    "image_timeout_s": ("image_timeout_s", "seconds without an image before a warning; 0: none"),
    "autostart": ("autostart", "false leaves configuring and activating to a lifecycle manager"),
    "use_sim_time": ("use_sim_time", "true when a bag or a simulation publishes /clock"),
}


def generate_launch_description() -> LaunchDescription:
    image = LaunchConfiguration("image")
    parameter_file = PathJoinSubstitution([FindPackageShare("fer_ros"), "config", "fer.yaml"])
    arguments = {
        "cameras": ("", "names, separated by commas; topics of each camera are below its name"),
        "image": ("image", "image topic"),
        "compressed": ([image, "/compressed"], "topic of compressed images"),
        "camera_info": ("camera_info", "topic with the camera's calibration"),
        "params_file": (parameter_file, "parameter file"),
        "namespace": ("", "namespace of the node"),
        "respawn": ("false", "true: start the node again when it ends with an error"),
        "log_level": ("info", "debug, info, warn, error or fatal"),
        **{name: ("", description) for name, (_, description) in PARAMETER_ARGUMENTS.items()},
    }
    declared = [
        DeclareLaunchArgument(name, default_value=default, description=description)
        for name, (default, description) in arguments.items()
    ]
    return LaunchDescription([*declared, OpaqueFunction(function=create_node)])


def create_node(context: LaunchContext) -> list[Node]:
    def value(name: str) -> str:
        return LaunchConfiguration(name).perform(context)

    parameters: dict[str, object] = {
        parameter: LaunchConfiguration(name)
        for name, (parameter, _) in PARAMETER_ARGUMENTS.items()
        if value(name)
    }
    topics = {topic: value(argument) for topic, argument in TOPIC_ARGUMENTS.items()}
    if value("cameras"):
        cameras = [name.strip() for name in value("cameras").split(",")]
        parameters["cameras"] = ParameterValue(cameras)
        topics = camera_topics(cameras, topics)
    parameter_file = Path(value("params_file")).expanduser()
    if not parameter_file.is_file():
        raise RuntimeError(f"params_file: {parameter_file}: no such file")
    return [
        Node(
            package="fer_ros",
            executable=NODE_NAME,
            name=NODE_NAME,
            namespace=LaunchConfiguration("namespace"),
            parameters=[str(parameter_file), parameters],
            remappings=[*topics.items()],
            ros_arguments=["--log-level", f"{logger_name(context)}:={value('log_level')}"],
            respawn=LaunchConfiguration("respawn"),
            respawn_delay=RESPAWN_DELAY_S,
            output="screen",
        )
    ]


def camera_topics(cameras: list[str], topics: dict[str, str]) -> dict[str, str]:
    """Remappings for each camera; raises RuntimeError for an absolute topic."""
    for argument, topic in zip(TOPIC_ARGUMENTS.values(), topics.values(), strict=True):
        if topic.startswith("/"):
            raise RuntimeError(
                f"{argument}: expected a name below that of each camera ({', '.join(cameras)}), "
                f"such as image_raw, found {topic!r}"
            )
    return {
        f"{camera}/{own_name}": f"{camera}/{topic}"
        for camera in cameras
        for own_name, topic in topics.items()
    }


def logger_name(context: LaunchContext) -> str:
    """Name of the node's logger, which has dots for the slashes of its namespace."""
    namespace = LaunchConfiguration("namespace").perform(context)
    if not namespace.startswith("/"):  # relative to that of an including launch file
        namespace = f"{context.launch_configurations.get('ros_namespace', '')}/{namespace}"
    return ".".join([*filter(None, namespace.split("/")), NODE_NAME])
