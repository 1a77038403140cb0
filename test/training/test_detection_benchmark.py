"""The detection benchmark: scenes, figures, and its section in BENCHMARKS.md."""

import numpy as np
import pytest

from fer_ros.types import FaceDetections
from training import detection_benchmark as benchmark
from training.datasets import scenes
from training.detection_benchmark import (
    Plan,
    Results,
    measure_second_face,
    measure_size,
)
from training.reports import benchmarks as speed_report
from training.reports import detection as report


def finder(delay_frames: int):
    """A plan that reports one box, from its second call with a bright spot on."""

    def start():
        seen = []

        def detect(image_rgb, time_s, tracked):
            ys, xs = np.nonzero(image_rgb[..., 0] > 250)
            if len(xs) == 0:
                return FaceDetections.empty()
            seen.append(time_s)
            if len(seen) <= delay_frames:
                return FaceDetections.empty()
            box = np.array([[xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]], np.float32)
            return FaceDetections(box, np.float32([0.9]), np.zeros((1, 5, 2), np.float32))

        return detect

    return start


@pytest.fixture
def spots(monkeypatch):
    """Bright squares in the place of portraits."""

    def add_spot(background_rgb, face_px, random, number):
        frame = background_rgb.copy()
        frame[100 : 100 + face_px, 200 : 200 + face_px] = 255
        box = np.array([200, 100, 200 + face_px, 100 + face_px], np.float32)
        return frame, box

    monkeypatch.setattr(benchmark, "add_portrait", add_spot)
    monkeypatch.setattr(benchmark, "textured_frame", lambda random, size: _dark(size))
    monkeypatch.setattr(benchmark, "HEIGHTS_PX", (16, 48))
    monkeypatch.setattr(scenes, "_NOISE", 0.0)


def _dark(size_wh):
    return np.full((size_wh[1], size_wh[0], 3), 90, np.uint8)


def test_the_time_until_the_tracker_confirms_a_face(spots):
    plans = [Plan("at once", finder(0)), Plan("late", finder(3)), Plan("never", finder(99))]
    measure_size(plans, "VGA", 2)
    keys = {("VGA", 16), ("VGA", 48), ("VGA", 456)}
    for plan, first_s in zip(plans, (1 / 15, 4 / 15, np.inf), strict=True):
        assert set(plan.first_s) == keys
        for seconds in plan.first_s.values():
            np.testing.assert_allclose(seconds, [first_s] * 2)


def test_the_time_until_a_second_face_is_confirmed(monkeypatch):
    tracked_box, second_box = [10, 100, 106, 196], [400, 100, 420, 120]

    def add_spot(background_rgb, face_px, random, number):
        frame = background_rgb.copy()
        is_tracked = face_px == 96
        x = 10 if is_tracked else int(random.choice([60, 400]))  # at 60 it hides the tracked one
        frame[100 : 100 + face_px, x : x + face_px] = 255 if is_tracked else 252
        return frame, np.array([x, 100, x + face_px, 100 + face_px], np.float32)

    def start():
        def detect(image_rgb, time_s, tracked):
            boxes = [tracked_box]
            if image_rgb[110, 410, 0] > 250:
                boxes.append(second_box)
            points = np.zeros((len(boxes), 5, 2), np.float32)
            return FaceDetections(np.float32(boxes), np.full(len(boxes), 0.9, np.float32), points)

        return detect

    monkeypatch.setattr(benchmark, "add_portrait", add_spot)
    monkeypatch.setattr(benchmark, "textured_frame", lambda random, size: _dark(size))
    monkeypatch.setattr(benchmark, "SECOND_HEIGHTS_PX", (20,))
    monkeypatch.setattr(scenes, "_NOISE", 0.0)
    plan = Plan("at once", start)
    measure_second_face([plan], "VGA", 6)
    np.testing.assert_allclose(plan.first_s["VGA", 20], [1 / 15] * 6)
    assert len(plan.spent_ms["VGA"]) > 6 * 33


def results():
    plans = [Plan(report.REFERENCE, finder(0)), Plan("planned", finder(0))]
    for plan, ms in zip(plans, (10.0, 5.0), strict=True):
        plan.spent_ms = {"VGA": [ms, ms], "1080p": [ms, 2 * ms]}
        plan.first_s = {
            ("VGA", 20): [0.1, np.inf],
            ("VGA", 456): [0.1, 0.6],
            ("1080p", 20): [0.1, 0.9],
            ("1080p", 1026): [np.inf, np.inf],
        }
    second_face = [Plan(plan.name, plan.start) for plan in plans]
    for plan, ms in zip(second_face, (10.0, 5.0), strict=True):
        plan.spent_ms = {"VGA": [ms, 3 * ms]}
        plan.first_s = {("VGA", 20): [0.2, 0.4], ("VGA", 48): [0.4, 0.7]}
    return Results(plans, second_face, 100, {"planned": 0.5}, 43)


def test_the_section_has_every_result():
    text = report.page(results())
    assert "| VGA, 0.5 s | planned | 50% | 50% |" in text
    assert "| 1080p, 1 s | planned | 100% | 0% |" in text
    assert "| VGA | planned | 50% | 0.60 | not found | 5.0 / 5.0 | 0.50 |" in text
    assert "faces of 20 to 48 px that appear while another one" in text
    assert "| VGA | planned | 75% | 0.40 | 0.70 | 10.0 / 14.5 | 0.50 |" in text
    assert "| planned | 0 |" in text
    assert "Share of 43 boxes" in text
    assert "--write --sequences 2 " in text


@pytest.mark.parametrize(
    "before",
    [
        "# Benchmarks\n\nfirst\n",
        "# B\n\n## Detection\nold\n",
        "# B\n\n## Detection\nold\n\n## C\nc\n",
    ],
)
def test_only_the_section_on_detection_is_replaced(tmp_path, monkeypatch, before):
    monkeypatch.setattr(report, "draw", lambda results, path: None)
    path = tmp_path / "BENCHMARKS.md"
    path.write_text(before)
    for _ in range(2):
        report.write(results(), tmp_path)
    text = path.read_text()
    assert text.count("## Detection\n") == 1
    assert "old" not in text
    assert text.startswith(before.partition("## Detection")[0].rstrip())
    assert text.endswith("## C\nc\n") == ("## C" in before)


def test_the_plot_is_drawn(tmp_path):
    report.draw(results(), tmp_path / "detection.png")
    assert (tmp_path / "detection.png").stat().st_size > 1000


def test_the_other_report_keeps_the_section(tmp_path, monkeypatch):
    monkeypatch.setattr(report, "draw", lambda results, path: None)
    monkeypatch.setattr(speed_report, "page", lambda results: "# Benchmarks\nnew\n")
    monkeypatch.setattr(speed_report, "draw", lambda networks, path: None)
    (tmp_path / "BENCHMARKS.md").write_text("# Benchmarks\nold\n")
    report.write(results(), tmp_path)
    heading = report.PIPELINES_HEADING
    report.replace_section(tmp_path, heading, f"{heading}\nkept\n")

    class Nothing:
        networks = ()

    speed_report.write(Nothing(), tmp_path)
    text = (tmp_path / "BENCHMARKS.md").read_text()
    assert "old" not in text
    assert "new" in text
    assert "Share of 43 boxes" in text
    assert text.count("\n## ") == 2
    assert text.count("kept") == 1
