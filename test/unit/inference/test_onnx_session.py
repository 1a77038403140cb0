"""Graphs in ONNX Runtime: its predictions, and its failures in one line."""

import numpy as np
import pytest
from onnx import TensorProto, helper
from onnxruntime.capi import onnxruntime_pybind11_state as failures

from fer_ros.inference.onnx_session import OnnxSession


def graph(operator: str = "Neg") -> bytes:
    """One operator on a row of numbers."""
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n"]) for name in "xy"]
    node = helper.make_node(operator, ["x"], ["y"])
    model = helper.make_model(
        helper.make_graph([node], "small", values[:1], values[1:]),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=8,
    )
    helper.set_model_props(model, {"name": "small"})
    return model.SerializeToString()


@pytest.mark.parametrize("count", [0, 1, 3])
def test_a_graph_is_computed(count):
    (result,) = OnnxSession(graph(), threads=1).run(np.ones(count, np.float32))
    np.testing.assert_array_equal(result, -np.ones(count, np.float32))


def test_metadata_describes_it():
    session = OnnxSession(graph(), threads=1)
    assert (session.provider, session.metadata) == ("CPUExecutionProvider", {"name": "small"})


def test_a_provider_that_computes_nothing_is_refused():
    """ONNX Runtime would compute on the CPU and name the provider: this one has no operators."""
    with pytest.raises(RuntimeError, match="assigned to the default CPU EP"):
        OnnxSession(graph(), 1, "AzureExecutionProvider")


@pytest.mark.parametrize("content", [b"", b"<html>404</html>", graph("Nothing")])
def test_an_invalid_graph_is_reported_in_one_line(content):
    with pytest.raises(RuntimeError) as caught:
        OnnxSession(content, threads=1)
    assert "\n" not in str(caught.value)


def test_a_wrong_batch_is_reported_in_one_line():
    with pytest.raises(RuntimeError, match=r"^.+$"):
        OnnxSession(graph(), threads=1).run(np.ones((2, 2), np.float32))


@pytest.mark.parametrize("kind", ["Fail", "RuntimeException", "EPFail"])
def test_runtime_failures_are_reported_in_one_line(monkeypatch, kind):
    """They have no base of their own and would end a node."""
    session = OnnxSession(graph(), threads=1)

    class Broken:
        def run(self, *_):
            raise getattr(failures, kind)("no memory\nfor 4 bytes")

    monkeypatch.setattr(session, "_session", Broken())
    with pytest.raises(RuntimeError, match=r"^no memory for 4 bytes$"):
        session.run(np.ones(1, np.float32))
