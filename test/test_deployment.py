"""Containers and workflows, which no check here runs: what they name is in the project."""

import ast
import os
import re
import shlex
from pathlib import Path

import pytest
import yaml
from tree import ROOT, project_files

DOCKERFILE, JETSON = (ROOT / "docker" / name for name in ("Dockerfile", "Dockerfile.jetson"))
COMPOSE = yaml.safe_load((ROOT / "docker/compose.yaml").read_text())
WORKFLOW = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())
README = (ROOT / "README.md").read_text()
FILES = project_files()


def instructions(dockerfile: Path) -> list[tuple[str, str]]:
    """Name and rest of each instruction."""
    text = re.sub(r"\\\n\s*", "", dockerfile.read_text())
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return [(line.split(maxsplit=1)[0], line.split(maxsplit=1)[1]) for line in lines]


def commands_of_image(dockerfile: Path) -> str:
    return "\n".join(rest for name, rest in instructions(dockerfile) if name == "RUN")


def commands_of_jobs(name: str) -> str:
    return "\n".join(step.get("run", "") for step in WORKFLOW["jobs"][name]["steps"])


def pip_installs(shell: str) -> list[str]:
    """Lists that are installed, in order, with options that are not about the cache."""
    installs = re.findall(r"\bpip install ([^&\n]+)", shell)
    return [
        " ".join(each.replace("--no-cache-dir", "").split()).replace("src/fer_ros/", "")
        for each in installs
    ]


ROBOT = [
    "-r requirements/torch.txt",
    "-r requirements/robot.txt",
    "--no-deps -r requirements/detector.txt",
]


def test_robots_in_the_readme_install_these():
    assert pip_installs(re.sub(r" +#.*", "", README))[:3] == ROBOT


@pytest.mark.parametrize(
    ("shell", "lists"),
    [
        (commands_of_image(DOCKERFILE), ROBOT),
        (commands_of_image(JETSON), ROBOT[1:]),  # its PyTorch is NVIDIA's
        (commands_of_jobs("robot"), ROBOT),
    ],
    ids=["docker", "jetson", "workflow"],
)
def test_pins_are_those_of_the_requirements(shell, lists):
    assert pip_installs(shell) == lists
    assert "==" not in shell


@pytest.mark.parametrize("dockerfile", [DOCKERFILE, JETSON], ids=lambda path: path.name)
def test_what_docker_copies_is_in_the_project(dockerfile):
    sources = [rest.split()[0] for name, rest in instructions(dockerfile) if name == "COPY"]
    assert sources == ["package.xml", "requirements", "."]
    ignored = Path(f"{dockerfile}.dockerignore").read_text().split()
    assert {Path(name).parts[0] for name in ignored} & {name.parts[0] for name in FILES} == set()


@pytest.mark.parametrize("dockerfile", [DOCKERFILE, JETSON], ids=lambda path: path.name)
def test_the_image_starts_as_somebody_who_is_not_root(dockerfile):
    last = dict(instructions(dockerfile))
    assert not last["USER"].startswith(("0", "root"))
    assert "fer.launch.py" in last["CMD"]


def test_compose_builds_this_and_gives_arguments_that_there_are():
    (service,) = COMPOSE["services"].values()
    build = service["build"]
    folder = (ROOT / "docker" / build["context"]).resolve()
    assert folder == ROOT
    assert folder / build["dockerfile"] == DOCKERFILE
    assert set(build["args"]) == {
        rest.split("=")[0] for name, rest in instructions(DOCKERFILE) if name == "ARG"
    }
    ros2, launch, package, file, *given = shlex.split(service["command"])
    assert (ros2, launch, package) == ("ros2", "launch", "fer_ros")
    tree = ast.parse((ROOT / "launch" / file).read_text())
    texts = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)}
    assert {each.split(":=")[0] for each in given} <= texts


def test_the_workflow_runs_the_checks_on_every_python_that_is_promised():
    python = WORKFLOW["jobs"]["python"]
    first, last = re.search(
        r"Needs Python 3\.(\d+) to 3\.(\d+)", (ROOT / "Makefile").read_text()
    ).groups()
    promised = [f"3.{minor}" for minor in range(int(first), int(last) + 1)]
    assert python["strategy"]["matrix"]["python"] == promised
    assert commands_of_jobs("python").split() == [".ci/run"]
    assert os.access(ROOT / ".ci/run", os.X_OK)


def test_the_workflow_tries_the_robot_with_tests_that_there_are():
    named = re.findall(r"\S+\.py\b", commands_of_jobs("robot"))
    assert named
    assert [name for name in named if Path(name) not in FILES] == []


def test_actions_are_pinned_and_may_only_read():
    used = [
        step["uses"] for job in WORKFLOW["jobs"].values() for step in job["steps"] if "uses" in step
    ]
    assert used
    assert [name for name in used if not re.fullmatch(r"actions/[\w-]+@[0-9a-f]{40}", name)] == []
    assert WORKFLOW["permissions"] == {"contents": "read"}
