"""An exported graph to int8, calibrated on faces: faster, with answers that differ a little.

Static quantisation of weights, per output channel, and of activations, per tensor (Jacob et al.,
2018; Krishnamoorthi, 2018, section 3).
"""

import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

from fer_ros.backends.export import OUTPUTS
from fer_ros.backends.graphs import replace_file
from fer_ros.backends.providers import INPUT
from fer_ros.onnx_session import OnnxSession
from fer_ros.weights import ModelCard, ModelError, sha256_of, write_card

MIN_FACES = 32
WEIGHTS_FILE = "weights.onnx"

_AT_ONCE = 16
_MIN_CHANNELS = 16  # below, an int8 convolution is slower than the other kind


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

    ``crops_rgb`` (N, 112, 112, 3), N at least MIN_FACES: faces as the model will see them. Layers
    that the points depend on stay as they are, and so do attention and the last, small layers.
    Raises ModelError, one line, for fewer faces, and when nothing is left to quantise.
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
            raise ModelError("nothing to quantise: all its layers are small, or of the landmarks")
        quantize_static(
            model,
            str(done),
            _Faces(crops_rgb),
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            nodes_to_quantize=names,
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
    """Names of convolutions and products with weights on the road to the emotions alone."""
    weights = {each.name: each.dims for each in graph.initializer}
    landmarks = _behind(graph, OUTPUTS[0])
    for node in graph.node:
        if node.name in landmarks or len(node.input) < 2 or node.input[1] not in weights:
            continue
        # (outputs, inputs, height, width) of a convolution, groups counted out; (inputs, outputs)
        shape = weights[node.input[1]]
        is_wide = len(shape) > 1 and shape[1] >= _MIN_CHANNELS
        if is_wide and node.op_type in {"Conv", "MatMul"}:
            yield node.name


def _behind(graph: onnx.GraphProto, output: str) -> set[str]:
    """Names of the nodes that an output depends on."""
    makers = {made: node for node in graph.node for made in node.output}
    found: set[str] = set()
    wanted = [output]
    while wanted:
        node = makers.get(wanted.pop())
        if node and node.name not in found:
            found.add(node.name)
            wanted += node.input
    return found
