"""The package as rosdep, pip and colcon see it."""

import ast
import configparser
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import zipfile
from email import message_from_bytes
from email.message import Message
from importlib import import_module
from pathlib import Path
from xml.etree import ElementTree

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from tree import ROOT, imported, project_files

from fer_ros.ros.tools.isolated_domain import find_free_domain_id, localhost_transport_env

FILES = project_files()
BIN = Path(sys.executable).parent
PACKAGE = ElementTree.parse(ROOT / "package.xml").getroot()
START_S = 60.0  # for importing PyTorch on a busy machine
EXECUTABLES = ("emotion_node", "media_publisher", "fer")
# Where an import comes from, when the names differ.
PACKAGE_OF = {
    "backports": "backports.zstd",
    "cv2": "python3-opencv",
    "google": "onnx",  # protobuf, which ONNX brings
    "jinja2": "Jinja2",
    "PIL": "python3-pil",
    "scipy": "python3-scipy",
    "numpy": "python3-numpy",
    "psutil": "python3-psutil",
    "skimage": "python3-skimage",
    "tqdm": "python3-tqdm",
    "yaml": "python3-yaml",
}
# Imported where they are installed: HEIC images.
OPTIONAL = {"pillow_heif"}
PACKAGE_OF_COMMAND = {("ros2", "bag"): "rosbag2"}


# Extra of pyproject.toml ("": what the library always needs), and the lists that pin it here.
LISTS_OF_EXTRA = {
    "": ("run",),
    "onnx": ("run",),
    "torch": ("torch", "run"),
    "evaluation": ("evaluate",),
    "training": ("train",),
    "test": ("test",),
    "dev": ("dev",),
    "docs": ("docs", "evaluate"),
}
PIN = re.compile(r"([\w.-]+)==([\w.]+)")


def pins(name: str) -> dict[str, str]:
    """Return package and version of each line of ``requirements/<name>.txt``."""
    lines = (ROOT / "requirements" / f"{name}.txt").read_text().splitlines()
    return dict(match.groups() for line in lines if (match := PIN.match(line)))


def below(*folders: str) -> set[Path]:
    return {name for name in FILES if name.parts[0] in folders}


def needed_packages() -> set[str]:
    """What the installed code imports and runs, as rosdep keys or PyPI names."""
    sources = [name for name in below("fer_ros", "launch") if name.suffix == ".py"]
    trees = {path: ast.parse((ROOT / path).read_text()) for path in sources}
    modules = {
        module.split(".")[0] for path, tree in trees.items() for module in imported(tree, path)
    }
    ours = {
        PACKAGE_OF.get(name, name)
        for name in modules - sys.stdlib_module_names - {"fer_ros"} - OPTIONAL
    }
    ran = {
        tuple(word.value for word in call.args[:2] if isinstance(word, ast.Constant))
        for tree in trees.values()
        for call in ast.walk(tree)
        if isinstance(call, ast.Call)
    }
    return ours | {package for command, package in PACKAGE_OF_COMMAND.items() if command in ran}


def test_rosdep_keys_match_the_imports():
    keys = {element.text for element in PACKAGE.iter("exec_depend")}
    needed = needed_packages()
    assert {"rclpy", "python3-numpy"} <= needed
    assert keys - needed == set(), "package.xml names unused packages"
    from_pip = {*pins("torch"), *pins("robot"), *pins("detector"), *pins("evaluate")}
    assert needed - keys - from_pip == set(), "neither package.xml nor a robot's pip lists name it"


def test_robots_get_the_versions_that_are_tested_here():
    tested, robot = pins("run"), pins("robot")
    assert robot.pop("numpy").startswith("1.26.")  # what apt's cv_bridge is built against
    assert robot.items() <= tested.items()


@pytest.mark.parametrize("extra", LISTS_OF_EXTRA)
def test_extras_admit_the_versions_that_are_tested_here(distribution, extra):
    """An extra without a pin would be installed untested, a pin outside its range not at all."""
    pinned = {
        canonicalize_name(package): version
        for name in LISTS_OF_EXTRA[extra]
        for package, version in pins(name).items()
    }
    expected = [Requirement(line) for line in distribution.get_all("Requires-Dist")]
    expected = [
        item
        for item in expected
        if (f'extra == "{extra}"' if extra else "None") in str(item.marker)
    ]
    assert expected
    for item in expected:
        assert item.specifier.contains(pinned[canonicalize_name(item.name)]), item


def test_metadata_of_the_distribution(distribution):
    assert distribution["Name"] == "fer_ros"
    assert distribution["Version"] == PACKAGE.findtext("version")
    assert set(distribution.get_all("Provides-Extra")) == {*LISTS_OF_EXTRA} - {""}
    assert PACKAGE.find("maintainer").get("email") in distribution["Author-email"]
    urls = {line.split(", ")[1] for line in distribution.get_all("Project-URL")}
    assert {element.text for element in PACKAGE.iter("url")} <= urls


@pytest.fixture(scope="module")
def wheel(workspace) -> zipfile.ZipFile:
    """The wheel that pip builds of a copy of the project."""
    folder = workspace / "wheel"
    command = [sys.executable, "-m", "pip", "wheel", "-qq", "--no-deps", "--no-build-isolation"]
    command += ["--wheel-dir", str(folder), str(workspace / "src" / "fer_ros")]
    subprocess.run(command, check=True)
    (path,) = folder.glob("fer_ros-*.whl")
    return zipfile.ZipFile(path)


@pytest.fixture(scope="module")
def distribution(wheel) -> Message:
    (name,) = (name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
    return message_from_bytes(wheel.read(name))


def test_the_wheel_has_the_code_its_types_and_the_models(wheel):
    names = {Path(name) for name in wheel.namelist()}
    assert below("fer_ros") <= names
    assert Path("fer_ros/py.typed") in names
    assert {name.parts[0] for name in names if "data" not in name.parts[0]} == {
        "fer_ros",
        next(name.parts[0] for name in names if name.parts[0].endswith(".dist-info")),
    }
    shared = {str(name).split(".data/data/share/fer_ros/")[-1] for name in names}
    assert {str(name) for name in below("models", "launch", "config")} <= shared


def test_console_scripts_name_functions(wheel):
    (name,) = (name for name in wheel.namelist() if name.endswith("entry_points.txt"))
    scripts = configparser.ConfigParser()
    scripts.read_string(wheel.read(name).decode())
    assert set(scripts["console_scripts"]) == set(EXECUTABLES)
    for value in scripts["console_scripts"].values():
        module, function = value.split(":")
        assert callable(getattr(import_module(module), function))


@pytest.fixture(scope="module")
def workspace(tmp_path_factory) -> Path:
    """A colcon workspace with a copy of the project, which is no git checkout."""
    workspace = tmp_path_factory.mktemp("workspace")
    for name in FILES:
        copy = workspace / "src" / "fer_ros" / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, copy)
    return workspace


@pytest.fixture(scope="module")
def install(workspace) -> Path:
    """The tree of ``colcon build``."""
    colcon(workspace, "build")
    return workspace / "install"


def colcon(workspace: Path, *arguments: str) -> None:
    """Run colcon with the Python of the tests. Skips where it is not installed."""
    pytest.importorskip("colcon_core", reason="colcon of requirements/dev.txt is missing")
    command = [sys.executable, "-m", "colcon", *arguments]
    result = subprocess.run(command, cwd=workspace, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr


def test_colcon_test_runs_the_tests(workspace, install):
    """Also those that list the project's files, in a tree that is no git checkout."""
    chosen = ["test/unit/test_architecture.py", "-k", "own_machine or developers_machine"]
    colcon(workspace, "test", "--pytest-args", *chosen)
    (results,) = (workspace / "build" / "fer_ros").glob("*.xml")
    (suite,) = ElementTree.parse(results).getroot().iter("testsuite")
    assert int(suite.get("tests")) > 5
    assert suite.get("failures") == suite.get("errors") == "0"


def files_in(folder: Path) -> set[Path]:
    return {path.relative_to(folder) for path in folder.rglob("*") if path.is_file()}


def test_colcon_sees_one_package(install):
    assert [path.name for path in install.iterdir() if path.is_dir()] == ["fer_ros"]


def test_code_is_installed_and_neither_tests_nor_training(install):
    (site,) = (install / "fer_ros" / "lib").glob("python3*/site-packages")
    installed = {name for name in files_in(site) if "__pycache__" not in name.parts}
    assert {name for name in installed if not name.parts[0].endswith(".egg-info")} == below(
        "fer_ros"
    )


def test_launch_settings_and_models_are_installed(install):
    expected = below("launch", "config", "models")
    assert {name.parts[0] for name in expected} == {"launch", "config", "models"}
    share = install / "fer_ros" / "share" / "fer_ros"
    installed = {
        name for name in files_in(share) if name.parts[0] in {"launch", "config", "models"}
    }
    assert installed == expected


def test_executables_run_with_the_python_of_the_environment(install):
    scripts = install / "fer_ros" / "lib" / "fer_ros"
    assert {path.name for path in scripts.iterdir()} == set(EXECUTABLES)
    for name in EXECUTABLES:
        assert (scripts / name).read_text().startswith("#!/usr/bin/env python3\n")
        assert os.access(scripts / name, os.X_OK)


def in_workspace(install: Path, command: str) -> list[str]:
    """Runs ``command`` in a shell that has sourced the workspace."""
    return ["sh", "-c", f'. "{install}/local_setup.sh" && {command}']


def test_installed_code_finds_the_installed_models(install, tmp_path):
    """Not those of the source tree, which the environment knows as well."""
    question = (
        "import fer_ros, fer_ros.inference.model_store as w; "
        "print(fer_ros.__file__, *w.model_folders())"
    )
    command = in_workspace(install, f'"{sys.executable}" -c "{question}"')
    reply = subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True)
    paths = [Path(path) for path in reply.stdout.split()]
    assert len(paths) > 1, "no model is installed"
    assert [path for path in paths if install not in path.parents] == []


def test_node_starts_from_the_installed_tree(install, tmp_path):
    command = in_workspace(install, f'exec "{install}/fer_ros/lib/fer_ros/emotion_node"')
    variables = localhost_transport_env(tmp_path) | {
        "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
        "ROS_DOMAIN_ID": str(find_free_domain_id()),
        "ROS_LOG_DIR": str(tmp_path),
    }
    node = subprocess.Popen(
        command,
        cwd=tmp_path,
        env=os.environ | variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    limit = threading.Timer(START_S, node.kill)
    limit.start()
    assert node.stdout
    output = []
    for line in node.stdout:
        output.append(line)
        if "active, waiting for images on /image" in line or "cannot be configured" in line:
            node.send_signal(signal.SIGINT)
    limit.cancel()
    assert node.wait() == 0, "".join(output)
    assert any("active, waiting" in line for line in output), "".join(output)
