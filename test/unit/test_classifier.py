"""Crops to points and probabilities with real networks."""

import numpy as np
import pytest
import torch

from fer_ros.classifier import Classifier
from fer_ros.config import ClassifierConfig
from fer_ros.inference.backends import BackendSelection, open_backend
from fer_ros.inference.model_store import InputSpec
from fer_ros.models import build_model
from fer_ros.models.checkpoint import save_model
from fer_ros.models.wrapper import FaceNetwork

RUNTIMES = ("ONNX Runtime", "PyTorch")


@pytest.fixture(scope="module", params=["onnx", "torch"])
def classifier(request, tmp_path_factory) -> Classifier:
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("models") / "fresh"
    config = {"image": "face_resnet_small"}
    network = FaceNetwork(build_model("two_stream_small", **config), InputSpec())
    save_model(network, folder, "two_stream_small", **config)
    return Classifier(
        ClassifierConfig(model=str(folder), backend=request.param, device="cpu", threads=1)
    )


@pytest.mark.parametrize("count", [0, 1, 5])
def test_shapes_for_any_number_of_faces(classifier, count):
    crops = np.random.default_rng(0).integers(0, 256, (count, 112, 112, 3), np.uint8)
    predictions = classifier.classify(crops)
    points_xy, probabilities = predictions.points_xy, predictions.probabilities
    assert len(predictions) == count
    assert (points_xy.shape, probabilities.shape) == ((count, 68, 2), (count, 8))
    assert points_xy.dtype == probabilities.dtype == np.float32
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-5)


@pytest.mark.parametrize("count", [1, 5])
def test_attention_at_three_scales(classifier, count):
    crops = np.random.default_rng(0).integers(0, 256, (count, 112, 112, 3), np.uint8)
    maps = classifier.attention(crops)
    assert [attention.shape for attention in maps] == [
        (count, 28, 28),
        (count, 14, 14),
        (count, 7, 7),
    ]
    for attention in maps:
        assert attention.dtype == np.float32
        np.testing.assert_allclose(attention.mean(axis=(1, 2)), 1, rtol=1e-4)


def test_read_only_crops_are_accepted(classifier):
    crops = np.zeros((1, 112, 112, 3), np.uint8)
    crops.setflags(write=False)
    assert np.isfinite(classifier.classify(crops).points_xy).all()


def test_a_network_without_attention(tmp_path):
    network = FaceNetwork(build_model("vgg13"), InputSpec(size_px=64))
    save_model(network, tmp_path, "vgg13")
    classifier = Classifier(ClassifierConfig(model=str(tmp_path), device="cpu"))
    assert classifier.attention(np.zeros((1, 112, 112, 3), np.uint8)) is None


def test_metadata_describes_it(classifier):
    classifier.warm_up()
    assert classifier.device == "cpu"
    assert classifier.manifest.name == "fresh"
    assert classifier.reason in {f"{name} on cpu: as configured" for name in RUNTIMES}
    assert classifier.fallback == ""


def test_the_cpu_takes_over_from_a_gpu_in_fp16(monkeypatch):
    class Full:
        name, device = "PyTorch in fp16", "cuda"
        provider, precision = "PyTorch", "fp16"

        def run(self, crops_rgb):
            raise RuntimeError("out of memory")

    def opened(model_manifest, config):
        is_first = config.device == "auto"
        return (
            BackendSelection(Full(), "", "") if is_first else open_backend(model_manifest, config)
        )

    monkeypatch.setattr("fer_ros.classifier.open_backend", opened)
    classifier = Classifier(ClassifierConfig(precision="fp16", threads=1))
    predictions = classifier.classify(np.zeros((1, 112, 112, 3), np.uint8))
    assert (classifier.device, predictions.probabilities.shape) == ("cpu", (1, 8))


@pytest.fixture(scope="module")
def model_with_blendshapes(tmp_path_factory):
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("models") / "shapes"
    config = {"image": "mobilenet", "scales": 2, "blendshapes": True}
    network = FaceNetwork(build_model("two_stream_small", **config), InputSpec())
    save_model(network, folder, "two_stream_small", **config)
    return folder


@pytest.mark.parametrize("backend", ["onnx", "torch"])
@pytest.mark.parametrize("count", [0, 1, 3])
def test_blendshapes_of_a_model_that_has_them(model_with_blendshapes, backend, count):
    classifier = Classifier(
        ClassifierConfig(
            model=str(model_with_blendshapes), backend=backend, device="cpu", threads=1
        )
    )
    crops = np.random.default_rng(0).integers(0, 256, (count, 112, 112, 3), np.uint8)
    blendshapes = classifier.classify(crops).blendshapes
    if count == 0:
        assert blendshapes is None
    else:
        assert (blendshapes.shape, blendshapes.dtype) == ((count, 52), np.float32)
        assert ((blendshapes >= 0) & (blendshapes <= 1)).all()
        assert len(classifier.attention(crops)) == 2
