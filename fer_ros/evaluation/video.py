"""How steady, how complete and how quick emotions are over time, as counts that add up."""

from collections.abc import Iterator
from dataclasses import dataclass, field, fields

import numpy as np
from numpy.typing import NDArray

from fer_ros.evaluation.table import NONE, FaceTable

_GAP_S = 1.0  # after a longer pause, what went before is another story


@dataclass(frozen=True)
class VideoCounts:
    """Of one recording, or the sum of several.

    ``seen_s`` is how long faces had an emotion, ``spells`` how often they kept one, ``changes`` how
    often a face was to show another emotion, ``quick_s`` the seconds from there to the first frame
    that said so, where one did.
    """

    frames: int = 0
    frames_with_face: int = 0
    labelled: int = 0
    found: int = 0
    read: int = 0
    seen_s: float = 0.0
    spells: int = 0
    switches: int = 0
    id_switches: int = 0
    changes: int = 0
    quick_s: list[float] = field(default_factory=list)

    def __add__(self, other: "VideoCounts") -> "VideoCounts":
        names = [each.name for each in fields(self)]
        return VideoCounts(*(getattr(self, name) + getattr(other, name) for name in names))

    def figures(self) -> dict[str, float | int | None]:
        """What a verdict says of them; None where there is nothing to measure."""
        return {
            "frames": self.frames,
            "frames_with_face": _share(self.frames_with_face, self.frames),
            "coverage": _share(self.found, self.labelled),
            "readable": _share(self.read, self.labelled),
            "switches_per_min": _share(60 * self.switches, self.seen_s),
            "mean_dwell_s": _share(self.seen_s, self.spells),
            "id_switches": self.id_switches if self.labelled else None,
            "label_changes": self.changes,
            "label_changes_never_seen": self.changes - len(self.quick_s),
            "median_time_to_correct_s": float(np.median(self.quick_s)) if self.quick_s else None,
        }


def count(table: FaceTable, frames: int) -> VideoCounts:
    """The counts of one recording with ``frames`` frames."""
    labelled = table.label != NONE
    steady = [_steadiness(table.where(rows)) for rows in _groups(table.id, table.found)]
    quick = [_quickness(table.where(rows)) for rows in _groups(table.who, labelled)]
    return VideoCounts(
        frames=frames,
        frames_with_face=len(np.unique(table.stamp_s[table.found])),
        labelled=int(labelled.sum()),
        found=int((labelled & table.found).sum()),
        read=int(table.scored.sum()),
        seen_s=sum(seconds for seconds, _, _ in steady),
        spells=sum(spells for _, spells, _ in steady),
        switches=sum(switches for _, _, switches in steady),
        id_switches=sum(_switches(table.where(rows)) for rows in _groups(table.who, labelled)),
        changes=sum(changes for changes, _ in quick),
        quick_s=[seconds for _, some in quick for seconds in some],
    )


def spells(table: FaceTable, values: NDArray) -> list[NDArray[np.int64]]:
    """Rows of one face, in order of time, cut wherever ``values`` (N,) change or time pauses."""
    cuts = (values[1:] != values[:-1]) | (np.diff(table.stamp_s) > _GAP_S)
    return np.split(np.arange(len(table)), np.flatnonzero(cuts) + 1) if len(table) else []


def _groups(names: NDArray[np.str_], keep: NDArray[np.bool_]) -> Iterator[NDArray[np.int64]]:
    for name in np.unique(names[keep]):
        yield np.flatnonzero(keep & (names == name))


def _steadiness(table: FaceTable) -> tuple[float, int, int]:
    """Of one id: seconds with an emotion, spells of one emotion, changes from one to the next."""
    table = table.where(table.emotion != NONE)
    stretches = spells(table, np.zeros(len(table)))
    seconds = sum(float(table.stamp_s[rows[-1]] - table.stamp_s[rows[0]]) for rows in stretches)
    kept = len(spells(table, table.emotion))
    return round(seconds, 6), kept, kept - len(stretches)


def _switches(table: FaceTable) -> int:
    """How often the face that a label names got another id, while the label went on."""
    switches = 0
    for rows in spells(table, np.zeros(len(table))):
        ids = table.id[rows][table.found[rows]]
        switches += int((ids[1:] != ids[:-1]).sum())
    return switches


def _quickness(table: FaceTable) -> tuple[int, list[float]]:
    """Of one labelled face: changes of its label, and the seconds until it was read rightly."""
    changes = spells(table, table.label)
    quick = []
    for rows in changes:
        right = rows[table.emotion[rows] == table.label[rows]]
        if len(right):
            quick.append(round(float(table.stamp_s[right[0]] - table.stamp_s[rows[0]]), 6))
    return len(changes), quick


def _share(part: float, whole: float) -> float | None:
    return part / whole if whole else None
