"""A small ONNX graph of convolutions in PyTorch, with the same weights: runs detectors on CUDA.

On a GPU, image sizes that come up again are computed by CUDA graphs.
"""

from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from fer_ros.detectors.base import DetectorError
from fer_ros.detectors.shape_graphs import ShapeGraphs
from fer_ros.inference.graph_capture import Compute

if TYPE_CHECKING:
    import onnx


class TorchGraph(nn.Module):
    """Computes the nodes of a graph in order. Supports what CenterFace consists of.

    Raises DetectorError for any other operator, for uneven padding, and where PyTorch cannot use
    CUDA.
    """

    def __init__(self, model: "onnx.ModelProto", device: str) -> None:
        super().__init__()
        from onnx import helper, numpy_helper

        self.device = device
        self._nodes = [
            (
                node.op_type,
                list(node.input),
                list(node.output),
                {item.name: helper.get_attribute_value(item) for item in node.attribute},
            )
            for node in model.graph.node
        ]
        unknown = {kind for kind, *_ in self._nodes} - _OPERATORS.keys()
        if unknown:
            raise DetectorError(f"detector model in PyTorch: unknown operators {sorted(unknown)}")
        for kind, _, outputs, attributes in self._nodes:
            if kind == "Conv" and _padding(attributes) is None:
                raise DetectorError(
                    f"detector model in PyTorch: convolution {outputs[0]}: expected the same "
                    f"padding on both sides, found {attributes}"
                )
        is_cuda = device.startswith("cuda")
        if is_cuda and not torch.cuda.is_available():
            # A build for the CPU would raise AssertionError.
            raise DetectorError(
                f"PyTorch {torch.__version__} can use 0 CUDA devices; its CUDA version is "
                f"{torch.version.cuda}, the driver may be older"
            )
        self._outputs = [value.name for value in model.graph.output]
        self._input = model.graph.input[0].name
        self._weights = {
            tensor.name: torch.tensor(numpy_helper.to_array(tensor), device=device)
            for tensor in model.graph.initializer
        }
        self._compute: Compute = ShapeGraphs(self.forward, device) if is_cuda else self.forward

    def forward(self, batch: Tensor) -> tuple[Tensor, ...]:
        """The outputs of the graph for a batch (1, 3, h, w)."""
        values = {**self._weights, self._input: batch}
        for kind, inputs, outputs, attributes in self._nodes:
            values[outputs[0]] = _OPERATORS[kind]([values[name] for name in inputs], attributes)
        return tuple(values[name] for name in self._outputs)

    @torch.inference_mode()
    def run(self, batch: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        """The outputs for a batch (1, 3, h, w). Raises RuntimeError, for example out of memory."""
        outputs = self._compute(torch.from_numpy(batch).to(self.device))
        return [output.cpu().numpy() for output in outputs]


def _padding(attributes: dict) -> tuple[int, int] | None:
    """Rows and columns added on each side; None where sides differ or the padding is computed."""
    top, left, bottom, right = attributes.get("pads", [0, 0, 0, 0])
    is_explicit = attributes.get("auto_pad", b"NOTSET") == b"NOTSET"
    return (top, left) if is_explicit and (top, left) == (bottom, right) else None


def _conv(inputs: list[Tensor], attributes: dict) -> Tensor:
    image, weight = inputs[:2]
    return functional.conv2d(
        image,
        weight,
        inputs[2] if len(inputs) > 2 else None,
        stride=attributes.get("strides", [1, 1]),
        padding=_padding(attributes) or 0,
        dilation=attributes.get("dilations", [1, 1]),
        groups=attributes.get("group", 1),
    )


def _conv_transpose(inputs: list[Tensor], attributes: dict) -> Tensor:
    image, weight = inputs[:2]
    return functional.conv_transpose2d(
        image,
        weight,
        inputs[2] if len(inputs) > 2 else None,
        stride=attributes.get("strides", [1, 1]),
        groups=attributes.get("group", 1),
    )


def _batch_norm(inputs: list[Tensor], attributes: dict) -> Tensor:
    values, weight, bias, mean, variance = inputs
    return functional.batch_norm(
        values, mean, variance, weight, bias, eps=attributes.get("epsilon", 1e-5)
    )


_OPERATORS = {
    "Conv": _conv,
    "ConvTranspose": _conv_transpose,
    "BatchNormalization": _batch_norm,
    "Relu": lambda inputs, attributes: functional.relu(inputs[0]),
    "Add": lambda inputs, attributes: inputs[0] + inputs[1],
    "Sigmoid": lambda inputs, attributes: inputs[0].sigmoid(),
}
