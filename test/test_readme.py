"""What README.md and CONTRIBUTING.md name is in the tree, and the code that they show works."""

import ast
import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from ros_tools import fake_pipeline, graph
from tree import ROOT, project_files

from fer_ros.cli import main as fer
from fer_ros.config import ClassifierConfig
from fer_ros.ros.node import EmotionNode
from fer_ros.weights import model_folders

FILES = project_files()
FOLDERS = {folder for name in FILES for folder in name.parents}
PAGES = {name: (ROOT / name).read_text() for name in ("README.md", "CONTRIBUTING.md")}
TEXT = "\n".join(PAGES.values())
MAKEFILE = (ROOT / "Makefile").read_text()
SETUP = (ROOT / "setup.py").read_text()

FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)#\s]+)")
ENDINGS = "py|md|rst|yaml|xml|txt|jsonl|png|jpg|mp4|toml|cfg"
PATH = re.compile(rf"(?<![\w./~$-])(?:[\w.-]+/)*(?:[\w.-]+\.(?:{ENDINGS})\b|[\w.-]+/(?![\w.]))")
# The reader's own files, and what commands make.
THEIRS = {"folder/", "video.mp4", "portrait.jpg", "faces.jsonl", "drawn/", "packs/"}
MADE = re.compile(r"(\.venv|install|out)/")
WORKSPACE = "src/fer_ros/"  # where a robot has the project


def code() -> list[str]:
    """Code spans, and the lines of fenced blocks that hold commands."""
    blocks = [body for language, body in FENCE.findall(TEXT) if not language]
    spans = re.findall(r"`([^`\n]+)`", FENCE.sub("", TEXT))
    return [line for body in blocks for line in body.splitlines()] + spans


def calls(*words: str) -> Iterator[list[str]]:
    """What follows these words, wherever a page shows a command that begins with them."""
    for line in code():
        given = shlex.split(line, comments=True)
        if tuple(given[: len(words)]) == words:
            yield given[len(words) :]


def first_column(heading: str) -> list[str]:
    """The names in the first column of the table below a heading of the README."""
    section = PAGES["README.md"].split(f"# {heading}\n")[1].split("\n#")[0]
    cells = [line.split("|")[1] for line in section.splitlines() if line.startswith("|")]
    return [name for cell in cells[2:] for name in re.findall(r"`([^`]+)`", cell)]


def is_ours(name: str) -> bool:
    """Pages may leave the folder of a file away."""
    wanted = Path(name.removeprefix(WORKSPACE))
    known = FOLDERS if name.endswith("/") else FILES
    return any(path.parts[-len(wanted.parts) :] == wanted.parts for path in known)


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page):
    targets = [link for link in LINK.findall(PAGES[page]) if "://" not in link]
    assert targets or page != "README.md"
    assert [link for link in targets if Path(link) not in FILES] == []


def test_named_files_exist():
    named = {name for line in code() for name in PATH.findall(line)} - THEIRS
    ours = {name for name in named if not MADE.match(name)}
    assert {"config/fer.yaml", "track.py", "training/"} <= ours
    assert sorted(name for name in ours if not is_ours(name)) == []


def test_made_files_are_those_of_the_demo():
    demo = (ROOT / "fer_ros/ros/demo.py").read_text()
    made = {name for line in code() for name in PATH.findall(line) if name.startswith("out/demo/")}
    assert made
    assert [name for name in made if f'"{Path(name).name}"' not in demo] == []


def test_make_has_the_targets_and_variables():
    words = [word for rest in calls("make") for word in rest]
    assert {"demo", "test", "lint"} <= set(words)
    targets = set(re.search(r"^\.PHONY: (.*)$", MAKEFILE, re.MULTILINE)[1].split())
    variables = set(re.findall(r"^(\w+) \?=", MAKEFILE, re.MULTILINE))
    unknown = [word for word in words if word.split("=")[0] not in targets | variables]
    assert unknown == []


def test_ros_finds_the_executables_and_launch_files():
    executables = re.findall(r'f"(\w+) = ', SETUP)
    ran = [name for name, *_ in calls("ros2", "run", "fer_ros")]
    assert ran
    assert [name for name in ran if name not in executables] == []
    launched = [name for name, *_ in calls("ros2", "launch", "fer_ros")]
    assert launched
    assert [name for name in launched if Path("launch", name) not in FILES] == []


def test_launch_files_have_the_arguments():
    strings = {
        node.value
        for name in FILES
        if name.parts[0] == "launch"
        for node in ast.walk(ast.parse((ROOT / name).read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    given = {name for line in code() for name in re.findall(r"\b(\w+):=", line)}
    assert {"image", "params_file"} <= given
    assert given - strings == set()


def test_command_line_knows_the_options(capsys):
    shown = [*calls(".venv/bin/fer"), *calls("fer")]
    assert shown
    for command, *rest in shown:
        with pytest.raises(SystemExit) as ended:
            fer([command, "--help"])
        assert ended.value.code == 0
        options = [word for word in rest if word.startswith("--")]
        usage = capsys.readouterr().out
        assert [option for option in options if option not in usage] == []


def test_requirements_are_all_described():
    lists = {name.name for name in FILES if name.parts[0] == "requirements"}
    assert set(re.findall(r"`(\w+\.txt)`", PAGES["CONTRIBUTING.md"])) == lists


@pytest.fixture(scope="module")
def interface() -> dict[str, set[str]]:
    """Names of topics with their types, and of parameters, of the node for both transports."""
    topics, parameters = set(), set()
    for transport in ("raw", "compressed"):
        with graph() as nodes:
            node = nodes.node(EmotionNode, fake_pipeline, image_transport=transport)
            node.start()
            offered = node.get_publisher_names_and_types_by_node("emotion_node", "/")
            taken = node.get_subscriber_names_and_types_by_node("emotion_node", "/")
            topics |= {(name, *types) for name, types in [*offered, *taken]}
            parameters |= set(node.list_parameters([], 0).names)
    return {"topics": topics, "parameters": parameters}


def test_topics_are_those_of_the_node(interface):
    rows = re.findall(r"^\| `([^`]+)`[^|]*\| `(\w+)/(\w+)`", PAGES["README.md"], re.MULTILINE)
    shown = {
        (topic.replace("~", "/emotion_node") if topic[0] in "~/" else f"/{topic}", package, kind)
        for topic, package, kind in rows
    }
    of_every_node = {"rcl_interfaces", "rosgraph_msgs", "lifecycle_msgs"}
    real = {(name, *kind.split("/msg/")) for name, kind in interface["topics"]}
    assert shown == {row for row in real if row[1] not in of_every_node}


def test_parameters_are_those_of_the_node(interface):
    named = first_column("Parameters")
    described = [name for _, name in calls("ros2", "param", "describe")]
    assert named
    assert described
    assert {*named, *described} - interface["parameters"] == set()


def test_python_example_reads_a_face(astronaut, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    height, width = astronaut.shape[:2]
    video = cv2.VideoWriter("video.mp4", cv2.VideoWriter.fourcc(*"mp4v"), 15, (width, height))
    for _ in range(5):
        video.write(np.ascontiguousarray(astronaut[..., ::-1]))
    video.release()
    (example,) = [body for language, body in FENCE.findall(TEXT) if language == "python"]
    exec(example, {})
    assert "f00001 happiness" in capsys.readouterr().out


def test_figures_of_the_models_are_those_that_were_measured():
    rows = []
    for folder in model_folders():
        results = json.loads((folder / "metrics.json").read_text())
        faces, points = results["ferplus-3573"], results["landmarks-lfwx"]
        shares = (faces["accuracy"], faces["mean_recall"], points["median_nme"])
        rows.append(f"| `{folder.name}` | " + " | ".join(f"{share:.1%}" for share in shares) + " |")
    assert rows
    assert [row for row in rows if row not in PAGES["README.md"].splitlines()] == []


def test_the_share_of_labels_that_people_would_repeat_is_that_of_the_card():
    (folder,) = (each for each in model_folders() if each.name == ClassifierConfig.model)
    share = json.loads((folder / "metrics.json").read_text())["panel"]["repeated"]
    assert f"would repeat about {share:.1%} of the labels" in PAGES["README.md"]
