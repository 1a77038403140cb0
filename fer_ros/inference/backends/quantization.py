"""Static int8 quantization of an exported graph, calibrated on faces.

Weights are quantized per output channel, activations per tensor (Jacob et al., 2018;
Krishnamoorthi, 2018, section 3). Weights use 7 of 8 bits: on x86 CPUs without VNNI, sums of two
products of 8 bits saturate (ONNX Runtime documentation, "Quantize ONNX models", reduce_range).
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

from fer_ros.inference.backends.onnx_cache import GRAPH_INPUT, WEIGHT_BITS, replace_file
from fer_ros.inference.model_store import (
    ModelError,
    ModelManifest,
    settings_digest,
    sha256_of,
    write_manifest,
)
from fer_ros.inference.onnx_session import OnnxSession

MIN_FACES = 32
WEIGHTS_FILE = "weights.onnx"

_BATCH = 16
_MIN_CHANNELS = 16  # narrower convolutions are slower in int8
_DEPTHWISE_SHAPE = [1, 3, 3]


def save_quantized(manifest: ModelManifest, graph: bytes, folder: Path) -> ModelManifest:
    """Write a model folder with the graph as weights; the folder's name becomes the model's.

    Raises OSError.
    """
    folder.mkdir(parents=True, exist_ok=True)
    replace_file(folder / WEIGHTS_FILE, graph)
    sha256 = sha256_of(folder / WEIGHTS_FILE)
    saved = replace(
        manifest,
        name=folder.name,
        weights=WEIGHTS_FILE,
        sha256=sha256,
        quantized_from=manifest.sha256,
        settings_sha256=settings_digest(manifest),
        folder=folder,
    )
    write_manifest(saved)
    return saved


def quantize(graph: bytes, crops_rgb: NDArray[np.uint8]) -> bytes:
    """Quantize the wide layers of a graph of ``export_onnx``; metadata is kept.

    Attention and the narrow first and last layers stay in float32.

    Args:
        graph: serialized ONNX graph.
        crops_rgb: (N, 112, 112, 3) calibration faces, N >= MIN_FACES.

    Raises:
        ModelError: too few faces, or no layer to quantize.
    """
    if len(crops_rgb) < MIN_FACES:
        raise ModelError(f"expected {MIN_FACES} faces or more to calibrate, found {len(crops_rgb)}")
    original = onnx.load_from_string(graph)
    metadata = {prop.key: prop.value for prop in original.metadata_props}
    with tempfile.TemporaryDirectory() as folder:
        prepared, output = Path(folder) / "prepared.onnx", Path(folder) / "int8.onnx"
        quant_pre_process(original, str(prepared), skip_symbolic_shape=True)
        model = onnx.load(prepared)
        names = list(_nodes_to_quantize(model.graph))
        if not names:
            raise ModelError("nothing to quantize: all layers are narrow")
        quantize_static(
            model,
            str(output),
            _CalibrationReader(crops_rgb),
            per_channel=True,
            reduce_range=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            op_types_to_quantize=["Conv", "MatMul", "Relu"],  # others may put out NaN: no landmarks
            nodes_to_quantize=names,
            extra_options={"OpTypesToExcludeOutputQuantization": ["MatMul"]},
        )
        quantized = onnx.load(output)
    onnx.helper.set_model_props(quantized, {**metadata, "precision": "int8", WEIGHT_BITS: "7"})
    return quantized.SerializeToString()


def top1_agreement(graph: bytes, quantized: bytes, crops_rgb: NDArray[np.uint8]) -> float:
    """Fraction of crops (N, 112, 112, 3) to which both graphs assign the same emotion."""
    emotions = []
    for model in (graph, quantized):
        session, starts = OnnxSession(model), range(0, len(crops_rgb), _BATCH)
        batches = [session.run(crops_rgb[i : i + _BATCH])[1].argmax(axis=1) for i in starts]
        emotions.append(np.concatenate(batches))
    return float(np.mean(emotions[0] == emotions[1]))


class _CalibrationReader(CalibrationDataReader):
    def __init__(self, crops_rgb: NDArray[np.uint8]) -> None:
        starts = range(0, len(crops_rgb), _BATCH)
        self._batches = iter([{GRAPH_INPUT: crops_rgb[i : i + _BATCH]} for i in starts])

    def get_next(self) -> dict[str, NDArray[np.uint8]] | None:
        return next(self._batches, None)


def _nodes_to_quantize(graph: onnx.GraphProto) -> Iterator[str]:
    """Names of wide convolutions and matrix products, and of the cheap layers after them.

    A ReLU is fused into the quantized layer before it. A depthwise convolution is faster in
    float32, but not if its input has to be dequantized for it.
    """
    weights = {tensor.name: tensor.dims for tensor in graph.initializer}
    quantized: set[str] = set()
    for node in graph.node:
        shape = weights.get(node.input[1], ()) if len(node.input) > 1 else ()
        is_cheap = node.op_type == "Relu" or _is_depthwise(node, shape)
        if _is_wide(node, shape) or (is_cheap and node.input[0] in quantized):
            quantized.update(node.output)
            yield node.name


def _is_wide(node: onnx.NodeProto, shape: Sequence[int]) -> bool:
    """``shape``: (outputs, inputs per group, height, width), or (inputs, outputs) of a MatMul."""
    if node.op_type == "MatMul":
        return len(shape) == 2 and shape[1] >= _MIN_CHANNELS
    return node.op_type == "Conv" and len(shape) == 4 and shape[1] >= _MIN_CHANNELS


def _is_depthwise(node: onnx.NodeProto, shape: Sequence[int]) -> bool:
    return node.op_type == "Conv" and shape[1:] == _DEPTHWISE_SHAPE
