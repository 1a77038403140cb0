"""What the documentation shows works: links, commands, options, arguments, examples."""

import ast
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from tree import ROOT, project_files

from fer_ros.cli import main as fer
from fer_ros.config import from_dict
from fer_ros.io.yaml_file import parse_yaml

FILES = project_files()
PAGES = {
    str(name): (ROOT / name).read_text()
    for name in FILES
    if name.suffix == ".md" and (name.parent == Path() or name.parts[0] == "docs")
}
MAKEFILE = (ROOT / "Makefile").read_text()
SETUP = (ROOT / "setup.py").read_text()

FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)#\s]+)")
MAX_README_LINES = 150


def shown(*words: str) -> Iterator[list[str]]:
    """Yield the arguments of every shown command that begins with these words."""
    for text in PAGES.values():
        blocks = [body for language, body in FENCE.findall(text) if not language]
        spans = re.findall(r"`([^`\n]+)`", FENCE.sub("", text))
        for line in [line for body in blocks for line in body.splitlines()] + spans:
            command = line.removeprefix(".venv/bin/").split(" # ")[0]
            if command.startswith(" ".join(words)):
                yield shlex.split(command, comments=True)[len(words) :]


def test_the_readme_is_short():
    assert PAGES["README.md"].count("\n") <= MAX_README_LINES


@pytest.mark.parametrize("page", PAGES)
def test_links_have_targets(page):
    links = [link for link in LINK.findall(PAGES[page]) if "://" not in link]
    folder = (ROOT / page).parent
    assert [link for link in links if not (folder / link).is_file()] == []


def test_make_has_the_targets_and_variables():
    words = [word for rest in shown("make") for word in rest]
    assert {"demo", "test", "lint", "docs", "test-jazzy"} <= set(words)
    targets = set(re.search(r"^\.PHONY: (.*)$", MAKEFILE, re.MULTILINE)[1].split())
    variables = set(re.findall(r"^(\w+) \?=", MAKEFILE, re.MULTILINE))
    assert [word for word in words if word.split("=")[0] not in targets | variables] == []


def test_ros_finds_the_executables_and_launch_files():
    executables = re.findall(r'f"(\w+) = ', SETUP)
    run = [name for name, *_ in shown("ros2", "run", "fer_ros") if name]
    launched = [name for name, *_ in shown("ros2", "launch", "fer_ros")]
    assert run
    assert launched
    assert [name for name in run if name not in executables] == []
    assert [name for name in launched if Path("launch", name) not in FILES] == []


def test_launch_files_have_the_arguments():
    strings = {
        node.value
        for name in FILES
        if name.parts[0] == "launch"
        for node in ast.walk(ast.parse((ROOT / name).read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    given = {name for text in PAGES.values() for name in re.findall(r"\b(\w+):=", text)}
    assert {"image", "params_file"} <= given
    assert given - strings == set()


def test_the_command_line_has_the_options(capsys):
    commands = [rest for rest in shown("fer") if rest and not rest[0].startswith("-")]
    assert commands
    for command, *rest in commands:
        words = [command, *rest[:1]] if command == "models" and rest else [command]
        with pytest.raises(SystemExit) as ended:
            fer([*words, "--help"])
        usage = capsys.readouterr().out
        assert ended.value.code == 0, words
        options = [word for word in rest if word.startswith("--")]
        assert [option for option in options if option not in usage] == [], command


def test_training_commands_exist():
    text = "\n".join(PAGES.values())
    modules = set(re.findall(r"python -m ((?:training|fer_ros)[\w.]*\w)", text))
    assert "training.train" in modules
    paths = {module: Path(*module.split(".")).with_suffix(".py") for module in modules}
    assert {module: path for module, path in paths.items() if path not in FILES} == {}


def test_shown_experiments_are_valid():
    from training.config import TrainConfig  # imports torch

    page = PAGES["docs/training.md"]
    examples = [body for language, body in FENCE.findall(page) if language == "yaml"]
    assert examples
    for example in examples:
        from_dict(TrainConfig, parse_yaml(example.encode()), "docs/training.md")


def test_shown_selections_select_a_test():
    tests = [name for name in FILES if name.parts[0] == "test" and name.suffix == ".py"]
    names = " ".join([*map(str, tests), *((ROOT / name).read_text() for name in tests)])
    words = re.findall(r'ARGS="-k (?:\'(.*?)\'|(\w+))"', "\n".join(PAGES.values()))
    chosen = {word for pair in words for word in "".join(pair).split(" or ")}
    assert "track" in chosen
    assert [word for word in chosen if word not in names] == []


def test_requirements_are_all_described():
    lists = {name.name for name in FILES if name.parts[0] == "requirements"}
    assert set(re.findall(r"`([\w.-]+\.txt)`", PAGES["CONTRIBUTING.md"])) == lists


def test_python_example_recognizes_a_face(astronaut, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    height, width = astronaut.shape[:2]
    video = cv2.VideoWriter("video.mp4", cv2.VideoWriter.fourcc(*"mp4v"), 15, (width, height))
    for _ in range(5):
        video.write(np.ascontiguousarray(astronaut[..., ::-1]))
    video.release()
    examples = [body for name, body in FENCE.findall(PAGES["README.md"]) if name == "python"]
    (example,) = (body for body in examples if "EmotionPipeline" in body)
    assert example in PAGES["docs/python_api.md"]
    exec(example, {})
    assert "happiness" in capsys.readouterr().out


def test_python_example_of_still_images_recognizes_each_face(
    astronaut, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    examples = [body for name, body in FENCE.findall(PAGES["docs/python_api.md"]) if name]
    (example,) = (body for body in examples if "for_still_images" in body)
    for name in ("ann.png", "bob.png"):
        cv2.imwrite(name, astronaut[..., ::-1])
    exec(example, {})
    lines = [line.split()[:2] for line in capsys.readouterr().out.splitlines()]
    assert lines == [["ann.png", "happiness"], ["bob.png", "happiness"]]
