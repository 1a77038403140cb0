"""A backend that goes on when its device fails: with smaller batches, then on the CPU."""

import logging
import time
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from fer_ros.backends import Backend
from fer_ros.errors import one_line
from fer_ros.weights import ModelError

_FIRST_WAIT_S, _LONGEST_WAIT_S = 1.0, 64.0

_log = logging.getLogger(__name__)


class PatientBackend:
    """Halves a batch that its device cannot compute, as without memory, until it can.

    What it cannot compute crop by crop goes to ``spare``. Whole batches are tried again after a
    second, and after twice the time with each further failure, up to 64 s. ``trouble`` says in one
    line what is wrong at the moment, or ``""``. ``clock`` gives seconds that never run back.
    """

    def __init__(
        self,
        backend: Backend,
        open_spare: Callable[[], Backend] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """``open_spare`` opens what takes over, once it is needed; None: nothing does."""
        self.trouble = ""
        self._backend = backend
        self._open_spare = open_spare
        self._spare: Backend | None = None
        self._clock = clock
        self._limit: int | None = None  # crops at once; None: all
        self._wait_s = _FIRST_WAIT_S
        self._again_s = 0.0

    @property
    def name(self) -> str:
        """Of the backend that computes at the moment."""
        return self._working().name

    @property
    def device(self) -> str:
        """Where it computes at the moment."""
        return self._working().device

    def run(self, crops_rgb: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Points (N, 68, 2) in crop pixels and probabilities (N, 8) of crops (N, 112, 112, 3).

        N is above 0. Raises RuntimeError when neither the device nor the spare can compute it.
        """
        if self._clock() >= self._again_s:
            self._limit = None
        parts: list[tuple[NDArray[np.float32], NDArray[np.float32]]] = []
        done, has_failed = 0, False
        while done < len(crops_rgb):
            part = crops_rgb[done : done + (self._limit or len(crops_rgb))]
            try:
                parts.append(self._working().run(part))
                done += len(part)
            except RuntimeError as error:
                if not has_failed:
                    self._postpone()
                has_failed = True
                self._shrink(len(part), error)
        if self._limit is None and self.trouble:
            _log.warning("%s on %s computes whole batches again", self.name, self.device)
            self.trouble, self._wait_s = "", _FIRST_WAIT_S
        if len(parts) == 1:
            return parts[0]
        points_xy, probabilities = zip(*parts, strict=True)
        return np.concatenate(points_xy), np.concatenate(probabilities)

    def _working(self) -> Backend:
        return self._spare if self._spare and self._limit == 0 else self._backend

    def _postpone(self) -> None:
        self._again_s = self._clock() + self._wait_s
        self._wait_s = min(2 * self._wait_s, _LONGEST_WAIT_S)

    def _shrink(self, count: int, error: RuntimeError) -> None:
        """After a failed batch of so many crops; raises the error when there is nothing smaller."""
        is_spare = self._working() is not self._backend
        self.trouble = f"{self.name} on {self.device}: {one_line(error)}"
        if is_spare or (count == 1 and not self._open_spare):
            raise RuntimeError(self.trouble) from None
        self._limit = count // 2
        if self._limit == 0 and self._open_spare and not self._spare:
            try:
                self._spare = self._open_spare()
            except ModelError as missing:
                raise RuntimeError(f"{self.trouble}; {missing}") from None
        instead = f"{self._limit} crops at once" if self._limit else f"{self.device} computes"
        self.trouble += f"; {instead}"
        _log.warning("%s, whole batches are tried again later", self.trouble)
