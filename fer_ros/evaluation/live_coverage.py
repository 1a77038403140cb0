"""Which images of a recording a live node has predicted."""

from collections.abc import Mapping, Set
from dataclasses import dataclass
from pathlib import Path

_MAX_MISSING_END_S, _MAX_MISSING_INTERVALS = 1.0, 3.0


@dataclass(frozen=True)
class LiveCoverage:
    """Numbers of ``images`` and of those without a prediction, ``dropped``.

    ``missing_end_s``: seconds from the last image with a prediction to the last image; 0 if none
    has a prediction. ``interval_s``: mean time between two images.
    """

    images: int
    dropped: int
    missing_end_s: float
    interval_s: float

    @classmethod
    def of(cls, times_ns: Mapping[int, int], predicted_ns: Set[int]) -> "LiveCoverage":
        """Compare the time of each image by stamp with the stamps of the predictions."""
        predicted = [time_ns for stamp, time_ns in times_ns.items() if stamp in predicted_ns]
        count, last_ns = len(times_ns), max(times_ns.values(), default=0)
        missing_ns = last_ns - max(predicted) if predicted else 0
        interval_ns = (last_ns - min(times_ns.values())) / (count - 1) if count > 1 else 0
        return cls(count, count - len(predicted), missing_ns * 1e-9, interval_ns * 1e-9)

    def warnings(self, predictions: Path, recording: Path) -> list[str]:
        """A line when most images have no prediction."""
        if 2 * self.dropped <= self.images:
            return []
        if self.dropped == self.images:
            return [
                f"{predictions}: none of the {self.images} images of {recording} has a prediction"
            ]
        return [
            f"{predictions}: {self.dropped} of the {self.images} images of {recording} have no "
            "prediction: the scores are those of the others"
        ]

    def errors(self, predictions: Path, recording: Path) -> list[str]:
        """A line when the predictions end before the recording does."""
        if self.missing_end_s <= max(_MAX_MISSING_END_S, _MAX_MISSING_INTERVALS * self.interval_s):
            return []
        return [
            f"{predictions}: no predictions for the last {self.missing_end_s:.1f} s of "
            f"{recording}: was it played to its end?"
        ]
