"""Crops to points and probabilities with real networks."""

import numpy as np
import pytest
import torch

from fer_ros.backends import Choice, open_backend
from fer_ros.classify import Classifier
from fer_ros.config import ClassifierConfig
from fer_ros.model import build_model
from fer_ros.model.checkpoint import save_model
from fer_ros.model.network import FaceNetwork
from fer_ros.weights import InputSpec

RUNTIMES = ("ONNX Runtime", "PyTorch")


@pytest.fixture(scope="module", params=["onnx", "torch"])
def classifier(request, tmp_path_factory) -> Classifier:
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("models") / "fresh"
    save_model(
        FaceNetwork(build_model("two_stream_small"), InputSpec()), folder, "two_stream_small"
    )
    return Classifier(
        ClassifierConfig(model=str(folder), backend=request.param, device="cpu", threads=1)
    )


@pytest.mark.parametrize("count", [0, 1, 5])
def test_shapes_whatever_the_number_of_faces(classifier, count):
    crops = np.random.default_rng(0).integers(0, 256, (count, 112, 112, 3), np.uint8)
    points_xy, probabilities = classifier.classify(crops)
    assert (points_xy.shape, probabilities.shape) == ((count, 68, 2), (count, 8))
    assert points_xy.dtype == probabilities.dtype == np.float32
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-5)


@pytest.mark.parametrize("count", [1, 5])
def test_attention_at_three_scales(classifier, count):
    crops = np.random.default_rng(0).integers(0, 256, (count, 112, 112, 3), np.uint8)
    maps = classifier.attention(crops)
    assert [each.shape for each in maps] == [(count, 28, 28), (count, 14, 14), (count, 7, 7)]
    for each in maps:
        assert each.dtype == np.float32
        np.testing.assert_allclose(each.mean(axis=(1, 2)), 1, rtol=1e-4)


def test_read_only_crops_are_fine(classifier):
    crops = np.zeros((1, 112, 112, 3), np.uint8)
    crops.setflags(write=False)
    assert np.isfinite(classifier.classify(crops)[0]).all()


def test_a_network_without_attention(tmp_path):
    network = FaceNetwork(build_model("vgg13"), InputSpec(size_px=64))
    save_model(network, tmp_path, "vgg13")
    classifier = Classifier(ClassifierConfig(model=str(tmp_path), device="cpu"))
    assert classifier.attention(np.zeros((1, 112, 112, 3), np.uint8)) is None


def test_it_says_what_it_is(classifier):
    classifier.warm_up()
    assert classifier.device == "cpu"
    assert classifier.card.name == "fresh"
    assert classifier.reason in {f"{name} on cpu: as the settings say" for name in RUNTIMES}
    assert classifier.fallback == ""


def test_the_cpu_takes_over_from_a_gpu_in_fp16(monkeypatch):
    class Full:
        name, device = "PyTorch in fp16", "cuda"

        def run(self, crops_rgb):
            raise RuntimeError("out of memory")

    def opened(card, config):
        is_first = config.device == "auto"
        return Choice(Full(), "", "") if is_first else open_backend(card, config)

    monkeypatch.setattr("fer_ros.classify.open_backend", opened)
    classifier = Classifier(ClassifierConfig(precision="fp16", threads=1))
    _, probabilities = classifier.classify(np.zeros((1, 112, 112, 3), np.uint8))
    assert (classifier.device, probabilities.shape) == ("cpu", (1, 8))
