"""Which images of a recording a live node has predicted."""

from collections.abc import Mapping, Set
from dataclasses import dataclass
from pathlib import Path

_MAX_MISSING_END_S = 1.0


@dataclass(frozen=True)
class LiveCoverage:
    """Numbers of ``images`` and of those without a prediction, ``dropped``.

    ``missing_end_s``: seconds from the last image with a prediction to the last image; 0 if none
    has a prediction.
    """

    images: int
    dropped: int
    missing_end_s: float

    @classmethod
    def of(cls, times_ns: Mapping[int, int], predicted_ns: Set[int]) -> "LiveCoverage":
        """Compare the time of each image by stamp with the stamps of the predictions."""
        predicted = [time_ns for stamp, time_ns in times_ns.items() if stamp in predicted_ns]
        missing_ns = max(times_ns.values()) - max(predicted) if predicted else 0
        return cls(len(times_ns), len(times_ns) - len(predicted), missing_ns * 1e-9)

    def warnings(self, predictions: Path, recording: Path) -> list[str]:
        """A line when most images have no prediction."""
        if 2 * self.dropped <= self.images:
            return []
        return [
            f"{predictions}: {self.dropped} of the {self.images} images of {recording} have no "
            "prediction: the scores are those of the others"
        ]

    def errors(self, predictions: Path, recording: Path) -> list[str]:
        """A line when the predictions end before the recording does."""
        if self.missing_end_s <= _MAX_MISSING_END_S:
            return []
        return [
            f"{predictions}: no predictions for the last {self.missing_end_s:.1f} s of "
            f"{recording}: was it played to its end?"
        ]
