"""CenterFace in PyTorch equals the ONNX file."""

import numpy as np
import pytest
from onnx import TensorProto, helper

from fer_ros.detectors.base import DetectorError
from fer_ros.detectors.centerface import load_centerface
from fer_ros.detectors.session import open_detector
from fer_ros.detectors.torch_graph import TorchGraph


@pytest.mark.parametrize(("height", "width"), [(32, 32), (96, 160)])
def test_pytorch_outputs_equal_those_of_the_onnx_file(
    published_centerface, astronaut, height, width
):
    model = load_centerface(published_centerface)
    image = astronaut[40 : 40 + height, 160 : 160 + width]
    batch = image.transpose(2, 0, 1)[None].astype(np.float32)
    expected = open_detector(model, "cpu", 1, torch_works=True).run(batch)
    maps = TorchGraph(model, "cpu").run(batch)
    assert len(maps) == len(expected) == 4
    for ours, theirs in zip(maps, expected, strict=True):
        assert ours.shape == theirs.shape
        np.testing.assert_allclose(ours, theirs, atol=1e-4)


def model_of(kind, **attributes):
    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, (1, 3, 8, 8))
    result = helper.make_tensor_value_info("y", TensorProto.FLOAT, (1, 3, 8, 8))
    weight = helper.make_tensor("w", TensorProto.FLOAT, (3, 3, 3, 3), np.arange(81.0))
    node = helper.make_node(kind, ["x", "w"], ["y"], **attributes)
    graph = helper.make_graph([node], "other", [value], [result], [weight])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (model_of("Softmax"), r"unknown operators \['Softmax'\]"),
        (model_of("Conv", pads=[0, 0, 2, 2]), "convolution y: expected the same padding"),
        (model_of("Conv", auto_pad="SAME_UPPER"), "convolution y: expected the same padding"),
    ],
)
def test_what_pytorch_cannot_compute_is_refused_at_once(model, message):
    with pytest.raises(DetectorError, match=message):
        TorchGraph(model, "cpu")


@pytest.mark.parametrize("kind", ["Conv", "ConvTranspose"])
def test_attributes_that_are_missing_have_the_values_of_the_standard(kind):
    model, batch = model_of(kind), np.random.default_rng(0).random((1, 3, 8, 8), np.float32)
    (expected,) = open_detector(model, "cpu", 1, torch_works=True).run(batch)
    (result,) = TorchGraph(model, "cpu").run(batch)
    np.testing.assert_allclose(result, expected, rtol=1e-5)
