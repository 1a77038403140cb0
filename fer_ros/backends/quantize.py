"""An exported graph to int8, calibrated on faces: faster, with answers that differ a little.

Static quantisation of weights, per output channel, and of activations, per tensor (Jacob et al.,
2018; Krishnamoorthi, 2018, section 3).
"""

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

from fer_ros.backends.graphs import replace_file
from fer_ros.backends.providers import INPUT
from fer_ros.onnx_session import OnnxSession
from fer_ros.weights import ModelCard, ModelError, sha256_of, write_card

MIN_FACES = 32
WEIGHTS_FILE = "weights.onnx"

_AT_ONCE = 16
_MIN_CHANNELS = 16  # below, an int8 convolution is slower than the other kind
_DEPTHWISE = [1, 3, 3]


def save_quantized(card: ModelCard, graph: bytes, folder: Path) -> ModelCard:
    """Writes a model folder whose weights are the graph; its name becomes the model's.

    Raises OSError.
    """
    folder.mkdir(parents=True, exist_ok=True)
    replace_file(folder / WEIGHTS_FILE, graph)
    sha256 = sha256_of(folder / WEIGHTS_FILE)
    saved = replace(card, name=folder.name, weights=WEIGHTS_FILE, sha256=sha256, folder=folder)
    write_card(saved)
    return saved


def quantize(graph: bytes, crops_rgb: NDArray[np.uint8]) -> bytes:
    """A graph of ``export_onnx`` with its heavy layers in int8; metadata as before.

    ``crops_rgb`` (N, 112, 112, 3), N at least MIN_FACES: faces as the model will see them.
    Attention stays as it is, and so do the first layers and the last, small ones. Raises
    ModelError, one line, for fewer faces, and when nothing is left to quantise.
    """
    if len(crops_rgb) < MIN_FACES:
        raise ModelError(f"expected {MIN_FACES} faces or more to calibrate, found {len(crops_rgb)}")
    original = onnx.load_from_string(graph)
    props = {each.key: each.value for each in original.metadata_props}
    with tempfile.TemporaryDirectory() as folder:
        ready, done = Path(folder) / "ready.onnx", Path(folder) / "int8.onnx"
        quant_pre_process(original, str(ready), skip_symbolic_shape=True)
        model = onnx.load(ready)
        names = list(_heavy(model.graph))
        if not names:
            raise ModelError("nothing to quantise: all its layers are small")
        quantize_static(
            model,
            str(done),
            _Faces(crops_rgb),
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            nodes_to_quantize=names,
            extra_options={"OpTypesToExcludeOutputQuantization": ["MatMul"]},
        )
        quantized = onnx.load(done)
    onnx.helper.set_model_props(quantized, {**props, "precision": "int8"})
    return quantized.SerializeToString()


def agreement(graph: bytes, other: bytes, crops_rgb: NDArray[np.uint8]) -> float:
    """On what share of crops (N, 112, 112, 3) two graphs find the same emotion most probable."""
    answers = []
    for each in (graph, other):
        session, starts = OnnxSession(each), range(0, len(crops_rgb), _AT_ONCE)
        parts = [session.run(crops_rgb[at : at + _AT_ONCE])[1].argmax(axis=1) for at in starts]
        answers.append(np.concatenate(parts))
    return float(np.mean(answers[0] == answers[1]))


class _Faces(CalibrationDataReader):
    def __init__(self, crops_rgb: NDArray[np.uint8]) -> None:
        starts = range(0, len(crops_rgb), _AT_ONCE)
        self._batches = iter([{INPUT: crops_rgb[at : at + _AT_ONCE]} for at in starts])

    def get_next(self) -> dict[str, NDArray[np.uint8]] | None:
        return next(self._batches, None)


def _heavy(graph: onnx.GraphProto) -> Iterator[str]:
    """Names of wide convolutions and products with weights, and of what is fast behind them.

    A ReLU in int8 is part of the layer before it; else the map would be turned to floats for it.
    A depthwise convolution is faster in floats, but not when its map has to be turned for it.
    """
    weights = {each.name: each.dims for each in graph.initializer}
    made: set[str] = set()
    for node in graph.node:
        shape = weights.get(node.input[1], ()) if len(node.input) > 1 else ()
        follows = node.op_type == "Relu" or _is_depthwise(node, shape)
        if _is_wide(node, shape) or (follows and node.input[0] in made):
            made.update(node.output)
            yield node.name


def _is_wide(node: onnx.NodeProto, shape: Sequence[int]) -> bool:
    """``shape``: (outputs, inputs of a group, height, width), or (inputs, outputs) of a product."""
    if node.op_type == "MatMul":
        return len(shape) == 2 and shape[1] >= _MIN_CHANNELS
    return node.op_type == "Conv" and len(shape) == 4 and shape[1] >= _MIN_CHANNELS


def _is_depthwise(node: onnx.NodeProto, shape: Sequence[int]) -> bool:
    return node.op_type == "Conv" and shape[1:] == _DEPTHWISE
