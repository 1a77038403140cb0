"""Play a recording to the running node, record its results and score them against labels.

ros2 launch fer_ros evaluate.launch.py bag:=day labels:=labels.csv
"""

import json
import signal
import subprocess
from pathlib import Path
from typing import Any, NamedTuple, cast

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

# Log messages of node and recorder.
NODE_READY, PUBLISHER_FOUND = "active, waiting for images", "publisher of {topic}: "
NODE_FAILED = ("cannot be configured", "cannot be activated")
RECORDER_READY = "Subscribed to topic '{topic}'"
PLAYER = "rosbag2_player"
DISCOVERY_S = 60.0  # within which the node finds the player
LAST_IMAGE_S = 3.0  # for processing the last image
RESULTS = "results.json"  # of a report
FIXED_ARGUMENTS = {  # of fer.launch.py, by this launch file
    "cameras": "",
    "input_source": "camera",
    "autostart": "true",
    "use_sim_time": "true",
    "image_timeout_s": "0",  # no image arrives before the player resumes and after it ends
}


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
            raise RuntimeError(
                f"{name}: expected {value!r} with evaluate.launch.py, "
                f"found {context.launch_configurations[name]!r}; remove the argument"
            )
    names = ("bag", "labels", "label_topic", "image", "namespace", "out")
    args = {name: LaunchConfiguration(name).perform(context) for name in names}
    bag = Path(args["bag"]).expanduser()
    playback = checked_playback(bag, args)
    out = Path(args["out"]).expanduser()
    recorded = prepare_output(out)
    namespace = [part for part in args["namespace"].split("/") if part]
    results_topic = "/".join(["", *namespace, "emotion_node", "emotions"])
    results_topics = [results_topic, f"{results_topic}/labels"]  # the names of a label_map

    node = IncludeLaunchDescription(
        PathJoinSubstitution([FindPackageShare("fer_ros"), "launch", "fer.launch.py"]),
        launch_arguments={
            **FIXED_ARGUMENTS,
            "image": playback["image_topic"],
            "compressed": playback["image_topic"],
            "image_transport": playback["transport"],
        }.items(),
    )
    fer = ExecutableInPackage("fer", "fer_ros")
    steps = Steps(
        record=process("ros2", "bag", "record", "-o", recorded, *results_topics),
        play=process(
            *("ros2", "bag", "play", str(bag), "--clock", "--start-paused"),
            *("--disable-keyboard-controls", "--topics", *playback["topics"]),
        ),
        resume=process(
            *("ros2", "service", "call", f"/{PLAYER}/resume", "rosbag2_interfaces/srv/Resume")
        ),
        score=process(
            *(fer, "evaluate-bag", recorded, "--predictions-topic", results_topic),
            *("--source-bag", str(bag), "--image-topic", playback["image_topic"]),
            *(*playback["label_arguments"], "--out", str(out)),
        ),
    )
    return [node, *Sequence(steps, playback["image_topic"], results_topics).handlers()]


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


def checked_playback(bag: Path, args: dict[str, str]) -> dict[str, Any]:
    """Fields of ``fer_ros.evaluation.playback.Playback``.

    Raises RuntimeError when the recording cannot be evaluated.
    """
    given = args["image"], args["labels"], args["label_topic"]
    # The Python of an active virtual environment: that of ros2 lacks the packages for recordings.
    command = ["python3", "-m", "fer_ros.evaluation.playback", str(bag), *given]
    done = subprocess.run(command, capture_output=True, text=True)
    if "ModuleNotFoundError" in done.stderr:
        raise RuntimeError(
            f"{done.stderr.splitlines()[-1]}: activate the virtual environment, and install "
            "requirements/evaluate.txt into it"
        )
    if done.returncode:
        raise RuntimeError(done.stderr.strip())
    return cast(dict[str, Any], json.loads(done.stdout))


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
