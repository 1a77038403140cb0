"""The package as rosdep, pip and colcon see it."""

import ast
import os
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path
from xml.etree import ElementTree

import pytest
from test_boundary import imported
from tree import ROOT, project_files

from fer_ros.ros.local import free_domain, transport

FILES = project_files()
BIN = Path(sys.executable).parent
PACKAGE = ElementTree.parse(ROOT / "package.xml").getroot()
START_S = 60.0  # for importing PyTorch on a busy machine
EXECUTABLES = ("emotion_node", "camera", "fer")
# Where an import comes from, when the names differ.
PACKAGE_OF = {
    "backports": "backports.zstd",
    "cv2": "python3-opencv",
    "google": "onnx",  # protobuf, which ONNX brings
    "numpy": "python3-numpy",
    "skimage": "python3-skimage",
    "tqdm": "python3-tqdm",
    "yaml": "python3-yaml",
}
PACKAGE_OF_COMMAND = {("ros2", "bag"): "rosbag2"}


def pins(name: str) -> dict[str, str]:
    """Package and version of each line of ``requirements/<name>.txt``."""
    lines = (ROOT / "requirements" / f"{name}.txt").read_text().splitlines()
    return dict(line.split("==") for line in lines if "==" in line and not line.startswith("#"))


def below(*folders: str) -> set[Path]:
    return {name for name in FILES if name.parts[0] in folders}


def needed_packages() -> set[str]:
    """What the installed code imports and runs, as rosdep keys or PyPI names."""
    sources = [name for name in below("fer_ros", "launch") if name.suffix == ".py"]
    trees = {path: ast.parse((ROOT / path).read_text()) for path in sources}
    modules = {
        module.split(".")[0] for path, tree in trees.items() for module in imported(tree, path)
    }
    ours = {PACKAGE_OF.get(name, name) for name in modules - sys.stdlib_module_names - {"fer_ros"}}
    ran = {
        tuple(word.value for word in call.args[:2] if isinstance(word, ast.Constant))
        for tree in trees.values()
        for call in ast.walk(tree)
        if isinstance(call, ast.Call)
    }
    return ours | {package for command, package in PACKAGE_OF_COMMAND.items() if command in ran}


def test_rosdep_keys_are_what_the_code_imports():
    keys = {element.text for element in PACKAGE.iter("exec_depend")}
    needed = needed_packages()
    assert {"rclpy", "python3-numpy"} <= needed
    assert keys - needed == set(), "package.xml names what nobody needs"
    from_pip = {*pins("torch"), *pins("robot"), *pins("detector"), *pins("evaluate")}
    assert needed - keys - from_pip == set(), "neither package.xml nor a robot's pip lists name it"


def test_robots_get_the_versions_that_are_tested_here():
    tested, robot = pins("run"), pins("robot")
    assert robot.pop("numpy").startswith("1.26.")  # what apt's cv_bridge is built against
    assert robot.items() <= tested.items()


@pytest.fixture(scope="module")
def install(tmp_path_factory) -> Path:
    """The tree of ``colcon build``, made of a copy of the project."""
    workspace = tmp_path_factory.mktemp("workspace")
    for name in FILES:
        copy = workspace / "src" / "fer_ros" / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, copy)
    built = subprocess.run([BIN / "colcon", "build"], cwd=workspace, capture_output=True, text=True)
    assert built.returncode == 0, built.stdout + built.stderr
    return workspace / "install"


def files_in(folder: Path) -> set[Path]:
    return {path.relative_to(folder) for path in folder.rglob("*") if path.is_file()}


def test_colcon_sees_one_package(install):
    assert [path.name for path in install.iterdir() if path.is_dir()] == ["fer_ros"]


def test_code_is_installed_and_neither_tests_nor_training(install):
    (site,) = (install / "fer_ros" / "lib").glob("python3*/site-packages")
    found = {name for name in files_in(site) if "__pycache__" not in name.parts}
    assert {name for name in found if not name.parts[0].endswith(".egg-info")} == below("fer_ros")


def test_launch_settings_and_models_are_installed(install):
    wanted = below("launch", "config", "models")
    assert {name.parts[0] for name in wanted} == {"launch", "config", "models"}
    share = install / "fer_ros" / "share" / "fer_ros"
    found = {name for name in files_in(share) if name.parts[0] in {"launch", "config", "models"}}
    assert found == wanted


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
    question = "import fer_ros, fer_ros.weights as w; print(fer_ros.__file__, *w.model_folders())"
    command = in_workspace(install, f'"{sys.executable}" -c "{question}"')
    answer = subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True)
    found = [Path(path) for path in answer.stdout.split()]
    assert len(found) > 1, "no model is installed"
    assert [path for path in found if install not in path.parents] == []


def test_node_starts_from_the_installed_tree(install, tmp_path):
    command = in_workspace(install, f'exec "{install}/fer_ros/lib/fer_ros/emotion_node"')
    variables = transport(tmp_path) | {
        "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
        "ROS_DOMAIN_ID": str(free_domain()),
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
    said = []
    for line in node.stdout:
        said.append(line)
        if "active, waiting for images on /image" in line or "cannot be configured" in line:
            node.send_signal(signal.SIGINT)
    limit.cancel()
    assert node.wait() == 0, "".join(said)
    assert any("active, waiting" in line for line in said), "".join(said)
