"""Probabilities over time to a stable label, per face, by image time.

Two steps. The log-probabilities follow the measurement with a time constant in seconds, so the
frame rate does not matter (exponential moving average, weight ``1 - exp(-dt / time constant)``).
The label then changes only when another emotion leads by a margin and the label has stood for a
while (hysteresis).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fer_ros.config import SmootherConfig
from fer_ros.labels import EMOTIONS

_FLOOR = 1e-4  # bounds how much one frame's zero can weigh against all others


@dataclass(eq=False)
class _Face:
    log_probabilities: NDArray[np.float64]
    seen_s: float
    emotion: int
    since_s: float  # when the label was last changed


class Smoother:
    """Remembers every face that was seen lately."""

    def __init__(self, config: SmootherConfig) -> None:
        self.config = config
        self._faces: dict[str, _Face] = {}

    def __len__(self) -> int:
        return len(self._faces)

    def reset(self) -> None:
        """Forgets every face."""
        self._faces = {}

    def forget_older(self, stamp_s: float) -> None:
        """Forgets the faces that were not seen lately before ``stamp_s``."""
        self._faces = {
            name: face for name, face in self._faces.items() if self._is_recent(face, stamp_s)
        }

    def update(
        self, face_id: str, stamp_s: float, probabilities: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], str]:
        """The smoothed probabilities (8,), which sum to 1, and the stable label.

        ``probabilities`` (8,) need not sum to 1. Negative and non-finite ones count as zero; where
        nothing is left every emotion is as likely. A face unseen for longer than ``forget_s``, or
        seen later than ``stamp_s`` by as much (time jumped back), starts afresh.
        """
        measured = _log(probabilities)
        face = self._faces.get(face_id)
        if face is None or not self._is_recent(face, stamp_s):
            face = _Face(measured, stamp_s, int(measured.argmax()), stamp_s)
            self._faces[face_id] = face
        else:
            self._average(face, stamp_s, measured)
        smoothed = np.exp(face.log_probabilities)
        smoothed /= smoothed.sum()
        self._relabel(face, stamp_s, smoothed)
        return smoothed.astype(np.float32), EMOTIONS[face.emotion]

    def _is_recent(self, face: _Face, stamp_s: float) -> bool:
        return abs(stamp_s - face.seen_s) <= self.config.forget_s

    def _average(self, face: _Face, stamp_s: float, measured: NDArray[np.float64]) -> None:
        passed_s = max(0.0, stamp_s - face.seen_s)
        constant_s = self.config.time_constant_s
        weight = 1 - np.exp(-passed_s / constant_s) if constant_s > 0 else 1.0
        face.log_probabilities = (1 - weight) * face.log_probabilities + weight * measured
        face.seen_s += passed_s

    def _relabel(self, face: _Face, stamp_s: float, smoothed: NDArray[np.float64]) -> None:
        best = int(smoothed.argmax())
        leads = smoothed[best] - smoothed[face.emotion] >= self.config.min_margin
        stood = stamp_s - face.since_s >= self.config.min_dwell_s
        if best != face.emotion and leads and stood:
            face.emotion, face.since_s = best, stamp_s


def _log(probabilities: NDArray[np.float32]) -> NDArray[np.float64]:
    """Finite logarithms (8,) of probabilities that sum to about 1."""
    values = np.asarray(probabilities, np.float64)
    values = np.where(np.isfinite(values), values, 0).clip(0, None)
    total = values.sum()
    share = values / total if total > 0 else np.full(len(EMOTIONS), 1 / len(EMOTIONS))
    return np.log(share.clip(_FLOOR, None))
