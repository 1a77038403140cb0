"""The launch files: what they start, under which names, with which parameters."""

import ast
import os
import runpy
from pathlib import Path

import pytest
import yaml
from tree import ROOT

FILES = sorted((ROOT / "launch").glob("*.launch.py"))
REASON = "launch_ros is not installed: PyPI has no ROS 2 launch, a robot has it from apt"
# Stands in for a node: notes its arguments, and what its parameter files say.
NODE = """#!/bin/sh
for argument; do
  printf '%s\\n' "$argument" >> "$0.arguments"
  if [ -f "$argument" ]; then
    printf -- '---\\n' >> "$0.yaml"
    cat "$argument" >> "$0.yaml"
  fi
done
"""

# Note in which order they begin; the node and the recorder run until they are told to end.
NODE_THAT_SAYS = (
    "#!/bin/sh\necho node >> {order}\necho 'emotion_node: {words}' >&2\nexec sleep 60\n"
)
ROS2 = """#!/bin/sh
echo "ros2 $*" >> {order}
[ "$2" = record ] || exit 0
echo "[rosbag2_recorder]: Subscribed to topic '$5'" >&2
exec sleep 60
"""
FER = """#!/bin/sh
echo "fer $*" >> {order}
"""


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_they_are_python_with_the_function_that_launch_calls(path):
    assert "generate_launch_description" in compile(path.read_text(), path, "exec").co_names


class Started:
    """Arguments of a node's process, and its parameters, the later files over the former."""

    def __init__(self, script: Path) -> None:
        self.arguments = Path(f"{script}.arguments").read_text().splitlines()
        self.parameters: dict[str, object] = {}
        for file in yaml.safe_load_all(Path(f"{script}.yaml").read_text()):
            for values in file.values():
                self.parameters |= values["ros__parameters"]

    def after(self, word: str) -> list[str]:
        """What follows this argument wherever it is."""
        pairs = zip(self.arguments, self.arguments[1:], strict=False)
        return [second for first, second in pairs if first == word]


@pytest.fixture
def launch(monkeypatch, tmp_path):
    """Starts a launch file of the package, as if it were installed, with made-up nodes."""
    pytest.importorskip("launch_ros", reason=REASON)
    from launch.actions import IncludeLaunchDescription

    from launch import LaunchDescription, LaunchService

    index = tmp_path / "share/ament_index/resource_index/packages"
    index.mkdir(parents=True)
    (index / "fer_ros").touch()
    (tmp_path / "share/fer_ros").symlink_to(ROOT)
    scripts = tmp_path / "lib/fer_ros"
    scripts.mkdir(parents=True)
    for name in ("emotion_node", "camera"):
        (scripts / name).write_text(NODE)
        (scripts / name).chmod(0o755)
    monkeypatch.setenv("AMENT_PREFIX_PATH", str(tmp_path))

    def run(name: str, **arguments: str) -> dict[str, Started]:
        path = str(ROOT / "launch" / name)
        service = LaunchService(noninteractive=True)
        included = IncludeLaunchDescription(path, launch_arguments=arguments.items())
        service.include_launch_description(LaunchDescription([included]))
        assert service.run() == 0
        return {each.stem: Started(each.with_suffix("")) for each in scripts.glob("*.arguments")}

    return run


def test_one_camera_as_it_is(launch):
    (node,) = launch("fer.launch.py").values()
    remapped = ["__node:=emotion_node", "image:=image", "image/compressed:=image/compressed"]
    remapped += ["camera_info:=camera_info"]
    assert [each for each in node.after("-r") if each != "__ns:=/"] == remapped
    assert node.after("--log-level") == ["emotion_node:=info"]
    shipped = yaml.safe_load((ROOT / "config/fer.yaml").read_text())["/**"]["ros__parameters"]
    assert node.parameters == shipped


def test_one_camera_as_asked_for(launch, tmp_path):
    (tmp_path / "mine.yaml").write_text(
        "emotion_node: {ros__parameters: {autostart: true, image_qos: default}}\n"
    )
    (node,) = launch(
        "fer.launch.py",
        image="/camera/image_raw",
        camera_info="/camera/camera_info",
        model="/models/mine",
        device="cpu",
        source="ros4hri",
        namespace="robot",
        params_file=str(tmp_path / "mine.yaml"),
        log_level="debug",
        image_transport="compressed",
        privacy="false",
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
    assert node.after("--log-level") == ["emotion_node:=debug"]
    assert node.parameters == {
        "autostart": False,
        "classifier.device": "cpu",
        "classifier.model": "/models/mine",
        "image_qos": "default",
        "image_transport": "compressed",
        "privacy": False,
        "source": "ros4hri",
        "use_sim_time": True,
    }


def test_compressed_images_of_another_name(launch):
    (node,) = launch("fer.launch.py", image="/raw", compressed="/squeezed").values()
    assert {"image:=/raw", "image/compressed:=/squeezed"} <= set(node.after("-r"))


def test_several_cameras(launch):
    (node,) = launch("fer.launch.py", cameras="front, rear", image="image_raw").values()
    assert node.parameters["cameras"] == ["front", "rear"]
    remapped = {each for each in node.after("-r") if not each.startswith("__")}
    assert remapped == {
        "front/image:=front/image_raw",
        "front/image/compressed:=front/image_raw/compressed",
        "front/camera_info:=front/camera_info",
        "rear/image:=rear/image_raw",
        "rear/image/compressed:=rear/image_raw/compressed",
        "rear/camera_info:=rear/camera_info",
    }


@pytest.mark.parametrize(
    ("given", "source", "loop"),
    [
        ({}, "sample", True),
        ({"source": "0"}, 0, True),  # the camera takes a number as well
        ({"source": "my film.mp4", "loop": "false"}, "my film.mp4", False),
    ],
)
def test_the_demonstration(launch, given, source, loop):
    started = launch("demo.launch.py", **given)
    assert set(started) == {"camera", "emotion_node"}
    assert started["camera"].parameters == {
        "source": source,
        "loop": loop,
        "image_transport": "compressed",
    }
    node = started["emotion_node"].parameters
    assert (node["image_transport"], node["privacy"]) == ("compressed", False)
    assert node["source"] == "camera"


@pytest.fixture
def steps(launch, monkeypatch, tmp_path):
    """Launches the evaluation with commands that only note when they began; their lines."""
    order = tmp_path / "order"
    bin_folder = tmp_path / "bin"
    bin_folder.mkdir()
    monkeypatch.setenv("PATH", f"{bin_folder}{os.pathsep}{os.environ['PATH']}")

    def run(words: str, **arguments: str) -> list[str]:
        nodes = tmp_path / "lib/fer_ros"
        scripts = {
            nodes / "emotion_node": NODE_THAT_SAYS.replace("{words}", words),
            nodes / "fer": FER,
            bin_folder / "ros2": ROS2,
        }
        for path, text in scripts.items():
            path.write_text(text.replace("{order}", str(order)))
            path.chmod(0o755)
        launch("evaluate.launch.py", out=str(tmp_path / "out"), **arguments)
        return order.read_text().replace(str(tmp_path), "").splitlines()

    return run


def recording(folder: Path, **types: str) -> Path:
    """The metadata of a recording of these topics."""
    topics = [{"topic_metadata": {"name": f"/{name}", "type": t}} for name, t in types.items()]
    folder.mkdir()
    (folder / "metadata.yaml").write_text(
        yaml.safe_dump({"rosbag2_bagfile_information": {"topics_with_message_count": topics}})
    )
    return folder


IMAGE, COMPRESSED = "sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage"


def test_a_recording_is_played_once_all_are_ready_and_scored_when_it_is_over(steps, tmp_path):
    bag = recording(tmp_path / "day", eye=IMAGE, tf="tf2_msgs/msg/TFMessage")
    assert steps("active, waiting for images on /eye", bag=str(bag), namespace="robot") == [
        "node",
        "ros2 bag record -o /out/said /robot/emotion_node/emotions",
        "ros2 bag play /day --clock",
        "fer evaluate-bag /out/said --predictions /robot/emotion_node/emotions --of /day "
        "--labels /day/labels.csv --out /out",
    ]


def test_nothing_is_played_to_a_node_that_cannot_work(steps, tmp_path):
    bag = recording(tmp_path / "day", eye=IMAGE)
    assert steps("cannot be configured: no such model", bag=str(bag)) == ["node"]


@pytest.mark.parametrize(
    ("types", "image", "found"),
    [
        ({}, "", None),
        ({"tf": "tf2_msgs/msg/TFMessage"}, "/tf", None),
        ({"eye": IMAGE}, "", ("/eye", "raw")),
        ({"eye": IMAGE}, "/ear", None),
        ({"eye": IMAGE, "eye/compressed": COMPRESSED}, "", None),
        (
            {"eye": IMAGE, "eye/compressed": COMPRESSED},
            "/eye/compressed",
            ("/eye/compressed", "compressed"),
        ),
    ],
)
def test_topic_and_transport_come_from_the_recording(launch, tmp_path, types, image, found):
    images_of = runpy.run_path(str(ROOT / "launch/evaluate.launch.py"))["images_of"]
    bag = recording(tmp_path / "day", **types)
    if found:
        assert images_of(str(bag), image) == found
        return
    with pytest.raises(RuntimeError, match="topics with images"):
        images_of(str(bag), image)


def test_what_was_recorded_is_kept(launch, tmp_path):
    bag = recording(tmp_path / "day", eye=IMAGE)
    (tmp_path / "out/said").mkdir(parents=True)
    with pytest.raises(AssertionError):  # launch says what is wrong and ends with 1
        launch("evaluate.launch.py", bag=str(bag), out=str(tmp_path / "out"))


def test_the_words_that_the_evaluation_waits_for_are_those_of_the_node():
    wanted = {
        node.value.decode()
        for node in ast.walk(ast.parse((ROOT / "launch/evaluate.launch.py").read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, bytes)
    }
    names = ("node.py", "camera_session.py", "crop_session.py")
    sources = "".join((ROOT / "fer_ros/ros" / name).read_text() for name in names)
    assert wanted - {"Subscribed to topic"} == {word for word in wanted if word in sources}
    assert len(wanted) == 3
