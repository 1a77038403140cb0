"""Graphs in ONNX Runtime: its answers, and its failures in one line."""

import numpy as np
import pytest
from onnx import TensorProto, helper
from onnxruntime.capi import onnxruntime_pybind11_state as failures

from fer_ros.onnx_session import OnnxSession


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
def test_it_computes(count):
    (answer,) = OnnxSession(graph(), threads=1).run(np.ones(count, np.float32))
    np.testing.assert_array_equal(answer, -np.ones(count, np.float32))


def test_it_says_what_it_is():
    session = OnnxSession(graph(), threads=1)
    assert (session.provider, session.metadata) == ("CPUExecutionProvider", {"name": "small"})


@pytest.mark.parametrize("content", [b"", b"<html>404</html>", graph("Nothing")])
def test_what_is_no_graph_is_one_line(content):
    with pytest.raises(RuntimeError) as caught:
        OnnxSession(content, threads=1)
    assert "\n" not in str(caught.value)


def test_a_wrong_batch_is_one_line():
    with pytest.raises(RuntimeError, match=r"^.+$"):
        OnnxSession(graph(), threads=1).run(np.ones((2, 2), np.float32))


@pytest.mark.parametrize("kind", ["Fail", "RuntimeException", "EPFail"])
def test_failures_of_the_runtime_are_one_line(monkeypatch, kind):
    """They have no base of their own and would end a node."""
    session = OnnxSession(graph(), threads=1)

    class Broken:
        def run(self, *_):
            raise getattr(failures, kind)("no memory\nfor 4 bytes")

    monkeypatch.setattr(session, "_session", Broken())
    with pytest.raises(RuntimeError, match=r"^no memory for 4 bytes$"):
        session.run(np.ones(1, np.float32))
