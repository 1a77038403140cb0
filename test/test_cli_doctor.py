"""``fer doctor``: what it finds on this machine, and on machines that lack something."""

import json
import shutil
from collections import Counter

import pytest

from fer_ros import cli
from fer_ros.cli import doctor
from fer_ros.cli.doctor import ERROR, OK, WARNING, Answer, Finding
from fer_ros.weights import ModelError, model_folders


def test_this_machine_is_well(capsys):
    assert cli.main(["doctor", "--json"]) == 0
    findings = [Finding(**each) for each in json.loads(capsys.readouterr().out)]
    levels = {each.about: each.level for each in findings}
    assert {"python", "torch", "onnxruntime", "model", "detector", "ros", "vision_msgs"} <= {
        about for about, level in levels.items() if level == OK
    }
    (read,) = [each.found for each in findings if each.about == "self-test"]
    assert "the sample shows happiness" in read
    assert [each for each in findings if each.level == WARNING and not each.remedy] == []


@pytest.mark.parametrize(
    ("levels", "code"),
    [((), 0), ((OK,), 0), ((OK, WARNING), 0), ((OK, ERROR, OK), 1)],
)
def test_lines_and_exit_code(monkeypatch, capsys, levels, code):
    findings = [Finding(level, "eyes", "two", "blink") for level in levels]
    monkeypatch.setattr(doctor, "examine", lambda: iter(findings))
    assert cli.main(["doctor"]) == code
    lines = capsys.readouterr().out.splitlines()
    assert [line.split() for line in lines] == [[each, "eyes", "two;", "blink"] for each in levels]


@pytest.mark.parametrize(("has_them", "word"), [(True, "fast"), (False, "slow")])
def test_whether_int8_pays_is_told(monkeypatch, has_them, word):
    monkeypatch.setattr(doctor, "has_int8_products", lambda: has_them)
    assert f"models in int8 are {word}" in doctor.threads().found


@pytest.mark.parametrize(
    ("imports", "works", "said", "is_missing"),
    [
        ("", True, "yes", False),
        ("import no_such_package", False, "no_such_package is not installed", True),
        ("raise ImportError('another NumPy')", False, "ImportError: another NumPy", False),
        ("import os; os.abort()", False, "import os; os.abort(): ended with -6", False),
    ],
)
def test_packages_are_asked_in_a_process_of_their_own(imports, works, said, is_missing):
    answer = doctor.ask(imports, "print('yes')")
    assert (answer.works, answer.said, answer.is_missing) == (works, said, is_missing)


def test_packages_that_never_answer(monkeypatch):
    monkeypatch.setattr(doctor, "_ANSWER_S", 0.01)
    assert not doctor.ask("while True: pass", "").works


@pytest.mark.parametrize(
    ("variables", "level"),
    [
        ({}, WARNING),
        ({"FASTDDS_DEFAULT_PROFILES_FILE": ""}, WARNING),
        ({"FASTDDS_DEFAULT_PROFILES_FILE": "nowhere.xml"}, ERROR),
        ({"FASTDDS_DEFAULT_PROFILES_FILE": __file__}, OK),
        ({"FASTRTPS_DEFAULT_PROFILES_FILE": __file__}, OK),
        (
            {
                "FASTDDS_DEFAULT_PROFILES_FILE": __file__,
                "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST",
            },
            WARNING,
        ),
    ],
)
def test_fast_dds(variables, level):
    assert doctor.fast_dds(variables).level == level


def broken(words: str) -> Answer:
    return Answer(False, words)


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
    def ask(imports: str, question: str) -> Answer:
        lacks = any(name in imports for name in missing)
        return broken("is not installed") if lacks else Answer(True, "rmw_other")

    monkeypatch.setattr(doctor, "ask", ask)
    monkeypatch.setenv("ROS_DISTRO", distro)
    findings = [*doctor.ros()]
    assert Counter(each.level for each in findings) == levels
    assert remedy in "".join(each.remedy for each in findings)


@pytest.mark.parametrize(
    ("check", "answer", "level"),
    [
        (doctor.torch, broken("torch is not installed"), WARNING),
        (doctor.torch, broken("RuntimeError: operator torchvision::nms does not exist"), WARNING),
        (doctor.torch, Answer(True, "2.12.0 1 CUDA devices"), OK),
        (doctor.torch, Answer(True, "2.12.0 0 CUDA devices"), WARNING),
        (doctor.onnxruntime, broken("onnxruntime is not installed"), ERROR),
        (doctor.cv_bridge, broken("cv_bridge is not installed"), OK),
        (doctor.cv_bridge, broken("AttributeError: _ARRAY_API not found"), WARNING),
        (doctor.cv_bridge, Answer(True, "found"), OK),
    ],
)
def test_packages(monkeypatch, tmp_path, check, answer, level):
    monkeypatch.setattr(doctor, "ask", lambda *_: answer)
    monkeypatch.setattr(doctor, "_GPUS", (tmp_path,))  # a machine with a GPU
    finding = check()
    assert finding.level == level
    assert bool(finding.remedy) == (level != OK)


def test_no_model(monkeypatch):
    monkeypatch.setattr(doctor, "model_folders", list)
    assert [each.level for each in doctor.models()] == [ERROR]


def test_a_damaged_model(monkeypatch, tmp_path):
    folder = shutil.copytree(model_folders()[0], tmp_path / "mine")
    (folder / "weights.safetensors").write_bytes(b"")
    monkeypatch.setattr(doctor, "model_folders", lambda: [folder])
    (finding,) = doctor.models()
    assert finding.level == ERROR
    assert "expected sha256" in finding.found


def test_a_pipeline_that_cannot_be_made(monkeypatch):
    def fail(_: object) -> None:
        raise ModelError("no such\nmodel")

    monkeypatch.setattr(doctor, "EmotionPipeline", fail)
    finding = doctor.self_test()
    assert (finding.level, finding.found) == (ERROR, "no such model")


def test_a_detector_without_its_file(monkeypatch):
    monkeypatch.setattr("fer_ros.detect._PACKAGE", "no_such_package")
    finding = doctor.detector()
    assert finding.level == ERROR
    assert "is not installed" in finding.found


@pytest.mark.parametrize(("free", "level"), [(0, WARNING), (64 * 2**20, WARNING), (2**30, OK)])
def test_shared_memory(monkeypatch, tmp_path, free, level):
    usage = shutil.disk_usage(tmp_path)._replace(free=free)
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda _: usage)
    monkeypatch.setattr(doctor, "_SHARED_MEMORY", tmp_path)
    assert doctor.shared_memory().level == level
