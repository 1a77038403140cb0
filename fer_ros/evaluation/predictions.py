"""Predictions and labels, one row per face and frame, and their CSV file.

Numbers are rounded on construction, so that a table from memory and the same table from its file
give identical metrics.
"""

import csv
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fer_ros.emotions import EMOTIONS

NO_LABEL = -1
"""In place of an index into EMOTIONS: the face has no label, or no readable emotion."""

_CHUNK_ROWS = 4096
_DIGITS = 5
_NAMES = ("", *EMOTIONS)
_INDEX_OF = {name: number - 1 for number, name in enumerate(_NAMES)}
_CORNERS = ("left", "top", "right", "bottom")
_COLUMNS = (
    "stamp_s",
    "id",
    *_CORNERS,
    "emotion",
    "label",
    "target_face",
    *EMOTIONS,
    *(f"raw_{name}" for name in EMOTIONS),
)


class FacePrediction(NamedTuple):
    """One face of one frame.

    Attributes:
        stamp_s: Seconds since the first image.
        id: Track id. Empty for a face that has a label and was not detected.
        box_xyxy: (4,) pixels. NaN for a face that was not detected.
        emotion: Label of the face, after hysteresis, an index into EMOTIONS or NO_LABEL.
        label: Ground truth, an index into EMOTIONS or NO_LABEL.
        target_face: The face that the label names.
        probabilities: (8,) smoothed over time, NaN if unknown.
        raw: (8,) of this frame alone, NaN if unknown.
    """

    stamp_s: float
    id: str
    box_xyxy: NDArray[np.floating]
    emotion: int
    label: int
    target_face: str
    probabilities: NDArray[np.floating]
    raw: NDArray[np.floating]


@dataclass(frozen=True, eq=False)
class PredictionTable:
    """Table of FacePrediction rows, stored as columns: (N,), boxes (N, 4), probabilities (N, 8)."""

    stamp_s: NDArray[np.float64]
    id: NDArray[np.str_]
    box_xyxy: NDArray[np.float64]
    emotion: NDArray[np.int64]
    label: NDArray[np.int64]
    target_face: NDArray[np.str_]
    probabilities: NDArray[np.float64]
    raw: NDArray[np.float64]

    @classmethod
    def from_rows(cls, rows: Iterable[FacePrediction]) -> "PredictionTable":
        """Build a table. ``rows`` may be a generator; the table needs less memory than the rows."""
        remaining, tables = iter(rows), []
        while chunk := list(islice(remaining, _CHUNK_ROWS)):
            tables.append(cls._from_chunk(chunk))
        return cls.concatenate(tables)

    @classmethod
    def concatenate(cls, tables: Sequence["PredictionTable"]) -> "PredictionTable":
        """Concatenate tables. The result is empty if there are none."""
        parts = list(tables) or [cls._from_chunk([])]
        names = [column.name for column in fields(cls)]
        return cls(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))

    @classmethod
    def _from_chunk(cls, rows: list[FacePrediction]) -> "PredictionTable":
        columns = list(zip(*rows, strict=True)) or [()] * len(FacePrediction._fields)
        stamps, ids, boxes, emotions, labels, target_faces, probabilities, raw = columns
        return cls(
            np.asarray(np.round(np.array(stamps, np.float64), 6)),
            np.array(ids, np.str_),
            np.asarray(np.round(np.array(boxes, np.float64).reshape(-1, 4), 2)),
            np.array(emotions, np.int64),
            np.array(labels, np.int64),
            np.array(target_faces, np.str_),
            _round_probabilities(probabilities),
            _round_probabilities(raw),
        )

    def __len__(self) -> int:
        return len(self.stamp_s)

    def where(self, keep: NDArray) -> "PredictionTable":
        """Select rows by a mask (N,) or by indices."""
        return PredictionTable(*(getattr(self, column.name)[keep] for column in fields(self)))

    @property
    def detected(self) -> NDArray[np.bool_]:
        """Mask (N,) of faces that were detected."""
        return self.id != ""

    @property
    def is_scored(self) -> NDArray[np.bool_]:
        """Mask (N,) of faces that have both a label and a predicted emotion."""
        return (self.label != NO_LABEL) & (self.emotion != NO_LABEL)

    def write(self, path: Path) -> None:
        """Write the table as CSV. Raises OSError."""
        with path.open("w", encoding="utf-8", errors="backslashreplace", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(_COLUMNS)
            writer.writerows(self._row(k) for k in range(len(self)))

    def _row(self, k: int) -> list[Any]:
        names = [_NAMES[self.emotion[k] + 1], _NAMES[self.label[k] + 1], str(self.target_face[k])]
        probabilities = [*_cells(self.probabilities[k]), *_cells(self.raw[k])]
        box = _cells(self.box_xyxy[k])
        return [self.stamp_s[k].item(), str(self.id[k]), *box, *names, *probabilities]

    @classmethod
    def read(cls, path: Path) -> "PredictionTable":
        """Read what ``write`` wrote. Raises OSError, or ValueError for another file."""
        with path.open(encoding="utf-8", newline="") as file:
            lines = csv.DictReader(file)
            try:
                if lines.fieldnames is None or tuple(lines.fieldnames) != _COLUMNS:
                    raise ValueError(
                        f"{path}: expected the columns of an evaluation, {_COLUMNS[:3]}..."
                    )
                return cls.from_rows(_parse(line) for line in lines)
            except csv.Error as error:
                raise ValueError(f"{path}: not a CSV file: {error}") from None


def _cells(values: NDArray[np.float64]) -> list[Any]:
    return ["" if math.isnan(value) else value for value in values.tolist()]


def _parse(line: dict[str, str]) -> FacePrediction:
    def numbers(names: Iterable[str]) -> NDArray[np.float64]:
        return np.array([float(line[name] or "nan") for name in names])

    return FacePrediction(
        float(line["stamp_s"]),
        line["id"],
        numbers(_CORNERS),
        _INDEX_OF[line["emotion"]],
        _INDEX_OF[line["label"]],
        line["target_face"],
        numbers(EMOTIONS),
        numbers(f"raw_{name}" for name in EMOTIONS),
    )


def _round_probabilities(values: Any) -> NDArray[np.float64]:
    return np.round(np.array(values, np.float64).reshape(-1, len(EMOTIONS)), _DIGITS)
