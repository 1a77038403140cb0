"""``fer bench``: the figures are those of the frames and runtimes that it names."""

import json

import pytest

from fer_ros import cli
from fer_ros.cli import benchmark
from fer_ros.config import ClassifierConfig, PipelineConfig
from fer_ros.inference.backends.onnx_cache import load_or_export
from fer_ros.inference.model_store import find_model, read_manifest

CONFIG = PipelineConfig(classifier=ClassifierConfig(device="cpu", precision="fp32"))
STAGES = ["detect", "track", "align", "classify", "smooth", "total"]


@pytest.fixture
def quick(monkeypatch):
    """Small work: two kinds of frames, once each."""
    monkeypatch.setattr(benchmark, "SIZES_WH", ((320, 240),))
    monkeypatch.setattr(benchmark, "FACES", (0, 2))
    monkeypatch.setattr(benchmark, "measure_frames", lambda config: measure(config, rounds=1))
    monkeypatch.setattr(
        benchmark,
        "measure_starts",
        lambda config: [benchmark.StartupCost("Fast on cpu", 1.25, 99.6)],
    )


@pytest.fixture
def one_process_each(cache, monkeypatch):
    """Measure the first start of each runtime: the cache, which it would fill, has the graph."""
    load_or_export(read_manifest(find_model("two_stream_small")))
    measure_start, measured = benchmark._measure_start, {}

    def measure_once(config, image_rgb):
        backend = config.classifier.backend
        if backend not in measured:
            measured[backend] = measure_start(config, image_rgb)
        return measured[backend]

    monkeypatch.setattr(benchmark, "_measure_start", measure_once)


measure, starts = benchmark.measure_frames, benchmark.measure_starts


def test_every_frame_has_its_faces(quick, monkeypatch, fake_classifier):
    monkeypatch.setattr("fer_ros.multi_camera.Classifier", lambda config: fake_classifier)
    empty, two = measure(CONFIG, rounds=2)
    assert [(frame.width, frame.height, frame.faces) for frame in (empty, two)] == [
        (320, 240, 0),
        (320, 240, 2),
    ]
    assert list(empty.stages) == list(two.stages) == STAGES
    # in the first frame with their mirror images
    assert [len(crops) for crops in fake_classifier.seen][:2] == [2 * 2, 2]
    assert {len(crops) for crops in fake_classifier.seen[1:]} == {2}
    for middle, high in two.stages.values():
        assert 0 <= middle <= high
    parts = [middle for name, (middle, _) in two.stages.items() if name != "total"]
    assert two.stages["total"][0] >= 0.9 * max(parts)


def test_the_percentiles_are_of_their_stage():
    laps = [{"detect": float(n), "total": 10.0 * n} for n in range(101)]
    assert benchmark._percentiles(laps) == {"detect": (50.0, 95.0), "total": (500.0, 950.0)}


def test_a_start_uses_the_runtime_that_it_names(one_process_each):
    both = list(starts(CONFIG, repeats=1))
    assert [start.runtime for start in both] == ["ONNX Runtime on cpu", "PyTorch on cpu"]
    assert all(start.seconds > 0 and start.rss_mib > 50 for start in both)
    assert both[0].rss_mib < both[1].rss_mib


def test_a_failing_runtime_has_no_results(one_process_each, monkeypatch):
    """It is not there, so that the other one takes over."""
    program = "import sys\nsys.modules['fer_ros.inference.backends.torch'] = None\n"
    monkeypatch.setattr(benchmark, "_STARTUP_PROGRAM", program + benchmark._STARTUP_PROGRAM)
    assert [start.runtime for start in starts(CONFIG, repeats=1)] == ["ONNX Runtime on cpu"]


def test_results_are_printed_as_a_table_and_as_json(quick, capsys):
    assert cli.main(["bench"]) == 0
    table = capsys.readouterr().out
    assert cli.main(["bench", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    rows = [line.split() for line in table.splitlines()]
    assert ["frame", "faces", *STAGES] in rows
    assert [row[:2] for row in rows[-2:]] == [["320x240", "0"], ["320x240", "2"]]
    assert report["model"] == "two_stream_small"
    assert [frame["faces"] for frame in report["frames_ms_p50_p95"]] == [0, 2]
    assert "Fast on cpu: first emotion after 1.2 s, 100 MiB" in table
    start = {"runtime": "Fast on cpu", "seconds": 1.25, "rss_mib": 99.6, "gpu_mib": 0.0}
    assert report["starts"] == [start]


def test_gpu_memory_is_reported_where_there_is_a_gpu(quick, capsys, monkeypatch):
    start = benchmark.StartupCost("PyTorch on cuda", 2.0, 900.0, 250.4)
    monkeypatch.setattr(benchmark, "measure_starts", lambda config: [start])
    assert cli.main(["bench"]) == 0
    output = capsys.readouterr().out
    assert "PyTorch on cuda: first emotion after 2.0 s, 900 MiB, 250 MiB on the GPU\n" in output


def test_a_missing_model_is_reported_in_one_line(capsys):
    assert cli.main(["bench", "--model", "unknown_model"]) == 1
    assert capsys.readouterr().err.startswith("fer: unknown model 'unknown_model'")
