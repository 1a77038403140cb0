"""Model to one ONNX graph: uint8 crops in, points and probabilities out, nothing left outside."""

import copy
import io
import json
import warnings
from collections.abc import Sequence
from typing import cast

import numpy as np
import onnx
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from fer_ros.backends.providers import INPUT
from fer_ros.model.checkpoint import load_model
from fer_ros.model.network import FaceNetwork
from fer_ros.onnx_session import OnnxSession
from fer_ros.types import CROP_SIZE_PX
from fer_ros.weights import ModelCard

OUTPUTS = ("points_xy", "probabilities")

_OPSET = 17  # the oldest with layer normalisation
_TOLERANCE_PX, _TOLERANCE = 0.01, 1e-4


class _Predict(nn.Module):
    def __init__(self, network: FaceNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, crops_rgb: Tensor) -> tuple[Tensor, Tensor]:
        return self.network.predict(crops_rgb)


class _SplitPReLU(nn.Module):
    """PReLU as two depthwise convolutions of 1x1, for maps (B, C, H, W).

    ONNX Runtime has no PRelu in the blocked layout of its convolutions on CPUs, and would turn
    every map to the usual layout and back for it.
    """

    def __init__(self, slopes: Tensor) -> None:
        super().__init__()
        self.slopes = nn.Parameter(slopes.detach().view(-1, 1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        count = len(self.slopes)
        above = F.conv2d(x.relu(), 1 - self.slopes, groups=count)
        return above + F.conv2d(x, self.slopes, groups=count)


def _ready(module: nn.Module, blocked: bool) -> nn.Module:
    """The module with PReLUs as ``blocked`` wants them; one whose slopes are 0 is a ReLU.

    A ReLU becomes part of the layer before it in every runtime.
    """
    for name, child in module.named_children():
        slopes = cast(Tensor, child.weight) if isinstance(child, nn.PReLU) else None
        if slopes is None:
            setattr(module, name, _ready(child, blocked))
        elif slopes.count_nonzero() == 0:
            setattr(module, name, nn.ReLU())
        elif blocked and len(slopes) > 1:
            setattr(module, name, _SplitPReLU(slopes))
    return module


def export_onnx(card: ModelCard, blocked: bool = False) -> bytes:
    """The serialised graph of a model; ``blocked``: for CPUs as ``graphs.is_blocked`` says.

    Input ``crops_rgb``: uint8 (N, 112, 112, 3), N above 0. Outputs ``points_xy``: float32
    (N, 68, 2) in crop pixels, and ``probabilities``: float32 (N, 8), with the temperature of the
    card. Metadata: name, labels (JSON), sha256 of the weights, format of the card. Raises
    ModelError when the model cannot be used, RuntimeError when it cannot be exported or when ONNX
    Runtime finds other values than PyTorch.
    """
    network = load_model(card.folder)
    model = onnx.load_model_from_string(_predict_graph(network, blocked))
    said = {
        "name": card.name,
        "labels": json.dumps(card.labels),
        "sha256": card.sha256,
        "format": str(card.format),
    }
    onnx.helper.set_model_props(model, said)
    graph = model.SerializeToString()
    _compare(graph, network)
    return graph


def _predict_graph(network: FaceNetwork, blocked: bool) -> bytes:
    return trace(_Predict(network), torch.from_numpy(_noise(2)), INPUT, OUTPUTS, blocked)


@torch.no_grad()
def trace(
    module: nn.Module, batch: Tensor, name: str, outputs: Sequence[str], blocked: bool = False
) -> bytes:
    """The serialised graph of a module with one input, for batches of any size above 0.

    ``blocked``: for CPUs as ``graphs.is_blocked`` says. Raises RuntimeError when it cannot be
    exported.
    """
    axes = {each: {0: "faces"} for each in (name, *outputs)}
    file = io.BytesIO()
    with warnings.catch_warnings():
        # It is told of every shape that becomes a constant, which is what is wanted of a fixed
        # crop, and that another exporter, one with more dependencies, is to come.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            _ready(copy.deepcopy(module), blocked).eval(),
            (batch,),
            file,  # type: ignore[arg-type]  # the tracer takes open files as well
            input_names=[name],
            output_names=list(outputs),
            dynamic_axes=axes,
            opset_version=_OPSET,
            dynamo=False,
        )
    return file.getvalue()


@torch.inference_mode()
def _compare(graph: bytes, network: FaceNetwork) -> None:
    """Another number of faces than the graph was traced with."""
    crops_rgb = _noise(3)
    found = OnnxSession(graph, threads=1).run(crops_rgb)
    wanted = network.predict(torch.from_numpy(crops_rgb))
    for name, mine, theirs, tolerance in zip(
        OUTPUTS, found, wanted, (_TOLERANCE_PX, _TOLERANCE), strict=True
    ):
        if not np.allclose(mine, theirs.numpy(), rtol=0, atol=tolerance, equal_nan=True):
            raise RuntimeError(f"its {name} differ from PyTorch's by more than {tolerance}")


def _noise(count: int) -> np.ndarray:
    shape = (count, CROP_SIZE_PX, CROP_SIZE_PX, 3)
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)
