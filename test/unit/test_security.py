"""The statements of SECURITY.md hold."""

import hashlib
import re
import subprocess
from dataclasses import fields
from pathlib import Path

import pytest
import yaml
from tree import ROOT, project_files

from fer_ros.config import DetectorConfig
from fer_ros.inference.download import PRETRAINED
from fer_ros.inference.model_store import model_folders, read_manifest
from fer_ros.ros.parameters import NodeConfig

TEXT = (ROOT / "SECURITY.md").read_text()
SPANS = re.findall(r"`([^`\n]+)`", TEXT)
PATH = re.compile(r"(?:[\w.-]+/)*[\w-]+\.(?:py|xml|yaml|rst)")


def test_named_files_exist():
    names = {name for name in SPANS if PATH.fullmatch(name)}
    ours = {part for path in project_files() for part in (path.as_posix(), path.name)}
    assert {"test/unit/test_architecture.py", "docker/compose.yaml"} <= names
    assert names <= ours


@pytest.mark.parametrize("name", ["results_log_path", "publish_images", "detector.model_path"])
def test_named_parameters_exist(name):
    assert name in SPANS
    settings = DetectorConfig if "." in name else NodeConfig
    assert name.split(".")[-1] in {item.name for item in fields(settings)}


def test_results_log_cannot_be_enabled_over_the_network():
    (results_log_path,) = [item for item in fields(NodeConfig) if item.name == "results_log_path"]
    assert results_log_path.metadata["read_only"]
    assert results_log_path.default == ""


def test_no_image_is_published_unless_enabled_at_start():
    (publish_images,) = [item for item in fields(NodeConfig) if item.name == "publish_images"]
    assert publish_images.metadata["disable_only"]
    assert publish_images.default is False


def test_every_pin_is_audited():
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
    named = {name for name in lists if name.endswith(".txt")}
    assert named == {f"requirements/{path.name}" for path in (ROOT / "requirements").glob("*.txt")}


def test_shipped_models_hold_no_code_and_have_their_digest():
    folders = model_folders()
    assert folders
    for folder in folders:
        manifest = read_manifest(folder)
        assert Path(manifest.weights).suffix in {".safetensors", ".onnx"}
        assert hashlib.sha256(manifest.weights_path.read_bytes()).hexdigest() == manifest.sha256


def test_downloads_use_https_and_a_digest():
    assert PRETRAINED
    for file in PRETRAINED.values():
        assert file.url.startswith("https://")
        assert re.fullmatch(r"[0-9a-f]{64}", file.sha256)
