"""Export a model to one ONNX graph: uint8 crops in, landmarks and probabilities out."""

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

from fer_ros.inference.backends.onnx_cache import GRAPH_INPUT
from fer_ros.inference.model_store import ModelManifest
from fer_ros.inference.onnx_session import OnnxSession
from fer_ros.models.backbones.face_resnet import ResidualBlock
from fer_ros.models.checkpoint import load_model
from fer_ros.models.cross_attention import CrossAttentionBlock
from fer_ros.models.wrapper import FaceInput, FaceNetwork
from fer_ros.types import CROP_SIZE_PX

GRAPH_OUTPUTS = ("points_xy", "probabilities", "blendshapes")

_OPSET = 17  # the first with LayerNormalization
_TOLERANCES = (0.01, 1e-4, 1e-4)  # of GRAPH_OUTPUTS against PyTorch


class _Predict(nn.Module):
    def __init__(self, network: FaceNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, crops_rgb: Tensor) -> tuple[Tensor, ...]:
        return self.network.predict(crops_rgb)


class _SplitPReLU(nn.Module):
    """PReLU of maps (B, C, H, W) as two depthwise 1x1 convolutions.

    ONNX Runtime has no PRelu in its NCHWc layout and would reorder every map for it.
    """

    def __init__(self, slopes: Tensor) -> None:
        super().__init__()
        self.slopes = nn.Parameter(slopes.detach().view(-1, 1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        count = len(self.slopes)
        positive = F.conv2d(x.relu(), 1 - self.slopes, groups=count)
        return positive + F.conv2d(x, self.slopes, groups=count)


class _ConvShortcutBlock(nn.Module):
    """A ResidualBlock whose shortcut is a convolution instead of pooling and padding.

    ONNX Runtime has no Pad in its NCHWc layout.
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


class _GrayscaleInput(nn.Module):
    """Crops (B, 3, 112, 112) in 0..1 to normalized grayscale images (B, 1, 112, 112)."""

    def __init__(self, original: FaceInput) -> None:
        super().__init__()
        self.weights = nn.Parameter((original.weights / original.std).view(1, 3))
        self.offset = nn.Parameter((original.mean / original.std)[0, 0])

    def forward(self, crops: Tensor) -> Tensor:
        gray = self.weights @ crops.reshape(-1, 3, CROP_SIZE_PX**2)
        return gray.reshape(-1, 1, CROP_SIZE_PX, CROP_SIZE_PX) - self.offset


def _rewrite_layers(module: nn.Module, nchwc: bool) -> nn.Module:
    """Replace layers, in place, by equal ones that ONNX Runtime computes faster."""
    for name, child in module.named_children():
        setattr(module, name, _rewrite_layer(child, nchwc) or _rewrite_layers(child, nchwc))
    return module


def _rewrite_layer(module: nn.Module, nchwc: bool) -> nn.Module | None:
    if isinstance(module, nn.PReLU):
        if module.weight.count_nonzero() == 0:
            return nn.ReLU()  # which ONNX Runtime fuses into the convolution
        return _SplitPReLU(module.weight) if nchwc and len(module.weight) > 1 else None
    if nchwc and isinstance(module, ResidualBlock) and module.added_channels:
        return _ConvShortcutBlock(module)
    if isinstance(module, CrossAttentionBlock):
        _fold_scale(module.attention.project, module.attention_scale)
        _fold_scale(cast(nn.Linear, module.mlp.fc2), module.mlp_scale)
        module.add_module("attention_scale", nn.Identity())
        module.add_module("mlp_scale", nn.Identity())
    return None


def _fold_scale(linear: nn.Linear, scale: LayerScale) -> None:
    linear.weight.mul_(scale.gamma[:, None])
    linear.bias.mul_(scale.gamma)


def _fold_grayscale(network: FaceNetwork) -> FaceNetwork:
    """Give the first convolutions one input channel where they get three equal ones."""
    spec, first_convs = network.spec, list[nn.Conv2d]()

    def record(module: nn.Module, args: tuple[Tensor, ...]) -> None:
        if args[0].shape[1] == 3:
            first_convs.append(cast(nn.Conv2d, module))

    is_grayscale = spec.grayscale and spec.size_px == CROP_SIZE_PX
    if not is_grayscale or len(set(spec.mean)) > 1 or len(set(spec.std)) > 1:
        return network
    network = copy.deepcopy(network)
    convs = [module for module in network.modules() if isinstance(module, nn.Conv2d)]
    hooks = [conv.register_forward_pre_hook(record) for conv in convs]
    network.predict(torch.from_numpy(_random_crops(1)))
    for hook in hooks:
        hook.remove()
    for conv in first_convs:
        conv.weight = nn.Parameter(conv.weight.sum(dim=1, keepdim=True))
        conv.in_channels = 1
    network.add_module("input", _GrayscaleInput(network.input))
    return network


def output_names(network: FaceNetwork) -> tuple[str, ...]:
    """Outputs of the exported graph; ``blendshapes`` only if the network has them."""
    return GRAPH_OUTPUTS if network.has_blendshapes else GRAPH_OUTPUTS[:2]


def export_onnx(manifest: ModelManifest, nchwc: bool = False) -> bytes:
    """Export a model and check it against PyTorch.

    The graph's input ``crops_rgb`` is uint8 (N, 112, 112, 3) RGB, N > 0. Its outputs are
    ``points_xy`` float32 (N, 68, 2) in crop pixels, ``probabilities`` float32 (N, 8) at the
    manifest's temperature and, from networks that have them, ``blendshapes`` float32 (N, 52).
    Metadata: name, labels (JSON), sha256 of the weights, format of the manifest.

    Args:
        manifest: the model.
        nchwc: for CPUs where ``uses_nchwc_layout``.

    Raises:
        ModelError: the model cannot be used.
        RuntimeError: the export fails, or ONNX Runtime's outputs differ from PyTorch's.
    """
    network = load_model(manifest.folder)
    model = onnx.load_model_from_string(_export_network(network, nchwc))
    metadata = {
        "name": manifest.name,
        "labels": json.dumps(manifest.labels),
        "sha256": manifest.sha256,
        "format": str(manifest.format),
    }
    onnx.helper.set_model_props(model, metadata)
    graph = model.SerializeToString()
    _check_parity(graph, network)
    return graph


@torch.no_grad()
def _export_network(network: FaceNetwork, nchwc: bool) -> bytes:
    crops = torch.from_numpy(_random_crops(2))
    predict = _Predict(_fold_grayscale(network))
    return export_module(predict, crops, GRAPH_INPUT, output_names(network), nchwc)


@torch.no_grad()
def export_module(
    module: nn.Module,
    batch: Tensor,
    input_name: str,
    output_names: Sequence[str],
    nchwc: bool = False,
) -> bytes:
    """Export a module with one input as a serialized graph for batches of any size above 0.

    Raises RuntimeError when it cannot be exported.
    """
    axes = {name: {0: "faces"} for name in (input_name, *output_names)}
    file = io.BytesIO()
    with warnings.catch_warnings():
        # Warnings about shapes that become constants, as intended for a fixed crop size, and about
        # the TorchScript exporter's deprecation. docs/models.md says why it is not the newer one.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            _rewrite_layers(copy.deepcopy(module), nchwc).eval(),
            (batch,),
            file,  # type: ignore[arg-type]  # open files are accepted as well
            input_names=[input_name],
            output_names=list(output_names),
            dynamic_axes=axes,
            opset_version=_OPSET,
            dynamo=False,
        )
    return file.getvalue()


@torch.inference_mode()
def _check_parity(graph: bytes, network: FaceNetwork) -> None:
    """Compare with PyTorch, with another batch size than the traced one."""
    crops_rgb = _random_crops(3)
    outputs = OnnxSession(graph, threads=1).run(crops_rgb)
    expected = network.predict(torch.from_numpy(crops_rgb))
    names = output_names(network)
    for name, value, reference, tolerance in zip(
        names, outputs, expected, _TOLERANCES[: len(names)], strict=True
    ):
        if not np.allclose(value, reference.numpy(), rtol=0, atol=tolerance, equal_nan=True):
            raise RuntimeError(f"its {name} differ from PyTorch's by more than {tolerance}")


def _random_crops(count: int) -> np.ndarray:
    shape = (count, CROP_SIZE_PX, CROP_SIZE_PX, 3)
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)
