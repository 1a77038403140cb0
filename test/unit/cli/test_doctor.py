"""``fer doctor``: what it finds on this machine, and on machines that lack something."""

import json
import shutil
from collections import Counter

import pytest
from conftest import HAS_ROS

from fer_ros import cli
from fer_ros.cli import doctor
from fer_ros.cli.doctor import ERROR, OK, WARNING, Finding, ProbeResult
from fer_ros.inference.model_store import ModelError, model_folders

KILTED, JAZZY = "FASTDDS_DEFAULT_PROFILES_FILE", "FASTRTPS_DEFAULT_PROFILES_FILE"


def test_this_machine_passes_all_checks(capsys):
    assert cli.main(["doctor", "--json"]) == 0
    findings = [Finding(**entry) for entry in json.loads(capsys.readouterr().out)]
    levels = {finding.subject: finding.level for finding in findings}
    required = {"python", "torch", "onnxruntime", "model", "detector"}
    required |= {"ros", "vision_msgs"} if HAS_ROS else set()
    assert required <= {about for about, level in levels.items() if level == OK}
    (read,) = [finding.detail for finding in findings if finding.subject == "self-test"]
    assert "the sample shows happiness" in read
    assert [
        finding for finding in findings if finding.level == WARNING and not finding.remedy
    ] == []


@pytest.mark.parametrize(
    ("levels", "code"),
    [((), 0), ((OK,), 0), ((OK, WARNING), 0), ((OK, ERROR, OK), 1)],
)
def test_lines_and_exit_code(monkeypatch, capsys, levels, code):
    findings = [Finding(level, "eyes", "two", "blink") for level in levels]
    monkeypatch.setattr(doctor, "examine", lambda: iter(findings))
    assert cli.main(["doctor"]) == code
    lines = capsys.readouterr().out.splitlines()
    assert [line.split() for line in lines] == [
        [level, "eyes", "two;", "blink"] for level in levels
    ]


@pytest.mark.parametrize(("has_them", "word"), [(True, "fast"), (False, "slow")])
def test_the_benefit_of_int8_is_reported(monkeypatch, has_them, word):
    monkeypatch.setattr(doctor, "supports_int8_dot_product", lambda: has_them)
    assert f"int8 models are {word}" in doctor.check_threads().detail


@pytest.mark.parametrize(
    ("imports", "works", "output", "is_missing"),
    [
        ("", True, "yes", False),
        ("import no_such_package", False, "no_such_package is not installed", True),
        ("raise ImportError('another NumPy')", False, "ImportError: another NumPy", False),
        ("import os; os.abort()", False, "import os; os.abort(): ended with -6", False),
    ],
)
def test_packages_are_imported_in_their_own_process(imports, works, output, is_missing):
    result = doctor.probe(imports, "print('yes')")
    assert (result.works, result.output, result.is_missing) == (works, output, is_missing)


def test_a_hanging_import_is_reported(monkeypatch):
    monkeypatch.setattr(doctor, "_IMPORT_TIMEOUT_S", 0.01)
    assert not doctor.probe("while True: pass", "").works


@pytest.mark.parametrize(
    ("variables", "level"),
    [
        ({}, WARNING),
        ({KILTED: ""}, WARNING),
        ({KILTED: "nowhere.xml"}, ERROR),
        ({KILTED: __file__}, OK),
        ({KILTED: __file__, JAZZY: "nowhere.xml"}, OK),
        ({KILTED: __file__, "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST"}, WARNING),
    ],
)
def test_fast_dds(variables, level):
    assert doctor.check_fast_dds(KILTED, variables).level == level


@pytest.mark.parametrize(("read", "set_"), [(KILTED, JAZZY), (JAZZY, KILTED)])
def test_the_profile_variable_of_another_fast_dds_version_is_ignored(read, set_):
    finding = doctor.check_fast_dds(read, {set_: __file__})
    assert (finding.level, finding.remedy) == (WARNING, f"export {read}={__file__}")


def broken(words: str) -> ProbeResult:
    return ProbeResult(False, words)


@pytest.mark.parametrize(
    ("distro", "missing", "levels", "remedy"),
    [
        ("", ("rclpy",), {WARNING: 1}, "source /opt/ros"),
        ("jazzy", ("rclpy",), {ERROR: 1}, "/usr/bin/python3 -m venv"),
        ("jazzy", ("vision_msgs",), {OK: 4, ERROR: 1}, "apt install ros-jazzy-vision-msgs"),
        ("", ("hri_msgs",), {OK: 4, WARNING: 1}, "interfaces/build.sh"),
    ],
)
def test_ros_and_its_messages(monkeypatch, distro, missing, levels, remedy):
    def ask(imports: str, question: str) -> ProbeResult:
        lacks = any(name in imports for name in missing)
        return broken("is not installed") if lacks else ProbeResult(True, "rmw_other")

    monkeypatch.setattr(doctor, "probe", ask)
    monkeypatch.setenv("ROS_DISTRO", distro)
    findings = [*doctor.check_ros()]
    assert Counter(finding.level for finding in findings) == levels
    assert remedy in "".join(finding.remedy for finding in findings)


@pytest.mark.parametrize(
    ("check", "result", "level"),
    [
        (doctor.check_torch, broken("torch is not installed"), WARNING),
        (
            doctor.check_torch,
            broken("RuntimeError: operator torchvision::nms does not exist"),
            WARNING,
        ),
        (doctor.check_torch, ProbeResult(True, "2.12.0 1 CUDA devices"), OK),
        (doctor.check_torch, ProbeResult(True, "2.12.0 0 CUDA devices"), WARNING),
        (doctor.check_onnxruntime, broken("onnxruntime is not installed"), ERROR),
        (doctor.check_cv_bridge, broken("cv_bridge is not installed"), OK),
        (doctor.check_cv_bridge, broken("AttributeError: _ARRAY_API not found"), WARNING),
        (doctor.check_cv_bridge, ProbeResult(True, "found"), OK),
    ],
)
def test_required_packages_are_checked(monkeypatch, tmp_path, check, result, level):
    monkeypatch.setattr(doctor, "probe", lambda *_: result)
    monkeypatch.setattr(doctor, "gpu_device_file", lambda: str(tmp_path))  # a machine with a GPU
    finding = check()
    assert finding.level == level
    assert bool(finding.remedy) == (level != OK)


def test_no_model(monkeypatch):
    monkeypatch.setattr(doctor, "model_folders", list)
    assert [model.level for model in doctor.check_models()] == [ERROR]


def test_a_damaged_model(monkeypatch, tmp_path):
    folder = shutil.copytree(model_folders()[0], tmp_path / "mine")
    (folder / "weights.safetensors").write_bytes(b"")
    monkeypatch.setattr(doctor, "model_folders", lambda: [folder])
    (finding,) = doctor.check_models()
    assert finding.level == ERROR
    assert "expected sha256" in finding.detail


def test_a_pipeline_that_cannot_be_created_is_reported(monkeypatch):
    def fail(_: object) -> None:
        raise ModelError("no such\nmodel")

    monkeypatch.setattr(doctor, "EmotionPipeline", fail)
    finding = doctor.self_test()
    assert (finding.level, finding.detail) == (ERROR, "no such model")


def test_a_detector_without_its_file(monkeypatch):
    monkeypatch.setattr("fer_ros.detectors.centerface.PACKAGE", "no_such_package")
    finding = doctor.check_detector()
    assert finding.level == ERROR
    assert "is not installed" in finding.detail


@pytest.mark.parametrize(("free", "level"), [(0, WARNING), (64 * 2**20, WARNING), (2**30, OK)])
def test_shared_memory(monkeypatch, tmp_path, free, level):
    usage = shutil.disk_usage(tmp_path)._replace(free=free)
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda _: usage)
    monkeypatch.setattr(doctor, "_SHARED_MEMORY", tmp_path)
    assert doctor.check_shared_memory().level == level
