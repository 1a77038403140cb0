"""Frame statistics."""

import numpy as np
import pytest
from conftest import frontal_points
from diagnostic_msgs.msg import DiagnosticStatus

from fer_ros.ros.diagnostics import FrameStatistics, to_key_values
from fer_ros.types import FaceEmotion, FrameResult

OK, WARN, STALE = DiagnosticStatus.OK, DiagnosticStatus.WARN, DiagnosticStatus.STALE


class Clock:
    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def monitor(clock) -> FrameStatistics:
    return FrameStatistics(clock)


def face(why: str = "") -> FaceEmotion:
    return FaceEmotion(
        id="f00001",
        box_xyxy=np.array([10, 20, 50, 100], np.float32),
        score=0.9,
        points_xy=frontal_points(),
        probabilities=np.full(8, 0.125, np.float32),
        raw_probabilities=np.full(8, 0.125, np.float32),
        emotion=None if why else "anger",
        is_readable=not why,
        rejection_reason=why,
    )


def result(*faces: FaceEmotion) -> FrameResult:
    return FrameResult(1.0, list(faces), {})


def figures(status: DiagnosticStatus) -> dict[str, str]:
    return {value.key: value.value for value in status.values}


def test_initial_statistics_are_empty(monitor):
    status = monitor.report(timeout_s=5.0)
    assert (status.level, status.message) == (OK, "0.0 frames/s")
    assert figures(status) == {
        "frames_per_s": "0.00",
        "received": "0",
        "processed": "0",
        "dropped": "0",
        "failed": "0",
        "last_failure": "",
        "last_image_age_s": "",
        "faces": "0",
    }
    assert to_key_values({}) == []


def test_frames_are_counted(monitor, clock):
    for _ in range(5):
        monitor.received()
    monitor.dropped()
    monitor.dropped()
    monitor.failed("truncated")
    monitor.processed(result(face(), face()), {})
    monitor.processed(result(face()), {})
    clock.now_s += 0.25
    reported = figures(monitor.report(timeout_s=5.0))
    counts = [reported[key] for key in ("received", "processed", "dropped", "failed", "faces")]
    assert counts == ["5", "2", "2", "1", "1"]
    assert (reported["last_failure"], reported["last_image_age_s"]) == ("truncated", "0.25")


def test_failures_are_a_warning_once(monitor):
    monitor.failed("truncated")
    monitor.failed("empty")
    status = monitor.report(0.0)
    assert (status.level, status.message) == (WARN, "2 frames failed, last error: empty")
    status = monitor.report(0.0)
    assert (status.level, figures(status)["failed"]) == (OK, "2")
    monitor.failed("truncated")
    assert monitor.report(0.0).message == "1 frames failed, last error: truncated"


def test_faces_that_cannot_be_read_are_counted_by_their_reason(monitor):
    monitor.processed(result(face("too small: 20 px, minimum 24"), face()), {})
    monitor.processed(result(face("too small: 9 px, minimum 24"), face("turned: 80 degrees")), {})
    reported = figures(monitor.report(0.0))
    rejected = {key: value for key, value in reported.items() if key.startswith("rejected.")}
    assert rejected == {"rejected.too small": "2", "rejected.turned": "1"}


@pytest.mark.parametrize(
    ("spent_ms", "p50", "p95"),
    [
        ([4.0], "4.00", "4.00"),
        (range(101), "50.50", "95.05"),  # the first of them is too long ago
        ([1000.0] * 50 + [2.0] * 100, "2.00", "2.00"),
    ],
)
def test_milliseconds_of_the_last_frames(monitor, spent_ms, p50, p95):
    for spent_m in spent_ms:
        monitor.processed(result(), {"detect": spent_m, "total": spent_m})
    reported = figures(monitor.report(0.0))
    stages = {key: value for key, value in reported.items() if key.startswith("latency_ms.")}
    assert stages == {
        "latency_ms.detect.p50": p50,
        "latency_ms.detect.p95": p95,
        "latency_ms.total.p50": p50,
        "latency_ms.total.p95": p95,
    }


@pytest.mark.parametrize(
    ("count", "every_s", "then_s", "rate"),
    [
        (0, 0.1, 0.0, 0.0),
        (1, 0.1, 0.0, 0.0),
        (31, 0.1, 0.0, 10.0),
        (300, 0.01, 0.0, 100.0),  # more than are kept
        (31, 0.1, 1.0, 7.5),  # it sinks when nothing comes any more
        (31, 0.1, 10.0, 0.0),
        (5, 0.0, 0.0, 0.0),
    ],
)
def test_the_rate_is_that_of_the_last_seconds(monitor, clock, count, every_s, then_s, rate):
    begin_s = clock.now_s
    for number in range(count):
        clock.now_s = begin_s + number * every_s
        monitor.processed(result(), {})
    clock.now_s += then_s
    status = monitor.report(0.0)
    assert float(figures(status)["frames_per_s"]) == pytest.approx(rate, abs=0.01)
    assert status.message == f"{rate:.1f} frames/s"


@pytest.mark.parametrize(
    ("timeout_s", "silent_s", "level", "message"),
    [
        (0.0, 1e6, OK, "0.0 frames/s"),
        (5.0, 4.9, OK, "0.0 frames/s"),
        (5.0, 5.0, STALE, "no image for 5 s"),
        (5.0, 7.4, STALE, "no image for 7 s"),
        (5.0, 7.6, STALE, "no image for 8 s"),
    ],
)
@pytest.mark.parametrize("received", [False, True])
def test_silence_is_stale(monitor, clock, received, timeout_s, silent_s, level, message):
    clock.now_s += 1.0
    if received:
        monitor.received()
    else:
        silent_s -= 1.0
    clock.now_s += silent_s
    status = monitor.report(timeout_s)
    assert (status.level, status.message) == (level, message)


def test_a_frame_that_is_not_processed_is_a_warning(monitor, clock):
    monitor.received()
    assert monitor.waiting_s() == 0.0
    for _ in range(6):
        clock.now_s += 1.0
        monitor.received()  # newer frames replace it
        monitor.dropped()
    assert monitor.waiting_s() == 6.0
    status = monitor.report(timeout_s=5.0)
    assert status.level == WARN
    assert status.message == "images arrive, but none was processed for 6 s"
    assert monitor.report(timeout_s=0.0).level == OK
    monitor.processed(result(), {})
    assert (monitor.waiting_s(), monitor.report(timeout_s=5.0).level) == (0.0, OK)


def test_failures_last_until_a_frame_is_processed(monitor, clock):
    assert monitor.failing_s() == 0.0
    for _ in range(3):
        monitor.received()
        monitor.failed("no memory")
        clock.now_s += 2.0
    assert (monitor.failing_s(), monitor.waiting_s()) == (6.0, 0.0)
    monitor.received()
    monitor.processed(result(), {})
    assert monitor.failing_s() == 0.0
