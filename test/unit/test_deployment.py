"""Containers and workflows, which no check here runs: what they name is in the project."""

import ast
import os
import re
import shlex
import sys
from pathlib import Path
from xml.etree import ElementTree

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
        " ".join(command.replace("--no-cache-dir", "").split()).replace("src/fer_ros/", "")
        for command in installs
    ]


ROBOT = [
    "-r requirements/torch.txt",
    "-r requirements/robot.txt",
    "--no-deps -r requirements/detector.txt",
]


CONTAINER = ['-r "requirements/$RUNTIMES.txt"', *ROBOT[1:]]


def test_the_readme_installs_these_requirements():
    assert pip_installs(re.sub(r" +#.*", "", README))[:3] == ["-r requirements/cpu.txt", *ROBOT[1:]]


@pytest.mark.parametrize(
    ("shell", "lists"),
    [
        (commands_of_image(DOCKERFILE), CONTAINER),
        (commands_of_image(JETSON), CONTAINER),
        (
            commands_of_jobs("robot"),
            [*ROBOT, "-r requirements/evaluate.txt", "-r requirements/test.txt"],
        ),
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
def test_the_image_does_not_run_as_root(dockerfile):
    last = dict(instructions(dockerfile))
    assert not last["USER"].startswith(("0", "root"))
    assert "fer.launch.py" in last["CMD"]


SERVICES = COMPOSE["services"]


@pytest.mark.parametrize(
    ("name", "dockerfile", "profiles"),
    [
        ("emotions", DOCKERFILE, []),
        ("emotions-gpu", DOCKERFILE, ["gpu"]),
        ("emotions-jetson", JETSON, ["jetson"]),
    ],
)
def test_compose_builds_this_with_existing_arguments(name, dockerfile, profiles):
    assert len(SERVICES) == 3
    service = SERVICES[name]
    assert service.get("profiles", []) == profiles
    build = service["build"]
    folder = (ROOT / "docker" / build["context"]).resolve()
    assert folder == ROOT
    assert folder / build["dockerfile"] == dockerfile
    assert set(build["args"]) == {
        rest.split("=")[0] for kind, rest in instructions(dockerfile) if kind == "ARG"
    }
    runtimes = build["args"]["RUNTIMES"].split(":-")[-1].rstrip("}")
    assert Path(f"requirements/{runtimes}.txt") in FILES
    ros2, launch, package, file, *given = shlex.split(service["command"])
    assert (ros2, launch, package) == ("ros2", "launch", "fer_ros")
    tree = ast.parse((ROOT / "launch" / file).read_text())
    texts = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)}
    assert {argument.split(":=")[0] for argument in given} <= texts


@pytest.mark.parametrize(
    ("name", "runtimes"),
    [("emotions", "cpu"), ("emotions-gpu", "gpu"), ("emotions-jetson", "jetson")],
)
def test_compose_builds_each_service_with_its_runtimes(name, runtimes):
    given = SERVICES[name]["build"]["args"]["RUNTIMES"]
    assert given.split(":-")[-1].rstrip("}") == runtimes


JETSON_PAGE = (ROOT / "docs/jetson.md").read_text()


@pytest.mark.parametrize(("heading", "runtimes"), [("x86-64", "gpu"), ("JetPack 6", "jetson")])
def test_the_page_about_gpus_installs_these(heading, runtimes):
    """Without a container, too."""
    section = JETSON_PAGE.split(f"\n## {heading}")[1].split("\n## ")[0]
    commands = re.sub(r" +#.*", "", section.split("```")[1])
    assert pip_installs(commands) == [f"-r requirements/{runtimes}.txt", *ROBOT[1:]]


@pytest.mark.parametrize("name", SERVICES)
def test_a_container_can_keep_the_engines_that_it_builds(name):
    """Its file system is read-only, and it does not run as root."""
    service = SERVICES[name]
    assert service["read_only"] is True
    folder = dict(volume.split(":") for volume in service["volumes"])["cache"]
    assert "cache" in COMPOSE["volumes"]
    dockerfile = ROOT / service["build"]["dockerfile"]
    assert ("ENV", f"FER_ROS_CACHE={folder}") in instructions(dockerfile)
    assert ("VOLUME", folder) in instructions(dockerfile)
    assert 'chmod -R a+rwX "$FER_ROS_CACHE"' in commands_of_image(dockerfile)


def test_containers_may_access_the_gpu():
    assert SERVICES["emotions-gpu"]["gpus"] == "all"
    assert SERVICES["emotions-jetson"]["runtime"] == "nvidia"
    groups = SERVICES["emotions-jetson"]["group_add"]
    assert [re.match(r"\$\{(\w+):-\d+\}", group)[1] for group in groups] == [
        "VIDEO_GID",
        "RENDER_GID",
    ]


def test_the_image_for_jetpack_6_has_what_its_pytorch_loads():
    """Before the first import, which the export of the model needs."""
    shell = commands_of_image(JETSON)
    installed = shell.index('if [ "$RUNTIMES" = jetson ]; then dpkg -i /tmp/cuda-keyring')
    assert " cudss " in shell[installed : shell.index("fi\n", installed)]
    assert installed < shell.index("fer models export")


RUNTIMES = ("torch", "gpu", "jetson", "jetson7")


@pytest.mark.parametrize("name", RUNTIMES)
def test_each_runtime_list_has_one_package_of_each_kind(name):
    """Onnxruntime and onnxruntime-gpu are the same module; only torch.txt is for CPUs."""
    lines = (ROOT / f"requirements/{name}.txt").read_text().splitlines()
    packages = [re.match(r"[\w-]+", line)[0] for line in lines if re.match(r"\w", line)]
    ort = "onnxruntime" if name == "torch" else "onnxruntime-gpu"
    assert packages == ["torch", "torchvision", ort]
    assert "onnxruntime" not in (ROOT / "requirements/robot.txt").read_text()


def test_the_image_for_cpus_has_no_cuda():
    text = (ROOT / "requirements/cpu.txt").read_text()
    assert "--extra-index-url https://download.pytorch.org/whl/cpu\n-r torch.txt" in text


def test_the_workflow_runs_on_every_supported_python():
    python = WORKFLOW["jobs"]["python"]
    first, last = re.search(
        r"Needs Python 3\.(\d+) to 3\.(\d+)", (ROOT / "Makefile").read_text()
    ).groups()
    promised = [f"3.{minor}" for minor in range(int(first), int(last) + 1)]
    assert python["strategy"]["matrix"]["python"] == promised
    assert commands_of_jobs("python").split() == [".ci/run"]
    assert os.access(ROOT / ".ci/run", os.X_OK)


DISTROS = WORKFLOW["jobs"]["robot"]["strategy"]["matrix"]["distro"]
CONDITION = re.compile(r"\$ROS_DISTRO != (\w+)")


def test_the_workflow_runs_the_ros_tests_on_the_distributions_of_robots():
    assert DISTROS == ["humble", "jazzy", "kilted"]
    named = re.findall(r"\btest/[\w/.]+", commands_of_jobs("robot"))
    assert named
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_the_workflow_builds_the_messages_that_a_distribution_lacks():
    """Only there: elsewhere rosdep installs the package."""
    lacking = {
        (CONDITION.fullmatch(element.get("condition")).group(1), element.text)
        for element in ElementTree.parse(ROOT / "package.xml").getroot().iter("exec_depend")
        if element.get("condition")
    }
    builds = re.findall(
        r'if \[ "\$ROS_DISTRO" = (\w+) \]; then\n'
        r"\s*colcon build --base-paths src/fer_ros/interfaces/(\w+)\n\s*fi\n",
        commands_of_jobs("robot"),
    )
    assert {*builds} == {pair for pair in lacking if pair[0] in DISTROS} != set()
    for _, package in builds:
        assert Path(f"interfaces/{package}/package.xml") in FILES


def test_the_workflow_runs_the_oldest_packages_with_their_python():
    rows = WORKFLOW["jobs"]["lowest"]["strategy"]["matrix"]["include"]
    assert [(row["python"], row["ubuntu"]) for row in rows] == [
        ("3.10", "22.04"),
        ("3.12", "24.04"),
    ]
    assert "make test-lowest UBUNTU=${{ matrix.ubuntu }}" in commands_of_jobs("lowest")
    for row in rows:
        assert Path(f"requirements/ubuntu-{row['ubuntu']}.txt") in FILES


def test_actions_are_pinned_and_read_only():
    used = [
        step["uses"] for job in WORKFLOW["jobs"].values() for step in job["steps"] if "uses" in step
    ]
    assert used
    assert [name for name in used if not re.fullmatch(r"actions/[\w-]+@[0-9a-f]{40}", name)] == []
    assert WORKFLOW["permissions"] == {"contents": "read"}


@pytest.mark.parametrize(
    "path", sorted((ROOT / "launch").glob("*.launch.py")), ids=lambda path: path.name
)
def test_launch_files_import_nothing_that_the_python_of_ros2_lacks(path):
    """/opt/ros/.../bin/ros2 runs in the system's Python, also in a virtual environment."""
    imports = [
        node
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, (ast.Import, ast.ImportFrom))
    ]
    modules = {
        getattr(node, "module", None) or alias.name for node in imports for alias in node.names
    }
    packages = {module.partition(".")[0] for module in modules}
    assert "launch" in packages
    assert packages <= {*sys.stdlib_module_names, "launch", "launch_ros"}
