"""Cost of evaluating a recording."""

import json

import pytest

from fer_ros.evaluation import EvaluationError
from fer_ros.evaluation.benchmark import RESULT, main, measure


def test_a_missing_recording_is_reported_in_one_line(tmp_path, capfd):
    with pytest.raises(EvaluationError, match="fer evaluate-bag failed: exit code 1") as caught:
        measure(tmp_path / "nothing", tmp_path / "out")
    assert "\n" not in str(caught.value)
    assert capfd.readouterr().err == f"fer: {tmp_path / 'nothing'}: no such bag\n"


def test_an_evaluation_of_two_seconds_is_measured(tmp_path, capsys):
    """The shipped model, in a process as a person starts it."""
    assert main(["--minutes", str(2 / 60), "--out", str(tmp_path)]) == 0
    result = json.loads((tmp_path / RESULT).read_text())
    assert json.loads(capsys.readouterr().out) == result
    assert result["images"] == 30
    assert result["seconds"] > result["pipeline_s"] > result["decode_s"] > 0
    rounding = 0.005 / result["pipeline_s"]  # half of the last digit of both times
    ratio = result["seconds"] / result["pipeline_s"]
    assert result["ratio"] == pytest.approx(ratio, rel=2 * rounding)
    assert 100 < result["peak_rss_mib"] < 1500
    assert [path.name for path in tmp_path.iterdir()] == [RESULT]
