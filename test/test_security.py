"""What SECURITY.md names is there, and what it promises is so."""

import hashlib
import re
import subprocess
from dataclasses import fields
from pathlib import Path

import pytest
import yaml
from tree import ROOT, project_files

from fer_ros.config import DetectorConfig
from fer_ros.fetch import PUBLISHED
from fer_ros.ros.params import NodeConfig
from fer_ros.weights import model_folders, read_card

TEXT = (ROOT / "SECURITY.md").read_text()
SPANS = re.findall(r"`([^`\n]+)`", TEXT)
PATH = re.compile(r"(?:[\w.-]+/)*[\w-]+\.(?:py|xml|yaml|rst)")


def test_named_files_exist():
    names = {name for name in SPANS if PATH.fullmatch(name)}
    ours = {part for path in project_files() for part in (path.as_posix(), path.name)}
    assert {"package.xml", "test/test_boundary.py", "docker/compose.yaml"} <= names
    assert names <= ours


@pytest.mark.parametrize("name", ["log_path", "privacy", "detector.model_path"])
def test_named_parameters_exist(name):
    assert name in SPANS
    settings = DetectorConfig if "." in name else NodeConfig
    assert name.split(".")[-1] in {item.name for item in fields(settings)}


def test_nobody_on_the_network_can_make_a_robot_take_notes():
    (log_path,) = [item for item in fields(NodeConfig) if item.name == "log_path"]
    assert log_path.metadata["read_only"]
    assert log_path.default == ""


def test_no_picture_leaves_the_node_unless_it_is_started_so():
    (privacy,) = [item for item in fields(NodeConfig) if item.name == "privacy"]
    assert privacy.metadata["only_on"]
    assert privacy.default is True


def test_every_pin_is_looked_up_for_known_holes():
    """The look-up itself needs the network, and is a job of the workflow."""
    jobs = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())["jobs"]
    *_, install, audit = [step["run"] for step in jobs["audit"]["steps"] if "run" in step]
    assert re.fullmatch(r"pip install pip-audit==[\d.]+", install)
    lists = subprocess.run(
        ["bash", "-c", audit.replace("pip-audit", "echo", 1)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    assert lists[:2] == ["--no-deps", "--disable-pip"]
    named = {each for each in lists if each.endswith(".txt")}
    assert named == {f"requirements/{path.name}" for path in (ROOT / "requirements").glob("*.txt")}


def test_shipped_models_hold_no_code_and_have_their_digest():
    folders = model_folders()
    assert folders
    for folder in folders:
        card = read_card(folder)
        assert Path(card.weights).suffix in {".safetensors", ".onnx"}
        assert hashlib.sha256(card.weights_path.read_bytes()).hexdigest() == card.sha256


def test_what_is_fetched_comes_encrypted_and_with_a_digest():
    assert PUBLISHED
    for each in PUBLISHED.values():
        assert each.url.startswith("https://")
        assert re.fullmatch(r"[0-9a-f]{64}", each.sha256)
