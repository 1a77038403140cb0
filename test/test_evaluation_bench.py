"""What evaluating a recording costs."""

import json

import pytest

from fer_ros.evaluation import EvaluationError
from fer_ros.evaluation.bench import RESULT, main, measure


def test_no_recording_is_one_line(tmp_path, capfd):
    with pytest.raises(EvaluationError, match="fer evaluate-bag failed: exit code 1") as caught:
        measure(tmp_path / "nothing", tmp_path / "out")
    assert "\n" not in str(caught.value)
    assert capfd.readouterr().err == f"fer: {tmp_path / 'nothing'}: no such bag\n"


def test_two_seconds(tmp_path, capsys):
    """The shipped model, in a process as a person starts it."""
    assert main(["--minutes", str(2 / 60), "--out", str(tmp_path)]) == 0
    found = json.loads((tmp_path / RESULT).read_text())
    assert json.loads(capsys.readouterr().out) == found
    assert found["images"] == 30
    assert found["seconds"] > found["pipeline_s"] > found["decode_s"] > 0
    rounding = 0.005 / found["pipeline_s"]  # half of the last digit of both times
    ratio = found["seconds"] / found["pipeline_s"]
    assert found["ratio"] == pytest.approx(ratio, rel=2 * rounding)
    assert 100 < found["peak_rss_mib"] < 1500
    assert [path.name for path in tmp_path.iterdir()] == [RESULT]
