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
from timm.layers import LayerScale
from torch import Tensor, nn

from fer_ros.backends.providers import INPUT
from fer_ros.model.checkpoint import load_model
from fer_ros.model.cross_attention import CrossAttentionBlock
from fer_ros.model.face_resnet import ResidualBlock
from fer_ros.model.network import FaceInput, FaceNetwork
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


class _WidenedBlock(nn.Module):
    """A residual block whose path without weights is a convolution: pooled, with empty channels.

    ONNX Runtime has no Pad in the blocked layout either.
    """

    def __init__(self, block: ResidualBlock) -> None:
        super().__init__()
        self.block = block
        inputs, stride = block.conv1.in_channels, block.stride
        kernel = torch.eye(block.conv1.out_channels, inputs) / stride**2
        self.kernel = nn.Parameter(kernel[..., None, None].repeat(1, 1, stride, stride))

    def forward(self, x: Tensor) -> Tensor:
        y = self.block.conv2(self.block.conv1(x).relu())
        return (y + F.conv2d(x, self.kernel, stride=self.block.stride)).relu()


class _GreyInput(nn.Module):
    """Crops (B, 3, 112, 112) in 0..1 to normalised grey pictures (B, 1, 112, 112)."""

    def __init__(self, given: FaceInput) -> None:
        super().__init__()
        self.weights = nn.Parameter((given.weights / given.std).view(1, 3))
        self.offset = nn.Parameter((given.mean / given.std)[0, 0])

    def forward(self, crops: Tensor) -> Tensor:
        grey = self.weights @ crops.reshape(-1, 3, CROP_SIZE_PX**2)
        return grey.reshape(-1, 1, CROP_SIZE_PX, CROP_SIZE_PX) - self.offset


def _ready(module: nn.Module, blocked: bool) -> nn.Module:
    """The module with layers that the runtime computes fast, and the same results."""
    for name, child in module.named_children():
        setattr(module, name, _replaced(child, blocked) or _ready(child, blocked))
    return module


def _replaced(module: nn.Module, blocked: bool) -> nn.Module | None:
    if isinstance(module, nn.PReLU):
        if module.weight.count_nonzero() == 0:
            return nn.ReLU()  # which becomes part of the layer before it
        return _SplitPReLU(module.weight) if blocked and len(module.weight) > 1 else None
    if blocked and isinstance(module, ResidualBlock) and module.added:
        return _WidenedBlock(module)
    if isinstance(module, CrossAttentionBlock):
        _scale(module.attention.project, module.attention_scale)
        _scale(cast(nn.Linear, module.mlp.fc2), module.mlp_scale)
        module.add_module("attention_scale", nn.Identity())
        module.add_module("mlp_scale", nn.Identity())
    return None


def _scale(linear: nn.Linear, scale: LayerScale) -> None:
    """What comes out is scaled already."""
    linear.weight.mul_(scale.gamma[:, None])
    linear.bias.mul_(scale.gamma)


def _in_grey(network: FaceNetwork) -> FaceNetwork:
    """The network with one channel where its first convolutions get three equal ones."""
    spec, first = network.spec, list[nn.Conv2d]()

    def note(module: nn.Module, args: tuple[Tensor, ...]) -> None:
        if args[0].shape[1] == 3:
            first.append(cast(nn.Conv2d, module))

    is_grey = spec.luma and spec.size_px == CROP_SIZE_PX
    if not is_grey or len(set(spec.mean)) > 1 or len(set(spec.std)) > 1:
        return network
    network = copy.deepcopy(network)
    convolutions = [each for each in network.modules() if isinstance(each, nn.Conv2d)]
    hooks = [each.register_forward_pre_hook(note) for each in convolutions]
    network.predict(torch.from_numpy(_noise(1)))
    for hook in hooks:
        hook.remove()
    for each in first:
        each.weight = nn.Parameter(each.weight.sum(dim=1, keepdim=True))
        each.in_channels = 1
    network.add_module("input", _GreyInput(network.input))
    return network


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


@torch.no_grad()
def _predict_graph(network: FaceNetwork, blocked: bool) -> bytes:
    faces = torch.from_numpy(_noise(2))
    return trace(_Predict(_in_grey(network)), faces, INPUT, OUTPUTS, blocked)


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
