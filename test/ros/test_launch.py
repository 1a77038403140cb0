"""The launch files: processes, names, parameters and exits.

``ros2 bag`` and ``fer`` are stand-ins that refuse arguments which the real ones do not have.
"""

import signal
from pathlib import Path

import numpy as np
import pytest
import yaml
from backports import zstd
from bag_tools import jpeg_image, raw_image, write_bag
from launch_tools import LIMIT_S, NODE, RUNS, Package
from rosbags.rosbag2 import CompressionMode
from tree import ROOT

from fer_ros.evaluation.bags.messages import COMPRESSED, IMAGE, make

STRING = "std_msgs/msg/String"

FILES = sorted((ROOT / "launch").glob("*.launch.py"))
REASON = "launch_ros is not installed: PyPI has no ROS 2 launch, a robot has it from apt"
READY = "active, waiting for images on /eye"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_they_are_python_with_the_function_that_launch_calls(path):
    assert "generate_launch_description" in compile(path.read_text(), path, "exec").co_names


@pytest.fixture
def package(tmp_path):
    pytest.importorskip("launch_ros", reason=REASON)
    return Package(tmp_path)


def test_one_camera_with_default_arguments(package):
    (node,) = package.nodes("fer.launch.py").values()
    remapped = {"image:=image", "image/compressed:=image/compressed", "camera_info:=camera_info"}
    assert node.remappings == remapped
    assert node.after("--log-level") == ["emotion_node:=info"]
    shipped = yaml.safe_load((ROOT / "config/fer.yaml").read_text())["/**"]["ros__parameters"]
    assert node.parameters == shipped


def test_one_camera_with_the_given_arguments(package, tmp_path):
    (tmp_path / "mine.yaml").write_text(
        "emotion_node: {ros__parameters: {autostart: true, image_qos: default}}\n"
    )
    (node,) = package.nodes(
        "fer.launch.py",
        image="/camera/image_raw",
        camera_info="/camera/camera_info",
        model="/models/mine",
        device="cpu",
        input_source="ros4hri",
        hri_namespace="humans",
        namespace="robot",
        params_file=tmp_path / "mine.yaml",
        log_level="debug",
        image_transport="compressed",
        publish_images="true",
        autostart="false",
        use_sim_time="true",
    ).values()
    assert node.after("-r") == [
        "__node:=emotion_node",
        "__ns:=/robot",
        "image:=/camera/image_raw",
        "image/compressed:=/camera/image_raw/compressed",
        "camera_info:=/camera/camera_info",
    ]
    assert node.after("--log-level") == ["robot.emotion_node:=debug"]
    assert node.parameters == {
        "autostart": False,
        "classifier.device": "cpu",
        "classifier.model": "/models/mine",
        "hri_namespace": "humans",
        "image_qos": "default",
        "image_transport": "compressed",
        "publish_images": True,
        "input_source": "ros4hri",
        "use_sim_time": True,
    }


def test_compressed_images_of_another_name(package):
    (node,) = package.nodes("fer.launch.py", image="/raw", compressed="/squeezed").values()
    assert {"image:=/raw", "image/compressed:=/squeezed"} <= node.remappings


def test_several_cameras(package):
    (node,) = package.nodes("fer.launch.py", cameras="front, rear", image="image_raw").values()
    assert node.parameters["cameras"] == ["front", "rear"]
    assert node.remappings == {
        "front/image:=front/image_raw",
        "front/image/compressed:=front/image_raw/compressed",
        "front/camera_info:=front/camera_info",
        "rear/image:=rear/image_raw",
        "rear/image/compressed:=rear/image_raw/compressed",
        "rear/camera_info:=rear/camera_info",
    }


@pytest.mark.parametrize(
    ("file", "given", "says"),
    [
        (
            "fer.launch.py",
            {"cameras": "front,rear", "image": "/camera/image_raw"},
            "image: expected a name below that of each camera (front, rear), such as image_raw, "
            "found '/camera/image_raw'",
        ),
        ("fer.launch.py", {"params_file": "none.yaml"}, "params_file: none.yaml: no such file"),
        ("demo.launch.py", {"params_file": "none.yaml"}, "params_file: none.yaml: no such file"),
        (
            "evaluate.launch.py",
            {"bag": "day", "cameras": "front"},
            "cameras: expected '' with evaluate.launch.py, found 'front'; remove the argument",
        ),
    ],
)
def test_wrong_arguments_are_reported_in_one_line(package, file, given, says):
    assert package.error(file, **given).endswith(says)
    assert list(package.programs.glob("*.arguments")) == []


def test_the_demo_with_default_arguments(package):
    started = package.nodes("demo.launch.py")
    assert set(started) == {"media_publisher", "emotion_node"}
    assert started["media_publisher"].parameters == {
        "source": "sample",
        "loop": True,
        "image_transport": "compressed",
    }
    node = started["emotion_node"].parameters
    assert (node["image_transport"], node["publish_images"]) == ("compressed", False)
    assert node["input_source"] == "camera"


def test_the_demo_with_arguments(package):
    started = package.nodes(
        "demo.launch.py",
        source="my film.mp4",
        loop="false",
        namespace="robot",
        model="two_stream",
        device="cpu",
        publish_images="true",
    )
    publisher, node = started["media_publisher"], started["emotion_node"]
    assert (publisher.parameters["source"], publisher.parameters["loop"]) == ("my film.mp4", False)
    assert "__ns:=/robot" in publisher.after("-r")
    assert "__ns:=/robot" in node.after("-r")
    assert node.parameters["publish_images"] is True
    assert node.parameters["classifier.model"] == "two_stream"
    assert node.parameters["classifier.device"] == "cpu"


def test_the_demo_ends_when_its_publisher_fails(package):
    package.stand_in(READY)
    package.write(package.programs / "media_publisher", NODE.replace("{code}", "1"))
    says = "the media publisher failed with exit code 1"
    assert package.error("demo.launch.py", source="9").endswith(says)


TYPES = {
    IMAGE: lambda: raw_image(0.0, np.zeros((4, 4, 3), np.uint8)),
    COMPRESSED: lambda: jpeg_image(0.0, np.zeros((4, 4, 3), np.uint8)),
    STRING: lambda: make(STRING, "anger"),
}
LABELS = "start_s,end_s,emotion\n0,1,anger\n"


@pytest.fixture
def recording(tmp_path):
    """Writes a recording with one message on each of these topics."""

    def write(name: str, topics: dict[str, str]) -> Path:
        rows = [(topic, kind, 0.0, TYPES[kind]()) for topic, kind in topics.items()]
        return write_bag(tmp_path / name, rows)

    return write


def test_a_recording_is_played_when_all_are_ready_and_then_scored(package, recording):
    package.stand_in(READY)
    bag = recording("day", {"/eye/image": IMAGE, "/eye/camera_info": STRING, "/emotions": STRING})
    (bag / "labels.csv").write_text(LABELS)
    code, output = package.run("evaluate.launch.py", bag=bag, namespace="robot")
    assert code == 0, output
    results = "/robot/emotion_node/emotions"
    assert package.steps() == [
        "emotion_node",
        f"ros2 bag record -o results/recorded {results} {results}/labels",
        "ros2 bag play /day --clock --start-paused --disable-keyboard-controls --topics /eye/image "
        "/eye/camera_info",
        "ros2 service call /rosbag2_player/resume rosbag2_interfaces/srv/Resume",
        f"fer evaluate-bag results/recorded --predictions-topic {results} --source-bag /day "
        "--image-topic /eye/image --labels /day/labels.csv --out results",
    ]


def test_without_labels_there_is_a_report_as_well(package, recording, monkeypatch, tmp_path):
    package.stand_in(READY)
    recording("day", {"/eye": COMPRESSED, "/other": IMAGE})
    monkeypatch.setenv("HOME", str(tmp_path))
    code, output = package.run("evaluate.launch.py", bag="~/day", image="/eye", out="~/out")
    assert code == 0, output
    record, play, _, score = package.steps()[1:]
    results = "/emotion_node/emotions"
    assert record == f"ros2 bag record -o /out/recorded {results} {results}/labels"
    assert play.endswith("--topics /eye")
    assert "--labels" not in score
    assert score.endswith("--image-topic /eye --out /out")


def test_a_recording_may_be_one_file(package, recording):
    package.stand_in(READY)
    (file,) = recording("day", {"/eye": IMAGE}).glob("*.mcap")
    code, output = package.run("evaluate.launch.py", bag=file)
    assert code == 0, output
    assert package.steps()[2].startswith(f"ros2 bag play /day/{file.name} --clock")


@pytest.mark.parametrize(
    ("topics", "given", "says"),
    [
        (None, {}, "day: no such"),
        ({"/text": STRING}, {}, "0 image topics; choose one with image:= (available: none)"),
        (
            {"/eye": IMAGE, "/ear": COMPRESSED},
            {},
            "2 image topics; choose one with image:= (available: /ear, /eye)",
        ),
        ({"/eye": IMAGE}, {"image": "/nose"}, "no image topic /nose; choose one with image:="),
        ({"/eye": IMAGE}, {"labels": "none.csv"}, "labels: none.csv: no such file"),
        (
            {"/eye": IMAGE},
            {"labels": "many.csv"},
            "many.csv: expected labels of bag day, found night; correct the column bag",
        ),
        ({"/eye": IMAGE}, {"out": "many.csv"}, "out: many.csv: expected a folder, found a file"),
        ({"/eye": IMAGE}, {"label_topic": "/truth"}, "labels from /truth: expected a topic of"),
        ({"/eye": IMAGE}, {"label_topic": "/eye"}, "its type is sensor_msgs/msg/Image"),
    ],
)
def test_invalid_input_is_reported_before_playing(
    package, recording, topics, given, says, tmp_path
):
    package.stand_in(READY)
    (tmp_path / "many.csv").write_text("bag,start_s,end_s,emotion\nday,0,1,anger\nnight,0,1,fear\n")
    if topics is not None:
        recording("day", topics)
    assert says in package.error("evaluate.launch.py", bag="day", **given)
    assert package.steps() == []


def test_missing_packages_are_named(package, recording):
    package.stand_in(READY)
    lacking = "#!/bin/sh\necho \"ModuleNotFoundError: No module named 'rosbags'\" >&2\nexit 1\n"
    package.write(package.bin / "python3", lacking)
    error = package.error("evaluate.launch.py", bag=recording("day", {"/eye": IMAGE}))
    assert "No module named 'rosbags': activate the virtual environment, and install " in error
    assert package.steps() == []


def test_a_truncated_recording_is_not_played(package, recording):
    package.stand_in(READY)
    (file,) = recording("day", {"/eye": IMAGE}).glob("*.mcap")
    file.write_bytes(file.read_bytes()[:-40])
    assert str(file.parent.name) in package.error("evaluate.launch.py", bag="day")
    assert package.steps() == []


def test_a_recording_that_only_its_folder_plays_is_refused(package, recording):
    package.stand_in(READY)
    bag = recording("day", {"/eye": IMAGE})
    (file,) = bag.glob("*.mcap")
    metadata = (bag / "metadata.yaml").read_text()
    (bag / "metadata.yaml").unlink()
    missing = "day: no metadata.yaml, which ros2 bag play needs"
    assert f"{missing}: name {file} with bag:=" in package.error("evaluate.launch.py", bag=bag)
    second = bag / "day_1.mcap"
    second.write_bytes(file.read_bytes())
    assert f"{missing}: ros2 bag reindex {bag}" in package.error("evaluate.launch.py", bag=bag)
    split = metadata.replace(f"- {file.name}", f"- {file.name}\n  - {second.name}", 1)
    (bag / "metadata.yaml").write_text(split)
    error = package.error("evaluate.launch.py", bag=second)
    assert f"of a recording that is compressed or split: name {bag} with bag:=" in error
    packed = bag / f"{file.name}.zstd"
    packed.write_bytes(zstd.compress(file.read_bytes()))
    error = package.error("evaluate.launch.py", bag=packed)
    assert f"that is compressed or split: name {bag} with bag:=" in error
    assert package.steps() == []


def test_messages_that_are_compressed_need_the_folder(package, tmp_path):
    package.stand_in(READY)
    rows = [("/eye", IMAGE, 0.0, TYPES[IMAGE]())]
    bag = write_bag(tmp_path / "day", rows, "sqlite3", CompressionMode.MESSAGE)
    (file,) = bag.glob("*.db3*")
    assert f"name {bag} with bag:=" in package.error("evaluate.launch.py", bag=file)
    assert package.steps() == []


def test_a_report_is_not_overwritten(package, recording, tmp_path):
    package.stand_in(READY)
    bag = recording("day", {"/eye": IMAGE})
    (tmp_path / "out/recorded").mkdir(parents=True)
    (tmp_path / "out/results.json").write_text("{}")
    says = "out: has the report of an earlier evaluation; choose another out:="
    assert package.error("evaluate.launch.py", bag=bag, out="out").endswith(says)


def test_a_failed_evaluation_can_be_repeated(package, recording, tmp_path):
    package.stand_in(READY)
    bag = recording("day", {"/eye": IMAGE})
    for name in ("recorded", "recorded_2"):
        (tmp_path / "out" / name).mkdir(parents=True)
    code, output = package.run("evaluate.launch.py", bag=bag, out="out")
    assert code == 0, output
    assert package.steps()[1].startswith("ros2 bag record -o out/recorded_3 ")
    assert package.steps()[4].startswith("fer evaluate-bag out/recorded_3 ")


@pytest.mark.parametrize(
    ("message", "codes", "says", "steps"),
    [
        ("cannot be configured: no such model", (0, 0), "the emotion node cannot start", 1),
        (READY, (3, 0), "ros2 bag play ended with exit code 3", 4),
        (READY, (0, 1), "fer evaluate-bag ended with exit code 1", 5),
    ],
)
def test_a_step_that_fails_ends_all_with_an_error(package, recording, message, codes, says, steps):
    package.stand_in(message, *codes)
    bag = recording("day", {"/eye": IMAGE})
    assert says in package.error("evaluate.launch.py", bag=bag)
    assert len(package.steps()) == steps


def test_another_image_publisher_ends_the_evaluation(package, recording):
    package.stand_in(READY, publisher="usb_cam")
    says = "/eye: expected images of the recording only, found another publisher, usb_cam"
    assert says in package.error("evaluate.launch.py", bag=recording("day", {"/eye": IMAGE}))
    assert len(package.steps()) == 3


def test_a_player_that_ends_before_it_starts_ends_the_evaluation(package, recording):
    package.stand_in(READY, publisher="none")
    bag = recording("day", {"/eye": IMAGE})
    error = package.error("evaluate.launch.py", bag=bag)
    assert error.endswith("ros2 bag play ended before it had started; see its output above")
    assert len(package.steps()) == 3


def test_a_label_topic_is_passed_to_the_scorer(package, recording):
    package.stand_in(READY)
    bag = recording("day", {"/eye": IMAGE, "/truth": STRING})
    code, output = package.run("evaluate.launch.py", bag=bag, label_topic="/truth")
    assert code == 0, output
    _, play, _, score = package.steps()[1:]
    assert play.endswith("--topics /eye")
    assert "--label-topic /truth" in score


@pytest.mark.parametrize("file", ["fer.launch.py", "demo.launch.py", "evaluate.launch.py"])
def test_ctrl_c_ends_without_an_error(package, recording, file):
    package.stand_in("still loading")
    publisher = RUNS.format(name="media_publisher", message="publishing", order=package.order)
    package.write(package.programs / "media_publisher", publisher)
    given = {"bag": recording("day", {"/eye": IMAGE})} if file.startswith("evaluate") else {}
    process = package.start(file, **given)
    assert process.stdout
    output = ""
    for line in process.stdout:
        output += line
        if "still loading" in line:
            break
    process.send_signal(signal.SIGINT)
    output += process.communicate(timeout=LIMIT_S)[0]
    assert process.returncode == 0, output
    assert "Traceback" not in output
    assert "Caught exception" not in output


def test_the_messages_that_the_evaluation_waits_for_are_those_of_the_node():
    sources = "".join(path.read_text() for path in (ROOT / "fer_ros/ros").rglob("*.py"))
    launch_file = (ROOT / "launch/evaluate.launch.py").read_text()
    for message in ("active, waiting for images", "cannot be configured", "cannot be activated"):
        assert f'"{message}"' in launch_file
        assert message in sources
    assert '"publisher of {topic}: "' in launch_file
    assert 'f"publisher of {camera.input.topic}: {name}"' in sources
