"""A recording, played to the running node, and a verdict on what the node said.

ros2 launch fer_ros evaluate.launch.py bag:=day labels:=labels.csv
"""

import signal
from pathlib import Path

import yaml
from launch.actions import (
    DeclareLaunchArgument,
    EmitEvent,
    ExecuteProcess,
    IncludeLaunchDescription,
    OpaqueFunction,
    RegisterEventHandler,
    Shutdown,
    TimerAction,
)
from launch.event_handlers import OnProcessExit, OnProcessIO
from launch.events import matches_action
from launch.events.process import ProcessExited, ProcessIO, SignalProcess
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.substitutions import ExecutableInPackage, FindPackageShare

from launch import Action, LaunchContext, LaunchDescription

# What the node and the recorder log when they are ready, and the node when it never will be.
LISTENS, RECORDS, CANNOT = b"waiting for images", b"Subscribed to topic", b"cannot be configured"
LAST_IMAGE_S = 3.0  # that the node has for the last image
TRANSPORTS = {"sensor_msgs/msg/Image": "raw", "sensor_msgs/msg/CompressedImage": "compressed"}


def generate_launch_description() -> LaunchDescription:
    arguments = {
        "bag": (None, "folder of the recording"),
        "labels": ([LaunchConfiguration("bag"), "/labels.csv"], "CSV or YAML file"),
        "image": ("", "topic in the recording; empty: the only one with images"),
        "namespace": ("", "of the node's topics"),
        "out": ("verdict", "folder for what the node said, in said/, and for the verdict"),
    }
    declared = [
        DeclareLaunchArgument(name, default_value=value, description=about)
        for name, (value, about) in arguments.items()
    ]
    return LaunchDescription([*declared, OpaqueFunction(function=evaluation)])


def evaluation(context: LaunchContext) -> list[Action]:
    given = {
        name: LaunchConfiguration(name).perform(context)
        for name in ("bag", "labels", "image", "namespace", "out")
    }
    image, transport = images_of(given["bag"], given["image"])
    said = new_folder(given["out"])
    topic = "/".join(["", *filter(None, given["namespace"].split("/")), "emotion_node/emotions"])
    node = IncludeLaunchDescription(
        PathJoinSubstitution([FindPackageShare("fer_ros"), "launch", "fer.launch.py"]),
        launch_arguments={
            "image": image,
            "compressed": image,
            "image_transport": transport,
            "use_sim_time": "true",
        }.items(),
    )
    record = process("ros2", "bag", "record", "-o", said, topic)
    play = process("ros2", "bag", "play", given["bag"], "--clock")
    about = ["--predictions", topic, "--of", given["bag"], "--labels", given["labels"]]
    fer = ExecutableInPackage("fer", "fer_ros")
    score = process(fer, "evaluate-bag", said, *about, "--out", given["out"])
    return [node, *in_turn(record, play, score)]


def in_turn(record: Action, play: Action, score: Action) -> list[RegisterEventHandler]:
    """Each when the one before is ready or done; the end when the verdict is there."""

    def node_says(event: ProcessIO) -> Action | None:
        if LISTENS in event.text:
            return record
        return Shutdown(reason="the node cannot work") if CANNOT in event.text else None

    def any_ends(event: ProcessExited, _: LaunchContext) -> Action | None:
        if event.action is record:
            return score
        if event.action is play:
            stop = SignalProcess(
                signal_number=signal.SIGINT, process_matcher=matches_action(record)
            )
            return TimerAction(period=LAST_IMAGE_S, actions=[EmitEvent(event=stop)])
        return Shutdown(reason="done" if event.action is score else "the node ended")

    def recorder_says(event: ProcessIO) -> Action | None:
        return play if RECORDS in event.text else None

    return [
        RegisterEventHandler(OnProcessIO(on_stdout=node_says, on_stderr=node_says)),
        RegisterEventHandler(
            OnProcessIO(target_action=record, on_stdout=recorder_says, on_stderr=recorder_says)
        ),
        RegisterEventHandler(OnProcessExit(on_exit=any_ends)),
    ]


def process(*command: str | ExecutableInPackage) -> ExecuteProcess:
    return ExecuteProcess(cmd=[*command], output="screen")


def images_of(bag: str, wanted: str) -> tuple[str, str]:
    """The topic with images, the wanted one or the only one, and its transport."""
    path = Path(bag, "metadata.yaml")
    rows = yaml.safe_load(path.read_text())["rosbag2_bagfile_information"]
    topics = [row["topic_metadata"] for row in rows["topics_with_message_count"]]
    found = {
        each["name"]: TRANSPORTS[each["type"]] for each in topics if each["type"] in TRANSPORTS
    }
    chosen = [wanted] if wanted else [*found]
    if len(chosen) != 1 or chosen[0] not in found:
        raise RuntimeError(f"{bag}: image:= one of its topics with images: {', '.join(found)}")
    return chosen[0], found[chosen[0]]


def new_folder(out: str) -> str:
    """Where ros2 bag shall record; it takes no folder that is there."""
    said = Path(out, "said")
    if said.exists():
        raise RuntimeError(f"{said}: is there already; name another folder with out:=")
    said.parent.mkdir(parents=True, exist_ok=True)
    return str(said)
