"""The emotion node and its images: ros2 launch fer_ros demo.launch.py source:=0."""

from pathlib import Path

from launch import LaunchContext, LaunchDescription
from launch.actions import (
    DeclareLaunchArgument,
    OpaqueFunction,
    RegisterEventHandler,
    Shutdown,
)
from launch.event_handlers import OnProcessExit
from launch.events.process import ProcessExited
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.substitutions import FindPackageShare


def generate_launch_description() -> LaunchDescription:
    parameter_file = PathJoinSubstitution([FindPackageShare("fer_ros"), "config", "fer.yaml"])
    arguments = {
        "source": ("sample", "sample, the number of a webcam, an image, a video or a folder"),
        "loop": ("true", "start again at the end of the source"),
        "namespace": ("", "namespace of both nodes"),
        "params_file": (parameter_file, "parameter file of the emotion node"),
        "model": ("", "name or folder of a model; empty: as in the parameter file"),
        "device": ("", "auto, cpu, cuda or cuda:N; empty: as in the parameter file"),
        "publish_images": ("false", "true publishes the debug image and face crops"),
    }
    declared = [
        DeclareLaunchArgument(name, default_value=default, description=description)
        for name, (default, description) in arguments.items()
    ]
    return LaunchDescription([*declared, OpaqueFunction(function=create_nodes)])


def create_nodes(context: LaunchContext) -> list[Node | RegisterEventHandler]:
    parameter_file = Path(LaunchConfiguration("params_file").perform(context)).expanduser()
    if not parameter_file.is_file():
        raise RuntimeError(f"params_file: {parameter_file}: no such file")
    # JPEG passes every middleware with its default settings.
    transport = {"image_transport": "compressed"}
    parameters: dict[str, object] = {"publish_images": LaunchConfiguration("publish_images")}
    for name in ("model", "device"):
        if LaunchConfiguration(name).perform(context):
            parameters[f"classifier.{name}"] = LaunchConfiguration(name)
    emotion_node = Node(
        package="fer_ros",
        executable="emotion_node",
        name="emotion_node",
        namespace=LaunchConfiguration("namespace"),
        parameters=[str(parameter_file), parameters | transport],
        output="screen",
    )
    source = {"source": LaunchConfiguration("source"), "loop": LaunchConfiguration("loop")}
    media_publisher = Node(
        package="fer_ros",
        executable="media_publisher",
        namespace=LaunchConfiguration("namespace"),
        parameters=[source | transport],
        output="screen",
    )
    end = OnProcessExit(target_action=media_publisher, on_exit=on_publisher_exit)
    return [emotion_node, media_publisher, RegisterEventHandler(end)]


def on_publisher_exit(event: ProcessExited, context: LaunchContext) -> Shutdown | None:
    if context.is_shutdown:
        return None
    if event.returncode:
        raise RuntimeError(f"the media publisher failed with exit code {event.returncode}")
    return Shutdown(reason="the source has ended")
