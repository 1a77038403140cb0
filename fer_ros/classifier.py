"""Aligned crops to landmarks and emotion probabilities, all faces of a frame in one batch."""

from dataclasses import replace
from functools import cached_property
from time import perf_counter
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fer_ros.config import ClassifierConfig
from fer_ros.emotions import EMOTIONS
from fer_ros.inference.backends import Backend, BackendSelection, open_backend
from fer_ros.inference.backends.fallback import FallbackBackend
from fer_ros.inference.devices import cuda_status, supports_int8_dot_product
from fer_ros.inference.model_store import (
    INT8_SUFFIX,
    ModelError,
    ModelManifest,
    differing_settings,
    find_model,
    is_onnx_model,
    read_manifest,
)
from fer_ros.inference.priors import select_prior
from fer_ros.landmarks68 import NUM_LANDMARKS
from fer_ros.types import FacePredictions

if TYPE_CHECKING:
    from fer_ros.inference.backends.torch import TorchBackend

EMPTY_PREDICTION = FacePredictions(
    np.zeros((0, NUM_LANDMARKS, 2), np.float32), np.zeros((0, len(EMOTIONS)), np.float32)
)
"""The prediction for an empty batch."""


class Classifier:
    """A verified model on its device.

    A failing device, for example one out of memory, loses no face: smaller batches or the CPU take
    over until it works again.

    Attributes:
        manifest: the model, or its int8 variant.
        reason: which runtime and precision were selected, and why.
    """

    def __init__(self, config: ClassifierConfig = ClassifierConfig()) -> None:  # noqa: B008  (frozen)
        """Load the model of ``config``. Raises ModelError when it cannot be used."""
        self._source = read_manifest(find_model(config.model))
        self.manifest, self._selection, self.reason = _open_variant(self._source, config)
        try:
            self._prior = select_prior(self.manifest.priors, config.prior)
        except ValueError as error:
            raise ModelError(f"model {self.manifest.name}: {error}") from None
        self._config = config
        backend = self._selection.backend
        self._backend = FallbackBackend(
            backend, None if backend.device == "cpu" else self._open_cpu
        )

    @property
    def device(self) -> str:
        """Device in use at the moment: cpu, cuda or cuda:N."""
        return self._backend.active.device

    @property
    def provider(self) -> str:
        """``PyTorch`` or ONNX Runtime's execution provider in use at the moment."""
        return self._backend.active.provider

    @property
    def precision(self) -> str:
        """Precision in use at the moment: fp32, fp16, bf16 or int8."""
        return self._backend.active.precision

    @property
    def fallback(self) -> str:
        """Why a better runtime is not in use, or what fails at the moment; "" if nothing."""
        return "; ".join(filter(None, (self._selection.fallback, self._backend.last_error)))

    def _open_cpu(self) -> Backend:
        config = replace(self._config, backend="auto", device="cpu", precision="auto")
        return open_backend(self.manifest, config).backend

    def classify(self, crops_rgb: NDArray[np.uint8]) -> FacePredictions:
        """Predict landmarks and probabilities of aligned crops.

        Args:
            crops_rgb: (N, 112, 112, 3) uint8 RGB from ``align``; N may be 0.

        Raises:
            RuntimeError: no device can compute the batch now. A later call may succeed.
        """
        if len(crops_rgb) == 0:
            return EMPTY_PREDICTION
        predictions = self._backend.run(crops_rgb)
        if self._prior is None:
            return predictions
        probabilities = self._prior.apply(predictions.probabilities, self.manifest.temperature)
        return replace(predictions, probabilities=probabilities)

    def attention(self, crops_rgb: NDArray[np.uint8]) -> list[NDArray[np.float32]] | None:
        """Compute attention maps of crops (N, 112, 112, 3), N > 0, with PyTorch.

        Returns (N, 28, 28), (N, 14, 14), (N, 7, 7), mean 1; None if the network has no such maps.
        """
        return self._torch_backend.attention(crops_rgb)

    @cached_property
    def _torch_backend(self) -> "TorchBackend":
        from fer_ros.inference.backends.torch import TorchBackend

        if isinstance(self._selection.backend, TorchBackend):
            return self._selection.backend
        return TorchBackend(self._source, self._config.device, self._config.threads)

    def warm_up(self) -> float:
        """Trigger lazy initialization (``Backend.warm_up``), and open the CPU fallback.

        Returns the seconds that it took. Raises RuntimeError when no device can compute.
        """
        start = perf_counter()
        self._backend.warm_up()
        return perf_counter() - start


def _open_variant(
    source: ModelManifest, config: ClassifierConfig
) -> tuple[ModelManifest, BackendSelection, str]:
    """Open the model or its int8 variant. Returns the opened one, its backend, and the reason.

    Where no runtime can use the GPU that the driver reports, the variant is the one for the CPU.
    """
    manifest, choice = select_variant(source, config)
    selection = open_backend(manifest, config)
    if config.device == "auto" and selection.backend.device == "cpu":
        on_cpu = replace(config, device="cpu")
        variant, choice = select_variant(source, on_cpu)
        if variant != manifest:
            fallback = selection.fallback
            manifest, selection = variant, open_backend(variant, on_cpu)
            selection = selection._replace(fallback=fallback)
    return manifest, selection, "; ".join(filter(None, (selection.reason, choice)))


def select_variant(manifest: ModelManifest, config: ClassifierConfig) -> tuple[ModelManifest, str]:
    """The model, or its int8 variant where that is requested or faster, and the reason.

    Raises ModelError when a requested int8 variant is missing.
    """
    if is_onnx_model(manifest):
        return manifest, ""
    if config.precision == "int8":
        return _int8_variant(manifest), ""
    if not _prefers_int8(config):
        return manifest, ""
    try:
        variant = _int8_variant(manifest)
        variant.verify()
    except ModelError as error:
        return manifest, f"fp32 although this CPU has int8 dot products: {error}"
    return variant, "int8, because this CPU has int8 dot products"


def _prefers_int8(config: ClassifierConfig) -> bool:
    """Whether int8 is the fastest precision and the settings leave the choice."""
    if config.precision != "auto" or config.backend == "torch":
        return False
    is_on_cpu = config.device == "cpu" or (config.device == "auto" and cuda_status().count == 0)
    return is_on_cpu and supports_int8_dot_product()


def _int8_variant(manifest: ModelManifest) -> ModelManifest:
    """The model in the folder NAME_int8.

    Raises ModelError unless it was made from the weights and has the settings of ``manifest``.
    """
    folder = manifest.folder.with_name(manifest.folder.name + INT8_SUFFIX)
    if not folder.is_dir():
        raise ModelError(
            f"model {manifest.name}: precision int8 needs {folder}; create it with "
            f"fer models export {manifest.name} --format onnx-int8 --calibration-data PATH "
            f"--out {folder}"
        )
    variant = read_manifest(folder)
    if variant.quantized_from != manifest.sha256:
        raise ModelError(f"{folder}: not quantized from the weights of {manifest.name}")
    differing = differing_settings(manifest, variant)
    if differing:
        raise ModelError(
            f"{folder}: {', '.join(differing)}: expected the values of {manifest.name}, found "
            "others; quantize it again, or give both the same priors"
        )
    return variant
