"""The comparison of two pipelines: what it prints, writes and refuses."""

import pytest

from training import pipeline_comparison as command
from training.pipeline_comparison import PipelineRatio
from training.reports.detection import PIPELINES_HEADING

RATIOS = [PipelineRatio(5, "0123456789", (20.0, 21.0), "abcdef0123", (12.0, 12.6))]


@pytest.fixture
def folder(monkeypatch, tmp_path):
    (tmp_path / "BENCHMARKS.md").write_text("# Benchmarks\n\n## Detection\nhere\n")
    monkeypatch.setattr(command, "_ROOT", tmp_path)
    monkeypatch.setattr(command, "compare_with", lambda commit, seconds: RATIOS)
    return tmp_path


@pytest.mark.parametrize("write", [False, True])
def test_the_ratios_are_printed_and_written_when_asked_for(folder, capsys, write):
    assert command.main(["0123456789", *["--write"] * write]) == 0
    row = "| 5 | 20.0 / 21.0 | 12.0 / 12.6 | 0.60 | 0.60 |"
    output = capsys.readouterr().out
    assert "| faces | `0123456` | `abcdef0` | ratio of medians | ratio of means |" in output
    assert row in output
    text = (folder / "BENCHMARKS.md").read_text()
    assert (row in text, PIPELINES_HEADING in text) == (write, write)
    assert "## Detection\nhere\n" in text


def test_an_unknown_commit_is_reported_in_one_line(capsys):
    assert command.main(["no-such-commit"]) == 1
    error = capsys.readouterr().err
    assert error.startswith("pipeline_comparison: commit no-such-commit: cannot be checked out: ")
    assert error.count("\n") == 1
