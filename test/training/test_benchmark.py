"""The benchmark with small budgets, and its page."""

import re
from dataclasses import replace
from itertools import islice
from pathlib import Path

import cv2
import pytest

from fer_ros.cli.benchmark import FrameLatency, StartupCost
from fer_ros.config import ClassifierConfig
from fer_ros.inference.backends import quantization
from fer_ros.io.synthetic import synthetic_frames
from training import benchmark, timing
from training.reports.benchmarks import IntervalResult, Network, Results, page, write

STAGES = {"detect": (10.0, 12.0), "total": (25.0, 31.5)}


def network(name, runtime="ONNX Runtime", one_ms=10.0, core_ms=8.0, five=4.0) -> Network:
    batches_ms = {1: one_ms, 5: five * one_ms, 10: 5 * one_ms}
    return Network(name, runtime, True, 112, 0.5e9, batches_ms, core_ms)


@pytest.fixture
def results() -> Results:
    return Results(
        model="ours",
        threads=2,
        load=0.31,
        frames=[FrameLatency(640, 480, 1, STAGES), FrameLatency(640, 480, 5, STAGES)],
        starts=[StartupCost("ONNX Runtime on cpu", 0.94, 250.4)],
        node=[{"situation": "inactive", "images_per_s": 0, "core_percent": 0.24, "rss_mib": 301.2}],
        networks=[
            network("ours"),
            network("ours", "ONNX Runtime, int8", 5.0, None),
            network("ours", "PyTorch", 20.0, None),
            network("poster_v2", one_ms=85.0, five=4.8),
            network("efficientnet_b0", one_ms=9.0),
        ],
        stages_ms={
            "detector": 12.0,
            "faces 1": 22.0,
            "faces 5": 55.0,
            "int8, faces 1": 20.0,
            "int8, faces 5": 40.0,
        },
        intervals=[IntervalResult(3, 21.26, 100, 2, 0.947, 0.72, 0.99)],
    )


def rows(text: str) -> list[list[str]]:
    lines = [line for line in text.splitlines() if line.startswith("|") and "---" not in line]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_the_page_has_the_results(results):
    table = rows(page(results))
    assert "a load average of 0.3 at the start" in page(results)
    assert ["640x480", "5", "10.0 / 12.0", "25.0 / 31.5"] in table
    assert ["ONNX Runtime on cpu", "0.9", "250"] in table
    assert ["inactive", "0.0", "0.2", "301.2"] in table
    ours = "`ours`, ONNX Runtime", "yes", "112 px", "0.50", "100", "125", "200", "10.0", "8.0", "50"
    assert list(ours) in table
    assert ["3", "21.3", "100", "2", "0.95 / 0.72", "99%"] in table


def test_ratios_are_of_the_results(results):
    ratios = {row[0]: row[1:] for row in rows(page(results)) if len(row) == 3}
    assert ratios["frame with one face : its networks alone"] == ["1.10", "at most 1.10"]
    assert ratios["frame with five faces : with one"] == ["2.50", "at most 2.2"]
    poster, efficient = "`poster_v2`, ONNX Runtime", "`efficientnet_b0`, ONNX Runtime"
    assert ratios[f"faces/s, batch 1 : {poster}"] == ["8.5", "at least 8"]
    assert ratios[f"faces/s, batch 5 : {poster}"] == ["10.2", "at least 8"]
    assert ratios[f"faces/s, batch 1 : {efficient}"] == ["0.9", "at least 1"]
    assert ratios["faces/s, batch 1 : `ours`, PyTorch"] == ["2.0", ""]
    assert ratios["int8, frame with five faces : with one"] == ["2.00", "at most 2.2"]
    assert ratios[f"faces/s in int8, batch 1 : {poster}"] == ["17.0", "at least 8"]
    assert not [pair for pair in ratios if "in int8" in pair and "`ours`" in pair]


def test_the_page_links_its_plot(results, tmp_path):
    write(results, tmp_path)
    text = (tmp_path / "BENCHMARKS.md").read_text()
    assert text == page(results)
    (image,) = re.findall(r"!\[.*\]\((.+)\)", text)
    assert cv2.imread(str(tmp_path / image)).std() > 5


def test_an_unmeasured_core_is_an_empty_cell(results):
    networks = [network("ours", core_ms=8.0), network("ours", "ONNX Runtime, int8", core_ms=None)]
    text = page(replace(results, networks=networks))
    assert "| `ours`, ONNX Runtime, int8 | yes | 112 px | 0.50 | 100 | 125 | 200 | 10.0 |  |" in (
        text
    )


def test_intervals_are_compared_with_detection_in_every_frame(monkeypatch):
    monkeypatch.setattr(benchmark, "DETECTION_INTERVALS", (1, 3))
    frames = [*islice(synthetic_frames(), 20, 70)]
    monkeypatch.setattr(benchmark, "synthetic_frames", lambda: frames)
    first, third = benchmark.measure_intervals(ClassifierConfig(device="cpu", threads=1))
    values = (first.interval, first.iou_median, first.iou_p5, first.same_emotion)
    assert values == pytest.approx((1, 1.0, 1.0, 1.0))
    assert (third.interval, third.ids) == (3, first.ids)
    assert 0.8 < third.iou_median < 1
    assert third.same_emotion > 0.9


def test_the_whole_measurement(monkeypatch):
    """Real networks, one round; the rest of the page has tests of its own."""
    monkeypatch.setattr(benchmark, "measure_frames", lambda config: [])
    monkeypatch.setattr(benchmark, "measure_starts", lambda config: [])
    monkeypatch.setattr(benchmark, "measure_node", list)
    monkeypatch.setattr(benchmark, "measure_intervals", lambda config: [])
    monkeypatch.setattr(benchmark, "BATCHES", (1, 2))
    monkeypatch.setattr(timing, "_MIN_ROUNDS", 1)
    for module in (benchmark, quantization):
        monkeypatch.setattr(module, "MIN_FACES", 2)
    results = benchmark.measure("two_stream_small", baselines=("vgg13",), seconds=0.0)
    ours, int8, pytorch, other = results.networks
    assert [network.runtime for network in results.networks] == [
        "ONNX Runtime",
        "ONNX Runtime, int8",
        "PyTorch",
        "ONNX Runtime",
    ]
    assert (ours.name, other.name, ours.has_landmarks, other.has_landmarks) == (
        "two_stream_small",
        "vgg13",
        True,
        False,
    )
    assert list(ours.batches_ms) == [1, 2]
    assert min(*ours.batches_ms.values(), ours.core_ms, other.core_ms) > 0
    assert pytorch.core_ms is int8.core_ms is None
    frames = {f"{kind}faces {count}" for kind in ("", "int8, ") for count in (1, 5)}
    assert set(results.stages_ms) == {"detector", *frames}


def test_an_unknown_model_is_reported_in_one_line(capsys):
    assert benchmark.main(["--model", "unknown_name"]) == 1
    assert capsys.readouterr().err.startswith("benchmark: unknown model 'unknown_name'")


def test_the_page_of_the_project_has_the_same_headings(results):
    text = Path(benchmark.__file__).parents[1].joinpath("BENCHMARKS.md").read_text()
    written, stored = (
        re.findall(r"^## (.*)$", markdown, re.MULTILINE) for markdown in (page(results), text)
    )
    assert written == [
        "From image to emotion",
        "Start",
        "The node",
        "Networks",
        "Ratios",
        "Detection interval",
        "Other machines",
    ]
    of_other_commands = ["Detection", "The whole pipeline against an earlier version"]
    assert stored == written + of_other_commands
