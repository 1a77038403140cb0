"""Quantization to int8, kept if the model stays accurate."""

import numpy as np
import pytest
import torch
from dataset_tools import write_dataset

from fer_ros.inference.backends.onnx_cache import load_or_export
from fer_ros.inference.model_store import InputSpec, ModelManifest, read_manifest
from fer_ros.inference.onnx_session import OnnxSession
from fer_ros.models import build_model
from fer_ros.models.checkpoint import save_model
from fer_ros.models.wrapper import FaceNetwork
from training import quantize

FACES = 33


@pytest.fixture(scope="module")
def manifest(tmp_path_factory) -> ModelManifest:
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("models") / "fresh"
    return save_model(FaceNetwork(build_model("vgg13"), InputSpec(size_px=64)), folder, "vgg13")


def predictions(session: OnnxSession, padded_crops: np.ndarray) -> np.ndarray:
    return session.run(quantize.gray_to_rgb(padded_crops[:, 16:128, 16:128]))[1].argmax(axis=1)


@pytest.fixture(scope="module")
def datasets(manifest, tmp_path_factory):
    """Noise, labeled with the predictions of the model."""
    folder = tmp_path_factory.mktemp("datasets")
    for number, split in enumerate(("train", "valid", "test")):
        padded_crops = np.random.default_rng(number).integers(0, 256, (FACES, 144, 144), np.uint8)
        labels = predictions(OnnxSession(load_or_export(manifest), 1), padded_crops).astype(np.int8)
        write_dataset(folder / f"ferplus_{split}", padded_crop=padded_crops, label=labels)
    return folder


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(
        quantize, "time_interleaved", lambda works, seconds: dict.fromkeys(works, 2.0)
    )


def test_accuracies_are_compared(manifest, datasets):
    same = OnnxSession(load_or_export(manifest), 1)

    class Wrong:
        def run(self, crops_rgb):
            points_xy, probabilities = same.run(crops_rgb)
            blendshapes = np.zeros((len(crops_rgb), 52), np.float32)
            return points_xy + np.float32(0), np.roll(probabilities, 1, axis=1), blendshapes

    result = quantize.compare(same, Wrong(), datasets / "ferplus_valid")
    assert (result.images, result.accuracy, result.int8_accuracy) == (FACES, 1.0, 0.0)


def test_an_accurate_int8_model_is_kept(manifest, datasets, tmp_path, capsys):
    arguments = [str(manifest.folder), str(datasets), str(tmp_path / "fresh_int8")]
    assert quantize.main(arguments) == 0
    output = capsys.readouterr().out
    assert f"valid, {FACES} faces: accuracy 100.0%, int8 100.0%" in output
    assert "faces 5: 2.0 ms, int8 2.0 ms, ratio 1.00" in output
    saved = read_manifest(tmp_path / "fresh_int8")
    saved.verify()
    assert OnnxSession(load_or_export(saved), 1).metadata["precision"] == "int8"


@pytest.mark.parametrize(
    ("drop", "shift_px"),
    [(quantize.MAX_ACCURACY_DROP + 0.001, 0.0), (0.0, quantize.MAX_LANDMARK_SHIFT_PX + 0.001)],
)
def test_an_inaccurate_int8_model_is_not_kept(
    manifest, datasets, tmp_path, monkeypatch, drop, shift_px
):
    lossy = quantize.QuantizationResult(FACES, 0.8, 0.8 - drop, shift_px)
    monkeypatch.setattr(quantize, "quantize", lambda graph, crops: graph)
    monkeypatch.setattr(quantize, "compare", lambda fp32, int8, dataset: lossy)
    assert quantize.main([str(manifest.folder), str(datasets), str(tmp_path / "lossy")]) == 1
    assert not (tmp_path / "lossy").exists()


@pytest.mark.parametrize("model", ["", "unknown_model"])
def test_errors_are_reported_in_one_line(manifest, datasets, tmp_path, capsys, model):
    assert quantize.main([model, str(datasets), str(tmp_path / "out")]) == 1
    assert quantize.main([str(manifest.folder), str(tmp_path / "none"), str(tmp_path / "out")]) == 1
    first, second = capsys.readouterr().err.splitlines()
    assert first.startswith("quantize: ")
    assert "ferplus_train" in second
