"""CenterFace in int8, for CPUs with int8 dot products.

Weights are quantized per output channel, activations per tensor (Jacob et al., 2018). The weights
are those of the published file; the ranges of the activations are those that
``training.calibrate_detector`` measured for it. The quantized graph is kept in the cache folder.
"""

import hashlib
import importlib.util
import json
import logging
from collections.abc import Mapping
from pathlib import Path
from tempfile import gettempdir
from typing import TYPE_CHECKING

from fer_ros.inference.backends.onnx_cache import load_graph, store_graph
from fer_ros.inference.model_store import cache_folder

if TYPE_CHECKING:
    import onnx

RANGES_FILE = Path(__file__).with_name("centerface_ranges.json")
"""Lowest and highest value of each activation."""

OPERATORS = ["Add", "Conv", "Relu"]
"""Operators that are computed in int8."""

_OPSET = 13  # the first one with scales per channel

_log = logging.getLogger(__name__)


def can_quantize() -> bool:
    """Whether ONNX Runtime has the tools that make the graph, which some builds lack."""
    try:
        return importlib.util.find_spec("onnxruntime.quantization") is not None
    except ModuleNotFoundError:  # ONNX Runtime is missing
        return False


def int8_graph(model: "onnx.ModelProto") -> bytes:
    """Return the quantized graph of the published network, from the cache or made now.

    Making it takes about five seconds, most of them for imports.
    """
    import onnxruntime

    _log.info("face detector: CenterFace in int8")
    ranges = RANGES_FILE.read_bytes()
    parts = (model.SerializeToString(), ranges, onnxruntime.__version__.encode())
    digest = hashlib.sha256(b"".join(parts)).hexdigest()
    path = cache_folder() / f"centerface-int8-{digest[:16]}.onnx"
    graph = load_graph(path)
    return graph or _make_graph(model, json.loads(ranges), path)


def _make_graph(
    model: "onnx.ModelProto", ranges: Mapping[str, tuple[float, float]], path: Path
) -> bytes:
    """Quantize the network and store it, with a warning where either has no space on the disk.

    ONNX Runtime writes temporary files to quantize it; without them it stays in fp32.
    """
    try:
        graph = quantize(name_nodes(model), ranges).SerializeToString()
    except OSError as error:
        _log.warning(
            "%s: the face detector in int8 cannot be made and is computed in fp32: %s; free space "
            "in the temporary folder",
            gettempdir(),
            error.strerror or error,
        )
        return model.SerializeToString()
    try:
        store_graph(graph, path)
    except OSError as error:
        _log.warning(
            "%s: the face detector in int8 cannot be stored and is made again at each start: %s; "
            "name a writable folder with free space in FER_ROS_CACHE",
            path,
            error.strerror or error,
        )
    return graph


def name_nodes(model: "onnx.ModelProto") -> "onnx.ModelProto":
    """Return a copy in the operator set that int8 needs, all of whose nodes have names."""
    from onnx.version_converter import convert_version

    converted = convert_version(model, _OPSET)
    for number, node in enumerate(converted.graph.node):
        node.name = node.name or f"{node.op_type}_{number}"
    return converted


def quantize(
    model: "onnx.ModelProto", ranges: Mapping[str, tuple[float, float]]
) -> "onnx.ModelProto":
    """Quantize a graph of ``name_nodes``, in place; ``ranges``: lowest and highest activations.

    The narrow last layers, which give scores and positions, stay in fp32.
    """
    import numpy as np
    from onnxruntime.quantization import CalibrationMethod, QDQQuantizer, QuantType
    from onnxruntime.quantization.calibrate import TensorData, TensorsData

    activations = {
        name: TensorData(lowest=np.float32(low), highest=np.float32(high))
        for name, (low, high) in ranges.items()
    }
    quantizer = QDQQuantizer(
        model,
        per_channel=True,
        reduce_range=False,
        weight_qType=QuantType.QInt8,
        activation_qType=QuantType.QUInt8,
        tensors_range=TensorsData(CalibrationMethod.MinMax, activations),
        nodes_to_quantize=[],
        nodes_to_exclude=_output_layers(model.graph),
        op_types_to_quantize=OPERATORS,
        extra_options={},
    )
    quantizer.quantize_model()
    quantized: onnx.ModelProto = quantizer.model.model
    return quantized


def _output_layers(graph: "onnx.GraphProto") -> list[str]:
    """Names of the last convolutions."""
    outputs = {output.name for output in graph.output}
    for node in reversed(graph.node):
        if node.op_type == "Sigmoid" and outputs.intersection(node.output):
            outputs.update(node.input)
    return [node.name for node in graph.node if outputs.intersection(node.output)]
