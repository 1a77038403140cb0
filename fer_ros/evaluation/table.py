"""What was read in faces and what was to be read, one row per face and frame, and its CSV file.

Numbers are rounded on birth, so that a table from memory and one from its file give the same
figures to the last digit.
"""

import csv
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fer_ros.labels import EMOTIONS

NONE = -1
"""Instead of an index into EMOTIONS: no label, or a face that cannot be read."""

_AT_ONCE = 4096
_DIGITS = 5
_NAMES = ("", *EMOTIONS)
_NUMBER_OF = {name: number - 1 for number, name in enumerate(_NAMES)}
_CORNERS = ("left", "top", "right", "bottom")
_COLUMNS = (
    "stamp_s",
    "id",
    *_CORNERS,
    "emotion",
    "label",
    "who",
    *EMOTIONS,
    *(f"raw_{name}" for name in EMOTIONS),
)


class FaceRow(NamedTuple):
    """A face of a frame; ``id`` empty: a face that has a label and was not found.

    ``stamp_s`` since the first image; ``emotion`` is the stable one, an index into EMOTIONS or
    NONE, ``label`` the one to be read, ``who`` the face that the label names.
    ``probabilities`` and ``raw`` (8,) are smoothed and of this frame alone.
    """

    stamp_s: float
    id: str
    box_xyxy: NDArray[np.floating]
    emotion: int
    label: int
    who: str
    probabilities: NDArray[np.floating]
    raw: NDArray[np.floating]


@dataclass(frozen=True, eq=False)
class FaceTable:
    """Rows as columns of N; see FaceRow. Boxes (N, 4) and probabilities (N, 8) are NaN or real."""

    stamp_s: NDArray[np.float64]
    id: NDArray[np.str_]
    box_xyxy: NDArray[np.float64]
    emotion: NDArray[np.int64]
    label: NDArray[np.int64]
    who: NDArray[np.str_]
    probabilities: NDArray[np.float64]
    raw: NDArray[np.float64]

    @classmethod
    def of(cls, rows: Iterable[FaceRow]) -> "FaceTable":
        """The table of these rows. It needs less memory than they do: rows may come one by one."""
        coming, tables = iter(rows), []
        while some := list(islice(coming, _AT_ONCE)):
            tables.append(cls._of_some(some))
        return cls.joined(tables)

    @classmethod
    def joined(cls, tables: Sequence["FaceTable"]) -> "FaceTable":
        """The rows of all these tables."""
        parts = list(tables) or [cls._of_some([])]
        names = [column.name for column in fields(cls)]
        return cls(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))

    @classmethod
    def _of_some(cls, rows: list[FaceRow]) -> "FaceTable":
        columns = list(zip(*rows, strict=True)) or [()] * len(FaceRow._fields)
        stamps, ids, boxes, emotions, labels, whose, probabilities, raw = columns
        return cls(
            np.asarray(np.round(np.array(stamps, np.float64), 6)),
            np.array(ids, np.str_),
            np.asarray(np.round(np.array(boxes, np.float64).reshape(-1, 4), 2)),
            np.array(emotions, np.int64),
            np.array(labels, np.int64),
            np.array(whose, np.str_),
            _rounded(probabilities),
            _rounded(raw),
        )

    def __len__(self) -> int:
        return len(self.stamp_s)

    def where(self, keep: NDArray) -> "FaceTable":
        """The rows of a mask (N,) or of indices."""
        return FaceTable(*(getattr(self, column.name)[keep] for column in fields(self)))

    @property
    def found(self) -> NDArray[np.bool_]:
        """Rows (N,) of faces that were there."""
        return self.id != ""

    @property
    def scored(self) -> NDArray[np.bool_]:
        """Rows (N,) that have a label and were read."""
        return (self.label != NONE) & (self.emotion != NONE)

    def write(self, path: Path) -> None:
        """Writes the CSV file."""
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(_COLUMNS)
            writer.writerows(self._row(k) for k in range(len(self)))

    def _row(self, k: int) -> list[Any]:
        numbers = [*self.box_xyxy[k].tolist()]
        shares = [*self.probabilities[k].tolist(), *self.raw[k].tolist()]
        names = [_NAMES[self.emotion[k] + 1], _NAMES[self.label[k] + 1], str(self.who[k])]
        blank = [["" if value != value else value for value in part] for part in (numbers, shares)]
        return [self.stamp_s[k].item(), str(self.id[k]), *blank[0], *names, *blank[1]]

    @classmethod
    def read(cls, path: Path) -> "FaceTable":
        """The table of a CSV file. Raises ValueError when it is another kind of file."""
        with path.open(encoding="utf-8", newline="") as file:
            lines = csv.DictReader(file)
            if lines.fieldnames is None or tuple(lines.fieldnames) != _COLUMNS:
                raise ValueError(
                    f"{path}: expected the columns of an evaluation, {_COLUMNS[:3]}..."
                )
            return cls.of(_parsed(line) for line in lines)


def _parsed(line: dict[str, str]) -> FaceRow:
    def numbers(names: Iterable[str]) -> NDArray[np.float64]:
        return np.array([float(line[name] or "nan") for name in names])

    return FaceRow(
        float(line["stamp_s"]),
        line["id"],
        numbers(_CORNERS),
        _NUMBER_OF[line["emotion"]],
        _NUMBER_OF[line["label"]],
        line["who"],
        numbers(EMOTIONS),
        numbers(f"raw_{name}" for name in EMOTIONS),
    )


def _rounded(shares: Any) -> NDArray[np.float64]:
    return np.round(np.array(shares, np.float64).reshape(-1, len(EMOTIONS)), _DIGITS)
