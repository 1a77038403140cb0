"""The launch files: what they start, under which names, with which parameters."""

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
    assert [each for each in node.after("-r") if each != "__ns:=/"] == remapped
    assert node.after("--log-level") == ["emotion_node:=info"]
    shipped = yaml.safe_load((ROOT / "config/fer.yaml").read_text())["/**"]["ros__parameters"]
    assert node.parameters == shipped


def test_one_camera_as_asked_for(launch, tmp_path):
    (tmp_path / "mine.yaml").write_text(
        "emotion_node: {ros__parameters: {autostart: true, image_qos: reliable}}\n"
    )
    (node,) = launch(
        "fer.launch.py",
        image="/camera/image_raw",
        namespace="robot",
        params_file=str(tmp_path / "mine.yaml"),
        log_level="debug",
        image_transport="compressed",
        autostart="false",
        use_sim_time="true",
    ).values()
    assert node.after("-r") == [
        "__node:=emotion_node",
        "__ns:=/robot",
        "image:=/camera/image_raw",
        "image/compressed:=/camera/image_raw/compressed",
    ]
    assert node.after("--log-level") == ["emotion_node:=debug"]
    assert node.parameters == {
        "autostart": False,
        "image_qos": "reliable",
        "image_transport": "compressed",
        "use_sim_time": True,
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
    assert started["emotion_node"].parameters["image_transport"] == "compressed"
