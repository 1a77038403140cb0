"""Play a recording to the running node, record its results and score them against labels.

ros2 launch fer_ros evaluate.launch.py bag:=day labels:=labels.csv
"""

import signal
from pathlib import Path
from typing import NamedTuple

from launch import Action, LaunchContext, LaunchDescription
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

from fer_ros.evaluation import RESULTS
from fer_ros.evaluation.bags.reader import Bag
from fer_ros.evaluation.bags.storage import METADATA, read_metadata
from fer_ros.evaluation.batch import unique_names
from fer_ros.evaluation.ground_truth import topic_labels, unknown_bags
from fer_ros.evaluation.label_files import read_labels

# Log messages of node and recorder.
NODE_READY, PUBLISHER_FOUND = "active, waiting for images", "publisher of {topic}: "
NODE_FAILED = ("cannot be configured", "cannot be activated")
RECORDER_READY = "Subscribed to topic '{topic}'"
PLAYER = "rosbag2_player"
DISCOVERY_S = 60.0  # within which the node finds the player
LAST_IMAGE_S = 3.0  # for processing the last image
TRANSPORTS = {"sensor_msgs/msg/Image": "raw", "sensor_msgs/msg/CompressedImage": "compressed"}
FIXED_ARGUMENTS = {  # of fer.launch.py, by this launch file
    "cameras": "",
    "input_source": "camera",
    "autostart": "true",
    "use_sim_time": "true",
    "image_timeout_s": "0",  # no image arrives before the player resumes and after it ends
}


class Recording(NamedTuple):
    """A recording to play: its path, its image topic and all topics to play."""

    path: str
    image_topic: str
    transport: str
    topics: list[str]


def generate_launch_description() -> LaunchDescription:
    arguments = {
        "bag": (None, "the recording: a folder, .mcap or .db3"),
        "labels": ("", "CSV or YAML file; default: labels.csv in the recording, if it is there"),
        "image": ("", "image topic of the recording; default: the only one"),
        "namespace": ("", "namespace of the node"),
        "out": ("results", "folder for the report; results of the node go to recorded/ in it"),
        "label_topic": ("", "topic of the recording that holds labels"),
    }
    declared = [
        DeclareLaunchArgument(name, default_value=default, description=description)
        for name, (default, description) in arguments.items()
    ]
    return LaunchDescription([*declared, OpaqueFunction(function=evaluate)])


def evaluate(context: LaunchContext) -> list[Action]:
    """Check all input, then start the node; the other steps follow one after the other."""
    for name, value in FIXED_ARGUMENTS.items():
        if context.launch_configurations.get(name, value) not in (value, ""):
            raise RuntimeError(f"{name}: evaluate.launch.py needs the value {value!r}")
    names = ("bag", "labels", "label_topic", "image", "namespace", "out")
    args = {name: LaunchConfiguration(name).perform(context) for name in names}
    recording = read_recording(Path(args["bag"]).expanduser(), args["image"], args["label_topic"])
    labels = label_arguments(args["labels"], args["label_topic"], Path(recording.path))
    out = Path(args["out"]).expanduser()
    recorded = prepare_output(out)
    namespace = [part for part in args["namespace"].split("/") if part]
    results_topic = "/".join(["", *namespace, "emotion_node", "emotions"])
    results_topics = [results_topic, f"{results_topic}/labels"]  # the names of a label_map

    node = IncludeLaunchDescription(
        PathJoinSubstitution([FindPackageShare("fer_ros"), "launch", "fer.launch.py"]),
        launch_arguments={
            **FIXED_ARGUMENTS,
            "image": recording.image_topic,
            "compressed": recording.image_topic,
            "image_transport": recording.transport,
        }.items(),
    )
    fer = ExecutableInPackage("fer", "fer_ros")
    steps = Steps(
        record=process("ros2", "bag", "record", "-o", recorded, *results_topics),
        play=process(
            *("ros2", "bag", "play", recording.path, "--clock", "--start-paused"),
            *("--disable-keyboard-controls", "--topics", *recording.topics),
        ),
        resume=process(
            *("ros2", "service", "call", f"/{PLAYER}/resume", "rosbag2_interfaces/srv/Resume")
        ),
        score=process(
            *(fer, "evaluate-bag", recorded, "--predictions-topic", results_topic),
            *("--source-bag", recording.path, "--image-topic", recording.image_topic),
            *(*labels, "--out", str(out)),
        ),
    )
    return [node, *Sequence(steps, recording.image_topic, results_topics).handlers()]


class Steps(NamedTuple):
    """The processes of an evaluation in their order, without the node."""

    record: Action
    play: Action
    resume: Action
    score: Action


STEP_NAMES = ("ros2 bag record", "ros2 bag play", "ros2 service call", "fer evaluate-bag")


class Sequence:
    """Starts each step when the one before is ready or done; any failure ends all with an error.

    The player starts paused, and resumes when the node's subscription has found it.
    """

    def __init__(self, steps: Steps, image_topic: str, results_topics: list[str]) -> None:
        self.steps = steps
        self.image_topic = image_topic
        self.not_recorded = {RECORDER_READY.format(topic=topic) for topic in results_topics}
        self.is_resumed = self.has_played = False

    def handlers(self) -> list[RegisterEventHandler]:
        on_node = {"on_stdout": self.on_node_output, "on_stderr": self.on_node_output}
        on_recorder = {"on_stdout": self.on_recorder_output, "on_stderr": self.on_recorder_output}
        return [
            RegisterEventHandler(OnProcessIO(**on_node)),
            RegisterEventHandler(OnProcessIO(target_action=self.steps.record, **on_recorder)),
            RegisterEventHandler(OnProcessExit(on_exit=self.on_exit)),
        ]

    def on_node_output(self, event: ProcessIO) -> Action | None:
        text = event.text.decode(errors="replace")
        if any(message in text for message in NODE_FAILED):
            raise RuntimeError("the emotion node cannot start; its error is above")
        if NODE_READY in text:
            return self.steps.record
        for line in text.splitlines():
            _, is_found, publisher = line.partition(PUBLISHER_FOUND.format(topic=self.image_topic))
            if is_found and publisher.strip() != PLAYER:
                raise RuntimeError(
                    f"{self.image_topic}: expected images of the recording only, found another "
                    f"publisher, {publisher.strip()}; stop it, or set ROS_DOMAIN_ID"
                )
            if is_found and not self.is_resumed:
                self.is_resumed = True
                return self.steps.resume
        return None

    def on_recorder_output(self, event: ProcessIO) -> list[Action] | None:
        text = event.text.decode(errors="replace")
        subscribed = {message for message in self.not_recorded if message in text}
        self.not_recorded -= subscribed
        if not subscribed or self.not_recorded:
            return None
        check = OpaqueFunction(function=self.check_resumed)
        return [self.steps.play, TimerAction(period=DISCOVERY_S, actions=[check])]

    def check_resumed(self, context: LaunchContext) -> None:
        if not self.is_resumed:
            raise RuntimeError(
                f"the emotion node found no publisher of {self.image_topic} within "
                f"{DISCOVERY_S:g} s; check the network settings of DDS"
            )

    def on_exit(self, event: ProcessExited, context: LaunchContext) -> Action | None:
        record, play, resume, score = self.steps
        if context.is_shutdown:
            return None
        if event.action is record and self.has_played:
            return score
        if event.action is play and not self.is_resumed:
            raise RuntimeError("ros2 bag play ended before it had started; see its output above")
        if event.action is play and event.returncode == 0:
            self.has_played = True
            stop = SignalProcess(
                signal_number=signal.SIGINT, process_matcher=matches_action(record)
            )
            return TimerAction(period=LAST_IMAGE_S, actions=[EmitEvent(event=stop)])
        if event.action is resume and event.returncode == 0:
            return None
        if event.action is score and event.returncode == 0:
            return Shutdown(reason="the evaluation is complete")
        name = dict(zip(self.steps, STEP_NAMES, strict=True)).get(event.action, "the emotion node")
        raise RuntimeError(f"{name} ended with exit code {event.returncode}; see its output above")


def process(*command: str | ExecutableInPackage) -> ExecuteProcess:
    return ExecuteProcess(cmd=[*command], output="screen")


def read_recording(path: Path, image: str, label_topic: str) -> Recording:
    """The topics to play: images, and their calibration where it was recorded."""
    with Bag(path) as bag:
        types = bag.topics
        if bag.errors:
            raise RuntimeError(bag.errors[0])
        check_playable(bag)
        if label_topic:
            topic_labels(bag, label_topic)  # raises now, not after the recording was played
    images = [topic for topic, kind in types.items() if kind in TRANSPORTS]
    chosen = [image] if image else images
    if len(chosen) != 1 or chosen[0] not in images:
        available = ", ".join(sorted(images)) or "none"
        problem = f"no image topic {image}" if image else f"{len(images)} image topics"
        raise RuntimeError(f"{path}: {problem}; choose one with image:= (available: {available})")
    topic = chosen[0]
    camera_info = f"{topic.removesuffix('/compressed').rpartition('/')[0]}/camera_info"
    calibration = [camera_info] if camera_info in types else []
    return Recording(str(path), topic, TRANSPORTS[types[topic]], [topic, *calibration])


def check_playable(bag: Bag) -> None:
    """Raise RuntimeError for a recording that can be read, but that ros2 bag play cannot play."""
    path = bag.path
    if path.is_dir() and not (path / METADATA).is_file():
        files = [file for suffix in ("mcap", "db3") for file in path.glob(f"*.{suffix}")]
        remedy = f"name {files[0]} with bag:=" if len(files) == 1 else f"ros2 bag reindex {path}"
        raise RuntimeError(f"{path}: no {METADATA}, which ros2 bag play needs: {remedy}")
    if path.is_file() and (bag.is_compressed() or len(read_metadata(path.parent).file_names) > 1):
        raise RuntimeError(
            f"{path}: ros2 bag play needs the folder of a recording that is compressed or split: "
            f"name {path.parent} with bag:="
        )


def label_arguments(labels: str, label_topic: str, bag: Path) -> list[str]:
    """Arguments with the label file, which must be valid, and topic; none without labels."""
    arguments = ["--label-topic", label_topic] if label_topic else []
    path = Path(labels).expanduser() if labels else bag / "labels.csv"
    if labels and not path.is_file():
        raise RuntimeError(f"labels: {path}: no such file")
    if path.is_file() and (labels or not label_topic):
        others = unknown_bags(read_labels(path), unique_names([bag]))
        if others:
            raise RuntimeError(f"{path}: labels of other bags: {', '.join(others)}")
        arguments += ["--labels", str(path)]
    return arguments


def prepare_output(out: Path) -> str:
    """Folder for the results of the node, which ros2 bag record creates itself.

    What an evaluation without a report has recorded stays beside it.
    """
    recorded = out / "recorded"
    if recorded.exists() and (out / RESULTS).exists():
        raise RuntimeError(f"{out}: has the report of an earlier evaluation; choose another out:=")
    if out.exists() and not out.is_dir():
        raise RuntimeError(f"out: {out}: expected a folder, found a file")
    out.mkdir(parents=True, exist_ok=True)
    number = 2
    while recorded.exists():
        recorded = out / f"recorded_{number}"
        number += 1
    return str(recorded)
