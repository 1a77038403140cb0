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


def test_an_unknown_operator_is_rejected():
    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, (1, 3, 8, 8))
    node = helper.make_node("Softmax", ["x"], ["x2"])
    model = helper.make_model(helper.make_graph([node], "other", [value], [value]))
    with pytest.raises(DetectorError, match=r"unknown operators \['Softmax'\]"):
        TorchGraph(model, "cpu")
