"""``fer bench``: the figures are those of the frames and runtimes that it names."""

import json

import pytest

from fer_ros import cli
from fer_ros.cli import bench
from fer_ros.config import ClassifierConfig, PipelineConfig

CONFIG = PipelineConfig(classifier=ClassifierConfig(device="cpu"))
STAGES = ["detect", "track", "align", "classify", "smooth", "total"]


@pytest.fixture
def quick(monkeypatch):
    """Small work: two kinds of frames, once each."""
    monkeypatch.setattr(bench, "SIZES_WH", ((320, 240),))
    monkeypatch.setattr(bench, "FACES", (0, 2))
    monkeypatch.setattr(bench, "measure_frames", lambda config: measure(config, rounds=1))
    monkeypatch.setattr(
        bench, "measure_starts", lambda config: [bench.Start("Fast on cpu", 1.25, 99.6)]
    )


measure, starts = bench.measure_frames, bench.measure_starts


def test_every_frame_has_its_faces(quick, monkeypatch, fake_classifier):
    monkeypatch.setattr("fer_ros.classify.Classifier", lambda config: fake_classifier)
    empty, two = measure(CONFIG, rounds=2)
    assert [(each.width, each.height, each.faces) for each in (empty, two)] == [
        (320, 240, 0),
        (320, 240, 2),
    ]
    assert list(empty.stages) == list(two.stages) == STAGES
    assert {len(crops) for crops in fake_classifier.seen} == {2}
    for middle, high in two.stages.values():
        assert 0 <= middle <= high
    parts = [middle for name, (middle, _) in two.stages.items() if name != "total"]
    assert two.stages["total"][0] >= 0.9 * max(parts)


def test_the_percentiles_are_of_their_stage():
    laps = [{"detect": float(n), "total": 10.0 * n} for n in range(101)]
    assert bench._percentiles(laps) == {"detect": (50.0, 95.0), "total": (500.0, 950.0)}


def test_a_start_is_of_the_runtime_that_it_names():
    both = list(starts(CONFIG, times=1))
    assert [start.runtime for start in both] == ["ONNX Runtime on cpu", "PyTorch on cpu"]
    assert all(start.seconds > 0 and start.rss_mib > 50 for start in both)
    assert both[0].rss_mib < both[1].rss_mib


def test_a_runtime_that_does_not_work_has_no_figures(monkeypatch):
    """It is not there, so that the other one takes over."""
    program = "import sys\nsys.modules['fer_ros.backends.pytorch'] = None\n"
    monkeypatch.setattr(bench, "_START", program + bench._START)
    assert [start.runtime for start in starts(CONFIG, times=1)] == ["ONNX Runtime on cpu"]


def test_it_is_printed_as_a_table_and_as_json(quick, capsys):
    assert cli.main(["bench"]) == 0
    table = capsys.readouterr().out
    assert cli.main(["bench", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    rows = [line.split() for line in table.splitlines()]
    assert ["frame", "faces", *STAGES] in rows
    assert [row[:2] for row in rows[-2:]] == [["320x240", "0"], ["320x240", "2"]]
    assert told["model"] == "two_stream_small"
    assert [each["faces"] for each in told["frames_ms_p50_p95"]] == [0, 2]
    assert "Fast on cpu: first emotion after 1.2 s, 100 MiB" in table
    start = {"runtime": "Fast on cpu", "seconds": 1.25, "rss_mib": 99.6, "gpu_mib": 0.0}
    assert told["starts"] == [start]


def test_memory_of_a_gpu_is_told_where_there_is_one(quick, capsys, monkeypatch):
    start = bench.Start("PyTorch on cuda", 2.0, 900.0, 250.4)
    monkeypatch.setattr(bench, "measure_starts", lambda config: [start])
    assert cli.main(["bench"]) == 0
    said = capsys.readouterr().out
    assert "PyTorch on cuda: first emotion after 2.0 s, 900 MiB, 250 MiB of the GPU\n" in said


def test_a_model_that_is_not_there_is_one_line(capsys):
    assert cli.main(["bench", "--model", "nobody"]) == 1
    assert capsys.readouterr().err.startswith("fer: unknown model 'nobody'")
