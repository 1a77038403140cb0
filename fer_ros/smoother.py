"""Smooth probabilities over time and choose the label, per face.

Two steps. An exponential moving average of log-probabilities, with weight ``1 - exp(-dt / tau)``,
makes the result independent of the frame rate. Hysteresis then changes the label only when another
emotion leads by a margin and the label has lasted for a minimum duration.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fer_ros.config import SmootherConfig
from fer_ros.emotions import EMOTIONS
from fer_ros.stream_clock import StreamClock

_MIN_PROBABILITY = 1e-4  # bounds the weight of a single zero


@dataclass(eq=False)
class _FaceState:
    clock: StreamClock
    last_stamp_s: float
    time_s: float
    log_probabilities: NDArray[np.float64]
    label: int
    label_since_s: float


class Smoother:
    """Keeps a state for every face that was seen recently."""

    def __init__(self, config: SmootherConfig) -> None:
        self.config = config
        self._faces: dict[str, _FaceState] = {}

    def __len__(self) -> int:
        return len(self._faces)

    def reset(self) -> None:
        """Forget all faces."""
        self._faces = {}

    def forget_older(self, stamp_s: float) -> None:
        """Forget faces that were not seen within ``reset_after_s`` of ``stamp_s``."""
        self._faces = {
            id: face
            for id, face in self._faces.items()
            if abs(stamp_s - face.last_stamp_s) <= self.config.reset_after_s
        }

    def update(
        self, face_id: str, stamp_s: float, probabilities: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], str]:
        """Return smoothed probabilities (8,), which sum to 1, and the label.

        A face that was not seen for ``reset_after_s`` starts again. StreamClock defines how other
        irregular stamps are taken.

        Args:
            face_id: id of the face.
            stamp_s: time of the measurement in seconds.
            probabilities: (8,), need not sum to 1. Negative and non-finite ones count as 0; if
                nothing is left, all emotions are equally probable.
        """
        measured = _log_probabilities(probabilities)
        face = self._faces.get(face_id)
        clock = face.clock if face else StreamClock()
        clock.max_gap_s = self.config.reset_after_s
        time = clock.update(stamp_s)
        if face is None or time.event.starts_stream:
            label = int(measured.argmax())
            face = _FaceState(clock, stamp_s, time.time_s, measured, label, time.time_s)
            self._faces[face_id] = face
        else:
            self._average(face, time.time_s, measured)
            face.last_stamp_s = stamp_s
        smoothed = np.exp(face.log_probabilities)
        smoothed /= smoothed.sum()
        self._apply_hysteresis(face, smoothed)
        return smoothed.astype(np.float32), EMOTIONS[face.label]

    def _average(self, face: _FaceState, time_s: float, measured: NDArray[np.float64]) -> None:
        elapsed_s = time_s - face.time_s
        tau_s = self.config.time_constant_s
        weight = 1 - np.exp(-elapsed_s / tau_s) if tau_s > 0 else 1.0
        face.log_probabilities = (1 - weight) * face.log_probabilities + weight * measured
        face.time_s = time_s

    def _apply_hysteresis(self, face: _FaceState, smoothed: NDArray[np.float64]) -> None:
        best = int(smoothed.argmax())
        leads = smoothed[best] - smoothed[face.label] >= self.config.switch_margin
        has_lasted = face.time_s - face.label_since_s >= self.config.min_label_duration_s
        if best != face.label and leads and has_lasted:
            face.label, face.label_since_s = best, face.time_s


def _log_probabilities(probabilities: NDArray[np.float32]) -> NDArray[np.float64]:
    """Finite logarithms (8,) of the normalized probabilities."""
    values = np.asarray(probabilities, np.float64)
    values = np.where(np.isfinite(values), values, 0).clip(0, None)
    total = values.sum()
    normalized = values / total if total > 0 else np.full(len(EMOTIONS), 1 / len(EMOTIONS))
    return np.log(normalized.clip(_MIN_PROBABILITY, None))
