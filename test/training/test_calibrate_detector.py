"""Calibration of the detector: ranges are written when recall stays, and only then."""

import json

import cv2
import pytest

from fer_ros.detectors.centerface_int8 import RANGES_FILE
from training import calibrate_detector


@pytest.fixture
def source(tmp_path, astronaut):
    """Two photographs in folders of emotions."""
    portrait = cv2.cvtColor(astronaut[24:214, 155:298], cv2.COLOR_RGB2BGR)
    for emotion, image in (("happiness", portrait), ("neutral", portrait[:, ::-1])):
        (tmp_path / "photographs" / emotion).mkdir(parents=True)
        cv2.imwrite(str(tmp_path / "photographs" / emotion / "1.png"), image)
    return tmp_path / "photographs"


@pytest.fixture
def ranges(tmp_path, monkeypatch):
    """The file that is written; calibration is short."""
    for name, value in (("_CALIBRATION_SCENES", 2), ("_SCENES", 2), ("_SECONDS", 0.0)):
        monkeypatch.setattr(calibrate_detector, name, value)
    monkeypatch.setattr(calibrate_detector, "_HEIGHTS_PX", (96, 192))
    monkeypatch.setattr(calibrate_detector, "RANGES_FILE", tmp_path / "ranges.json")
    return tmp_path / "ranges.json"


def run(source) -> int:
    return calibrate_detector.main([str(source), str(source)])


def test_ranges_are_those_of_the_same_activations_as_the_published_ones(source, ranges, capsys):
    assert run(source) == 0
    measured, published = (json.loads(path.read_text()) for path in (ranges, RANGES_FILE))
    assert measured.keys() == published.keys()
    assert all(low <= high for low, high in measured.values())
    printed = capsys.readouterr().out.splitlines()
    assert printed[:3] == [
        "photographs of 96 px: recall 100.00%, int8 100.00%",
        "photographs of 192 px: recall 100.00%, int8 100.00%",
        "false faces in 4 scenes: 0, int8 0",
    ]


def test_int8_that_loses_recall_is_not_kept(source, ranges, capsys, monkeypatch):
    monkeypatch.setattr(calibrate_detector, "measure_ranges", lambda *_: silent(RANGES_FILE))
    assert run(source) == 1
    assert not ranges.exists()
    assert capsys.readouterr().err.endswith("is not kept: it loses 100.00% of recall\n")


def silent(path) -> dict[str, tuple[float, float]]:
    """Ranges with which all activations are the same."""
    return dict.fromkeys(json.loads(path.read_text()), (0.0, 1e-06))


def test_a_source_that_does_not_exist_is_told_in_one_line(tmp_path, ranges, capsys):
    assert run(tmp_path / "none") == 1
    expected = f"calibrate_detector: {tmp_path / 'none'}: no such file or folder\n"
    assert capsys.readouterr().err == expected
