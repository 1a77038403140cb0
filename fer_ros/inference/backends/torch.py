"""PyTorch on the CPU or on a CUDA device."""

import contextlib

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fer_ros.inference.backends import BackendError
from fer_ros.inference.backends.cuda_graphs import CudaGraphRunner
from fer_ros.inference.graph_capture import Compute
from fer_ros.inference.model_store import ModelManifest
from fer_ros.io.errors import single_line
from fer_ros.models.checkpoint import load_model
from fer_ros.models.wrapper import FaceOutput
from fer_ros.types import CROP_SIZE_PX, FacePredictions

# Compute capabilities since which there are fp16 tensor cores, and bf16.
_TENSOR_CORES = (7, 0)
_BF16 = (8, 0)
_DTYPES = {"fp16": torch.float16, "bf16": torch.bfloat16}


class TorchBackend:
    """The network as trained; the only backend that also computes attention maps.

    Inputs and outputs are float32; convolutions and matrix products, with their weights, are in
    ``precision`` (Micikevicius et al., "Mixed Precision Training", 2018; torch.autocast).

    Attributes:
        predict: network outputs for a tensor of crops on the device; the next call may overwrite
            them.
    """

    provider, fallback = "PyTorch", ""

    def __init__(
        self,
        manifest: ModelManifest,
        device: str = "auto",
        threads: int = 0,
        precision: str = "auto",
    ) -> None:
        """Load a model; ``threads`` 0 means one per core.

        Raises ModelError when the model cannot be used, BackendError when the device or the
        precision cannot.
        """
        if threads:
            torch.set_num_threads(threads)
        self.device = choose_device(device)
        network = load_model(manifest.folder)
        try:
            self.precision = choose_precision(precision, self.device)
            if precision == "fp32" and is_cuda(self.device):
                # For the whole process, so also for the detector. Convolutions use TF32 by default.
                torch.backends.cudnn.allow_tf32 = False
            self._network = network.to(self.device)
            # The layout in which convolutions are fastest on CPUs and on tensor cores.
            self._network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
            if self.precision != "fp32":
                _reduce_precision(self._network.net, _DTYPES[self.precision])
            self.predict: Compute = self._predict
            if is_cuda(self.device):
                self.predict = CudaGraphRunner(self._predict, self.device)
        except RuntimeError as error:
            # A driver that is too old, a busy device, or no memory.
            raise BackendError(f"PyTorch: device {self.device}: {single_line(error)}") from None
        self.name = "PyTorch" if self.precision == "fp32" else f"PyTorch in {self.precision}"

    def warm_up(self) -> None:
        """Capture the CUDA graphs of all batch sizes, or run one crop. Raises RuntimeError."""
        if isinstance(self.predict, CudaGraphRunner):
            with torch.inference_mode():
                self.predict.capture()
        self.run(np.zeros((1, CROP_SIZE_PX, CROP_SIZE_PX, 3), np.uint8))

    @torch.inference_mode()
    def run(self, crops_rgb: NDArray[np.uint8]) -> FacePredictions:
        """Predict for crops (N, 112, 112, 3), N > 0. Raises RuntimeError when it cannot."""
        try:
            outputs = self.predict(torch.tensor(crops_rgb, device=self.device))
            return FacePredictions(*(output.cpu().numpy() for output in outputs))
        except torch.cuda.OutOfMemoryError:
            # Memory cached for larger batches. Without torch.cuda.device, a context is opened on 0.
            with contextlib.suppress(RuntimeError), torch.cuda.device(self.device):
                torch.cuda.empty_cache()
            raise

    @torch.inference_mode()
    def attention(self, crops_rgb: NDArray[np.uint8]) -> list[NDArray[np.float32]] | None:
        """Attention maps of crops (N, 112, 112, 3); None if the network has none.

        (N, 28, 28), (N, 14, 14), (N, 7, 7) float32, mean 1.
        """
        with self._autocast():
            maps = self._network.attention(torch.tensor(crops_rgb, device=self.device))
        return None if maps is None else [scale.float().cpu().numpy() for scale in maps]

    def _predict(self, crops_rgb: Tensor) -> tuple[Tensor, ...]:
        with self._autocast():
            return self._network.predict(crops_rgb)

    def _autocast(self) -> torch.autocast:
        return torch.autocast(
            torch.device(self.device).type,
            _DTYPES.get(self.precision),
            enabled=self.precision != "fp32",
            cache_enabled=False,  # a cache must not outlive the capture of a graph
        )


def choose_device(device: str) -> str:
    """Resolve ``auto`` to cuda or cpu. Raises BackendError if PyTorch cannot use the device."""
    is_available = torch.cuda.is_available()  # False also where the driver is too old
    if device == "auto":
        return "cuda" if is_available else "cpu"
    expected = torch.device(device)
    if expected.type == "cuda":
        # device_count asks NVML, which sees GPUs that CUDA cannot use
        count = torch.cuda.device_count() if is_available else 0
        if (expected.index or 0) >= count:
            raise BackendError(
                f"PyTorch: device {device!r}: PyTorch {torch.__version__} can use {count} CUDA "
                f"devices; its CUDA version is {torch.version.cuda}, the driver may be older"
            )
    return device


def choose_precision(precision: str, device: str) -> str:
    """Resolve ``auto`` to fp16 on tensor cores and fp32 elsewhere.

    Raises BackendError when the device lacks the precision.
    """
    if precision == "int8":
        raise BackendError("PyTorch: precision 'int8' needs a quantized model and ONNX Runtime")
    if not is_cuda(device):
        if precision == "fp16":
            raise BackendError(
                f"PyTorch: precision 'fp16' needs CUDA, and the device is {device}: "
                "set classifier.precision to auto, fp32 or bf16"
            )
        return "fp32" if precision == "auto" else precision
    capability = torch.cuda.get_device_capability(device)
    if precision == "auto":
        return "fp16" if capability >= _TENSOR_CORES else "fp32"
    if precision == "bf16" and capability < _BF16:
        raise BackendError(
            f"PyTorch: precision 'bf16' needs compute capability 8.0, and {device} has "
            f"{capability[0]}.{capability[1]}: set classifier.precision to auto, fp32 or fp16"
        )
    return precision


def is_cuda(device: str) -> bool:
    """Whether a device of ``choose_device`` is a GPU."""
    return device.startswith("cuda")


def _reduce_precision(net: nn.Module, dtype: torch.dtype) -> None:
    """Store the weights that autocast would convert in each call in ``dtype``."""
    for layer in net.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            layer.to(dtype)
    net.register_forward_hook(_to_float32)


def _to_float32(net: nn.Module, images: tuple[Tensor], output: FaceOutput) -> FaceOutput:
    """Post-processing in float32: crop pixels, softmax."""
    return FaceOutput(
        output.logits.float(),
        None if output.points is None else output.points.float(),
        None if output.blendshapes is None else output.blendshapes.float(),
    )
