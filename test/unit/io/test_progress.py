"""Progress bars on terminals and in log files."""

import io

import pytest

from fer_ros.io import progress
from fer_ros.io.progress import progress_bar


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock(monkeypatch) -> list[float]:
    """The time in seconds, of the log and of tqdm."""
    now = [0.0]
    monkeypatch.setattr(progress, "monotonic", lambda: now[0])
    monkeypatch.setattr("tqdm.tqdm._time", None, raising=False)
    monkeypatch.setattr("tqdm.std.time", lambda: now[0])
    return now


@pytest.mark.parametrize(("step_s", "lines"), [(0.1, 0), (1.0, 9), (15.0, 100)])
def test_a_log_gets_a_line_every_ten_seconds(monkeypatch, clock, step_s, lines):
    log = io.StringIO()
    monkeypatch.setattr("sys.stderr", log)
    for _ in progress_bar(range(100), unit="image"):
        clock[0] += step_s
    assert lines <= len(log.getvalue().splitlines()) <= lines + 1
    assert "\r" not in log.getvalue()
    if lines:
        assert "image/s" in log.getvalue() or "s/image" in log.getvalue()


def test_a_terminal_gets_a_bar_that_disappears(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    assert list(progress_bar(range(3))) == [0, 1, 2]
    assert "/3 [" in terminal.getvalue()
    assert terminal.getvalue().endswith("\r")


def test_a_hidden_bar_writes_nothing(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    assert list(progress_bar(range(3), hidden=True)) == [0, 1, 2]
    assert terminal.getvalue() == ""
