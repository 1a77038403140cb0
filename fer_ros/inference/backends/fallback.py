"""A backend that survives failures of its device: smaller batches first, then the CPU."""

import logging
import time
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from fer_ros.inference.backends import Backend
from fer_ros.inference.backoff import ExponentialBackoff
from fer_ros.inference.model_store import ModelError
from fer_ros.io.errors import single_line
from fer_ros.types import CROP_SIZE_PX, FacePredictions

# Largest differences of a device in fp16 or bf16 to the CPU in fp32 or int8, on images without a
# face: probabilities, landmarks in pixels of the crop. What exceeds them is no rounding error.
_MAX_PROBABILITY_ERROR, _MAX_LANDMARK_ERROR_PX = 0.2, 6.0

_log = logging.getLogger(__name__)


class FallbackBackend:
    """Halves a batch that its device cannot compute, until it can.

    Crops that fail one by one go to the CPU fallback. Whole batches are tried again after 1 s
    to 64 s (``ExponentialBackoff``). Wrong predictions are failures: those that are not finite, and
    those that differ from the fallback's when the device is warmed up.

    Attributes:
        last_error: what is wrong at the moment, "" if nothing is.
    """

    def __init__(
        self,
        backend: Backend,
        open_fallback: Callable[[], Backend] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Wrap ``backend``.

        Args:
            backend: the backend to use.
            open_fallback: opens the CPU fallback; None: there is none.
            clock: monotonic time in seconds.
        """
        self.last_error = ""
        self._backend = backend
        self._open_fallback = open_fallback
        self._fallback: Backend | None = None
        self._max_batch: int | None = None  # None: unlimited; 0: the fallback computes
        self._is_compared = False  # with the fallback, and its predictions agreed
        self._retry = ExponentialBackoff(clock)

    @property
    def active(self) -> Backend:
        """The backend that computes at the moment."""
        return self._fallback if self._fallback and self._max_batch == 0 else self._backend

    def warm_up(self) -> None:
        """Warm up the backend and compare it with the fallback, which is opened in advance.

        Raises RuntimeError when neither can compute.
        """
        try:
            self._backend.warm_up()
        except RuntimeError as error:
            self._use_fallback(error)
        if not self._open_fallback:
            return
        try:
            self._fallback = self._fallback or self._open_fallback()
        except ModelError as error:
            _log.warning("%s has no CPU fallback: %s", self._backend.name, error)
            return
        self._fallback.warm_up()
        if not self.last_error:
            self._compare(self._fallback)

    def run(self, crops_rgb: NDArray[np.uint8]) -> FacePredictions:
        """Predict for crops (N, 112, 112, 3), N > 0.

        Raises RuntimeError when neither the device nor the fallback can compute them.
        """
        if self._retry.is_due:
            self._max_batch = None
            if self.last_error and self._fallback and not self._is_compared:
                self._compare(self._fallback)
        parts: list[FacePredictions] = []
        done, has_failed = 0, False
        while done < len(crops_rgb):
            batch = crops_rgb[done : done + (self._max_batch or len(crops_rgb))]
            try:
                parts.append(_run_finite(self.active, batch))
                done += len(batch)
            except RuntimeError as error:
                if not has_failed:
                    self._retry.postpone()
                has_failed = True
                self._halve_batch(len(batch), error)
        if self._max_batch is None and self.last_error:
            _log.warning("%s on %s works again", self.active.name, self.active.device)
            self.last_error = ""
            self._retry.reset()
        return FacePredictions.concatenate(parts)

    def _compare(self, fallback: Backend) -> None:
        """Use the fallback instead of the device if their predictions differ."""
        shape = (1, CROP_SIZE_PX, CROP_SIZE_PX, 3)
        crops_rgb = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
        expected = fallback.run(crops_rgb)
        try:
            _check_agreement(_run_finite(self._backend, crops_rgb), expected)
        except RuntimeError as error:
            self._use_fallback(error)
        else:
            self._is_compared = True

    def _use_fallback(self, error: RuntimeError) -> None:
        self._retry.postpone()
        self._halve_batch(1, error)

    def _halve_batch(self, count: int, error: RuntimeError) -> None:
        """React to a failed batch of ``count`` crops; re-raises the error when nothing is left."""
        failed = self.active
        self.last_error = f"{failed.name} on {failed.device}: {single_line(error)}"
        if failed is not self._backend or (count == 1 and not self._open_fallback):
            raise RuntimeError(self.last_error) from None
        self._max_batch = count // 2
        if self._max_batch == 0 and self._open_fallback and not self._fallback:
            try:
                self._fallback = self._open_fallback()
            except ModelError as missing:
                raise RuntimeError(f"{self.last_error}; {missing}") from None
        remedy = (
            f"batches of {self._max_batch} crops"
            if self._max_batch
            else f"the {self.active.device} takes over"
        )
        self.last_error += f"; {remedy}"
        _log.warning("%s; whole batches are tried again later", self.last_error)


def _run_finite(backend: Backend, crops_rgb: NDArray[np.uint8]) -> FacePredictions:
    """``backend.run``; also raises RuntimeError when a probability is not finite."""
    predictions = backend.run(crops_rgb)
    if not np.isfinite(predictions.probabilities).all():
        raise RuntimeError("probabilities are not finite")
    return predictions


def _check_agreement(predictions: FacePredictions, expected: FacePredictions) -> None:
    """Raise RuntimeError if the predictions of a device differ from the expected ones."""
    for name, limit in (
        ("probabilities", _MAX_PROBABILITY_ERROR),
        ("points_xy", _MAX_LANDMARK_ERROR_PX),
    ):
        values, references = getattr(predictions, name), getattr(expected, name)
        if not np.allclose(values, references, rtol=0, atol=limit, equal_nan=True):
            raise RuntimeError(f"its {name} differ from the CPU's by more than {limit}")
