"""The check of the GPU path, in small on the CPU: every section runs to its end."""

import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from cuda_tools import ReadsOfDevice
from dataset_tools import write_dataset

from fer_ros.inference.backends import BackendError
from fer_ros.inference.devices import CudaStatus
from fer_ros.inference.model_store import find_model, read_manifest
from fer_ros.io.media import MediaError
from fer_ros.types import FacePredictions
from training import gpu_check as command
from training.gpu import inference, training
from training.gpu.clock import DRY_RUN, Budget
from training.gpu.inference import check_detector
from training.gpu.report import page
from training.gpu.training import load_faces

CROPS = np.zeros((17, 112, 112, 3), np.uint8)
SECTIONS = {"machine", "ceilings", "outputs", "frames", "speed", "training_step", "train"}


def write_faces(path, count=24):
    random = np.random.default_rng(0)
    np.savez(
        path,
        faces=random.integers(0, 256, (count, 46, 46), np.uint8),
        votes=np.eye(8, dtype=np.uint8)[np.arange(count) % 8] * 255,
        is_valid=(np.arange(count) % 3 == 0).astype(np.uint8),
    )


def test_the_dry_run_runs_everything_and_leaves_a_model(tmp_path, capsys):
    write_faces(tmp_path / "faces.npz")
    arguments = [str(tmp_path / "out"), "--dry-run", "--train", "0"]
    code = command.main([*arguments, "--faces", str(tmp_path / "faces.npz")])
    results = json.loads((tmp_path / "out/gpu_check.json").read_text())
    assert (code, results["skipped"]) == (0, {"memory": "no CUDA device"})
    assert set(results) >= SECTIONS
    assert {row["network"] for row in results["outputs"]} == {
        "two_stream_small",
        "vgg13",
        "centerface",
    }
    assert all(row["ok"] for row in results["outputs"])
    assert results["training_step"]["images_s"] > 0
    (last,) = results["train"]
    assert last["steps"] == 1
    assert read_manifest(tmp_path / "out/two_stream_small").architecture == "two_stream_small"
    text = (tmp_path / "out/gpu_check.md").read_text()
    assert text == page(results)
    for title in ("Ceilings", "Outputs", "Speed", "Whole frames", "Training step", "Not run"):
        assert f"## {title}" in text
    assert "gpu_check.md; not run: memory" in capsys.readouterr().out


def test_the_time_limit_ends_the_run_with_partial_results(tmp_path):
    assert command.main([str(tmp_path), "--dry-run", "--minutes", "0", "--train", "1"]) == 1
    results = json.loads((tmp_path / "gpu_check.json").read_text())
    assert results["skipped"]["ceilings"] == "no time left"
    assert (tmp_path / "gpu_check.md").exists()


SMALL = read_manifest(find_model("two_stream_small"))
TINY = replace(DRY_RUN, batches=(1, 1, 1), faces_per_frame=(1, 1), training_batch=2)
CEILINGS = {"copy_gb_s": 1.0, "matmul_fp32_tflops": 1.0, "matmul_bf16_tflops": 1.0}


@pytest.mark.parametrize(
    ("rows_of", "reason"),
    [
        (
            lambda budget: inference.check_outputs([SMALL] * 3, "cpu", CROPS, budget),
            "outputs of two_stream_small",
        ),
        (
            lambda budget: inference.measure_speed([SMALL] * 2, "cpu", TINY, CEILINGS, budget),
            "speed of two_stream_small in fp32, eager, batch 1",
        ),
        (lambda budget: inference.measure_frames("cpu", TINY, budget), "frames of 1 faces"),
    ],
    ids=["outputs", "speed", "frames"],
)
def test_a_section_ends_between_two_rows_when_the_minutes_are_over(rows_of, reason):
    budget = Budget(600)
    rows = rows_of(budget)
    next(rows)
    budget.seconds = 0
    assert list(rows) == []
    assert budget.skipped[reason] == "no time left"


@pytest.mark.parametrize(
    ("replaced", "error"),
    [
        ("fer_ros.pipeline.EmotionPipeline", ModuleNotFoundError("No module named 'onnx'")),
        ("fer_ros.io.synthetic.tiled_faces", MediaError("astronaut: needs scikit-image")),
    ],
)
def test_frames_are_left_out_where_a_package_is_missing(monkeypatch, replaced, error):
    def fail(_):
        raise error

    monkeypatch.setattr(replaced, fail)
    budget = Budget(600)
    assert list(inference.measure_frames("cpu", TINY, budget)) == []
    assert budget.skipped == {"frames": str(error)}


@pytest.mark.parametrize(
    ("got", "want", "error"),
    [
        ([np.nan, 1.0], [np.nan, 1.5], 0.5),
        ([np.nan, np.nan], [np.nan, np.nan], 0.0),
        ([np.nan, 1.0], [1.0, 1.0], np.inf),
        ([1.0, 1.0], [np.nan, 1.0], np.inf),
        ([np.inf, 1.0], [1.0, 1.0], np.inf),
    ],
)
def test_landmarks_of_one_device_only_are_an_error(monkeypatch, got, want, error):
    """NaN on both devices are those of a network without landmarks."""

    class Backend:
        def __init__(self, manifest, device, precision="fp32"):
            self.points = np.array(want if device == "cpu" else got, np.float32)

        def run(self, crops_rgb):
            points_xy = np.broadcast_to(self.points, (len(crops_rgb), 68, 2))
            return FacePredictions(points_xy, np.full((len(crops_rgb), 8), 0.125, np.float32))

    monkeypatch.setattr(inference, "TorchBackend", Backend)
    monkeypatch.setattr(inference, "precisions_of", lambda device: ["fp32"])
    monkeypatch.setattr(inference, "is_cuda", lambda device: False)
    (row,) = inference.check_outputs([SMALL], "cuda", CROPS, Budget(600))
    assert row["landmark_error_px"] == error
    assert row["ok"] == (error == 0)


def test_a_network_of_several_precisions_ends_between_two(monkeypatch):
    monkeypatch.setattr(inference, "precisions_of", lambda device: ["fp32", "bf16"])
    budget = Budget(600)
    rows = inference.check_outputs([SMALL], "cpu", CROPS, budget)
    assert next(rows)["precision"] == "fp32"
    budget.seconds = 0
    assert list(rows) == []
    assert budget.skipped == {"outputs of two_stream_small in bf16": "no time left"}


def test_a_training_gets_the_minutes_that_are_left(tmp_path, monkeypatch):
    given = []

    def train(faces, device, minutes, scale, out):
        given.append(minutes)
        return iter([])

    for name in ("check_outputs", "check_detector", "measure_frames", "measure_speed"):
        monkeypatch.setattr(inference, name, lambda *_: iter([]))
    monkeypatch.setattr(training, "measure_step", lambda *_: {})
    monkeypatch.setattr(training, "train", train)
    for minutes in ("60", "0.1"):
        arguments = [str(tmp_path), "--dry-run", "--minutes", "5", "--train", minutes]
        assert command.main(arguments) == 0
    assert 4 < given[0] < 5
    assert given[1] == 0.1


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("CUDA error: an illegal memory access"),
        BackendError("PyTorch: device cuda: CUDA out of memory"),
        ModuleNotFoundError("No module named 'onnx'"),
        MediaError("the example photo needs scikit-image"),
        OSError("disk full"),
    ],
)
def test_a_section_that_fails_is_reported_and_the_others_run(tmp_path, monkeypatch, capsys, error):
    def rows(*_):
        yield {"network": "a", "ok": True}
        raise error

    for name in ("check_outputs", "measure_frames", "measure_speed"):
        monkeypatch.setattr(inference, name, lambda *_: iter([{"network": "b", "ok": True}]))
    monkeypatch.setattr(training, "measure_step", lambda *_: {})
    monkeypatch.setattr(inference, "check_detector", rows)
    assert command.main([str(tmp_path), "--dry-run"]) == 1
    results = json.loads((tmp_path / "gpu_check.json").read_text())
    assert [row["network"] for row in results["outputs"]] == ["b", "a"]
    assert results["speed"] == [{"network": "b", "ok": True}]
    assert results["skipped"]["detector"] == f"failed: {error}"
    assert "not run: detector, memory" in capsys.readouterr().out


def test_a_training_step_waits_for_nothing_on_the_device(monkeypatch):
    """The optimizer is left out: fused, as on CUDA, it does not wait either."""
    faces = load_faces(None, "cpu", 8)
    trained = training.Training(faces, "cpu", 2)
    monkeypatch.setattr(trained.optimizer, "step", lambda: None)
    trained.step(0.5)
    with ReadsOfDevice() as reads:
        trained.step(0.5)
    assert reads.names == []
    with ReadsOfDevice() as reads:
        faces.subset(faces.is_valid)
    assert reads.names


def test_convolutions_of_the_training_are_benchmarked(monkeypatch, tmp_path):
    faces, flags = load_faces(None, "cpu", 8), []

    def step(trained, progress):
        flags.append(torch.backends.cudnn.benchmark)
        return torch.zeros(())

    monkeypatch.setattr(training.Training, "step", step)
    training.measure_step(faces, "cpu", TINY, CEILINGS)
    list(training.train(faces, "cpu", 0.0, TINY, tmp_path))
    assert flags == [True] * 3
    assert not torch.backends.cudnn.benchmark


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_without_a_gpu_the_reason_is_reported(tmp_path, capsys):
    assert command.main([str(tmp_path / "out")]) == 1
    assert capsys.readouterr().err.startswith("gpu_check: PyTorch can use no CUDA device")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "content",
    [b"", b"no archive", {"faces": np.zeros((2, 3, 3))}, {"faces": np.zeros((2, 9), np.uint8)}],
)
def test_an_invalid_face_file_is_reported_in_one_line(tmp_path, capsys, content):
    path = tmp_path / "faces.npz"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        np.savez(path, **content, votes=np.zeros((2, 8), np.uint8), is_valid=np.zeros(2, np.uint8))
    assert command.main([str(tmp_path / "out"), "--dry-run", "--faces", str(path)]) == 1
    error = capsys.readouterr().err
    assert error.startswith(f"gpu_check: {path}: expected")
    assert error.count("\n") == 1


@pytest.mark.parametrize("max_bytes", [60 * 2**20, 12 * 100**2, 12 * 20**2])
def test_faces_of_datasets_are_packed_within_a_size(tmp_path, capsys, monkeypatch, max_bytes):
    random = np.random.default_rng(0)
    for split, count in (("train", 8), ("valid", 4)):
        write_dataset(
            tmp_path / f"ferplus_{split}",
            padded_crop=random.integers(0, 256, (count, 144, 144), np.uint8),
            votes=np.eye(10, dtype=np.int8)[np.arange(count) % 8] * 10,
        )
    monkeypatch.setattr(training, "MAX_BYTES", max_bytes)
    out = tmp_path / "faces.npz"
    assert command.main([str(out), "--export-faces", str(tmp_path)]) == 0
    assert f"{out}: 12 faces, " in capsys.readouterr().out
    assert out.stat().st_size <= max_bytes + 2000  # and the names of the arrays
    faces = load_faces(out, "cpu", 0)
    assert faces.is_valid.tolist() == [False] * 8 + [True] * 4
    assert torch.allclose(faces.targets.sum(dim=1), torch.ones(12))


def test_only_pytorch_and_timm_are_required():
    code = "import sys, training.gpu_check; print(*{name.split('.')[0] for name in sys.modules})"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=600
    )
    names = set(done.stdout.split())
    assert {"torch", "timm"} <= names
    assert not names & {"torchmetrics", "lightly", "pyarrow", "pandas", "sklearn", "matplotlib"}


def test_a_detector_on_another_device_than_asked_for_is_out_of_tolerance(monkeypatch):
    monkeypatch.setattr("fer_ros.detectors.session.cuda_status", lambda: CudaStatus(0, ""))
    budget = Budget(60)
    rows = list(check_detector("cuda", budget))
    assert [row["mode"] for row in rows] == ["cpu, first image", "cpu, same size again"]
    assert [row["ok"] for row in rows] == [False, False]
    assert "this build is for the CPU only" in rows[0]["fallback"]
    assert budget.skipped == {}
    for row in check_detector("cpu", budget):
        assert (row["ok"], row["probability_error"], row["fallback"]) == (True, 0.0, "")


def test_datasets_that_cannot_be_packed_are_reported_in_one_line(tmp_path, capsys):
    assert command.main([str(tmp_path / "faces.npz"), "--export-faces", str(tmp_path)]) == 1
    error = capsys.readouterr().err
    assert error.startswith(f"gpu_check: {tmp_path / 'ferplus_train'}/dataset.yaml: no such file")
    assert error.count("\n") == 1


def test_faces_become_padded_crops_and_distributions(tmp_path):
    write_faces(tmp_path / "faces.npz", 6)
    faces = load_faces(tmp_path / "faces.npz", "cpu", 0)
    assert (faces.padded_crops.shape, faces.padded_crops.dtype) == ((6, 144, 144), torch.uint8)
    assert torch.equal(faces.targets, torch.eye(8)[:6])
    assert faces.is_valid.tolist() == [True, False, False, True, False, False]
