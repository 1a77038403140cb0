"""Two runs over the same recordings side by side, and which of their differences are real.

Faces are paired by recording, time and label. Images that follow each other show nearly the same,
so whole stretches of five seconds are drawn again and again, not single images, and both runs get
the same stretches. A difference is real when the middle 95 % of its draws are all on one side of
zero; fewer than eight stretches cannot say.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fer_ros.evaluation import EvaluationError
from fer_ros.evaluation.metrics import FIGURES, count_bins, count_confusion
from fer_ros.evaluation.report import VERDICT
from fer_ros.evaluation.store import load, read_json
from fer_ros.evaluation.table import FaceTable
from fer_ros.labels import EMOTIONS

STRETCH_S = 5.0
MIN_STRETCHES = 8
DRAWS = 2000
_PART = 250  # draws at a time: memory
_SEED = 0


class RunError(EvaluationError):
    """A folder holds no run that can be compared; the message is one line."""


@dataclass(frozen=True)
class Run:
    """The verdict of a run and its faces by recording."""

    folder: Path
    verdict: dict[str, Any]
    tables: dict[str, FaceTable]


def read_run(folder: Path) -> Run:
    """What ``fer evaluate-bag --out FOLDER`` left. Raises RunError."""
    try:
        verdict = read_json(folder / VERDICT)
        names = [*verdict["bags"]]
    except (OSError, ValueError, KeyError, TypeError):
        raise RunError(
            f"{folder}: expected a run, found no {VERDICT}: fer evaluate-bag makes one"
        ) from None
    tables = {}
    for name in names:
        outcome = load(folder / "bags" / name)
        if outcome is None:
            raise RunError(f"{folder}: bags/{name} is damaged or missing; evaluate it again")
        tables[name] = outcome.table
    return Run(folder, verdict, tables)


def compare(first: Run, second: Run) -> dict[str, Any]:
    """The figures of both over the faces that both have read, and their differences.

    Raises RunError when there is no such face.
    """
    pairs = [
        _paired(first.tables[name], second.tables[name])
        for name in first.tables
        if name in second.tables
    ]
    pairs = [(one, other) for one, other in pairs if len(one)]
    if not pairs:
        raise RunError(
            f"{first.folder} and {second.folder}: no labelled face of the same recording and time "
            "was read in both"
        )
    counts = [_counts([pair[k] for pair in pairs]) for k in (0, 1)]
    draws = _draws(counts)
    figures = {name: _figure(name, counts, draws[name]) for name in FIGURES}
    return {
        "first": _described(first),
        "second": _described(second),
        "faces": sum(len(one) for one, _ in pairs),
        "stretches": len(counts[0][0]),
        "figures": figures,
        "video": {
            name: {"first": value, "second": second.verdict["video"][name]}
            for name, value in first.verdict["video"].items()
        },
    }


def _described(run: Run) -> dict[str, Any]:
    verdict = run.verdict
    return {
        "folder": str(run.folder),
        "model": verdict["model"],
        "sha256": verdict["sha256"],
        "partial": verdict["partial"],
        "faces": verdict["scores"]["faces"],
    }


def _paired(one: FaceTable, other: FaceTable) -> tuple[FaceTable, FaceTable]:
    """The rows of the faces that both have read, in the same order."""
    one, other = (table.where(table.scored) for table in (one, other))
    places = {key: k for k, key in enumerate(_keys(other))}
    rows = [(k, places[key]) for k, key in enumerate(_keys(one)) if key in places]
    left, right = np.array(rows, np.int64).reshape(-1, 2).T
    return one.where(left), other.where(right)


def _keys(table: FaceTable) -> list[tuple[float, str, int]]:
    columns = table.stamp_s.tolist(), table.who.tolist(), table.label.tolist()
    return list(zip(*columns, strict=True))


def _counts(tables: list[FaceTable]) -> tuple[NDArray, NDArray]:
    """Tables of counts of each stretch: (S, 8, 8) and (S, 15, 3)."""
    confusions, bins = [], []
    for table in tables:
        stretch = (table.stamp_s // STRETCH_S).astype(int)
        for number in np.unique(stretch):
            part = table.where(stretch == number)
            confusions.append(count_confusion(part.label, part.emotion))
            bins.append(count_bins(part.label, part.probabilities))
    return np.array(confusions), np.array(bins)


def _draws(counts: list[tuple[NDArray, NDArray]]) -> dict[str, NDArray[np.float64]]:
    """Differences (DRAWS,) of each figure, second minus first."""
    random = np.random.default_rng(_SEED)
    number = len(counts[0][0])
    differences: dict[str, list[NDArray]] = {name: [] for name in FIGURES}
    for _ in range(0, DRAWS, _PART):
        weights = random.multinomial(number, np.full(number, 1 / number), size=_PART)
        drawn = [[np.tensordot(weights, part, 1) for part in run] for run in counts]
        for name, figure in FIGURES.items():
            differences[name].append(figure(*drawn[1]) - figure(*drawn[0]))
    return {name: np.concatenate(parts) for name, parts in differences.items()}


def _figure(
    name: str, counts: list[tuple[NDArray, NDArray]], draws: NDArray[np.float64]
) -> dict[str, Any]:
    first, second = (float(FIGURES[name](*(part.sum(axis=0) for part in run))) for run in counts)
    low, high = np.nanpercentile(draws, (2.5, 97.5)).tolist()
    return {
        "first": round(first, 5),
        "second": round(second, 5),
        "difference": round(second - first, 5),
        "low": round(low, 5),
        "high": round(high, 5),
        "real": (low > 0 or high < 0) if len(counts[0][0]) >= MIN_STRETCHES else None,
    }


def as_text(comparison: Mapping[str, Any]) -> str:
    """The comparison for people, in lines."""
    lines = [
        f"first:  {comparison['first']['folder']}, model {comparison['first']['model']}",
        f"second: {comparison['second']['folder']}, model {comparison['second']['model']}",
        f"{comparison['faces']} faces read in both, {comparison['stretches']} stretches of "
        f"{STRETCH_S:g} s, {len(EMOTIONS)} emotions",
        "",
        f"{'':<26} {'first':>8} {'second':>8} {'second - first, 95 %':>27}",
    ]
    for name, figure in comparison["figures"].items():
        span = f"{figure['difference']:+.1%} ({figure['low']:+.1%} to {figure['high']:+.1%})"
        real = {True: "real", False: "may be chance", None: "too few to say"}[figure["real"]]
        lines.append(
            f"{name:<26} {figure['first']:8.1%} {figure['second']:8.1%} {span:>27}  {real}"
        )
    for name, figure in comparison["video"].items():
        values = ("-" if value is None else f"{value:g}" for value in figure.values())
        first, second = values
        lines.append(f"{name:<26} {first:>8} {second:>8}")
    return "\n".join(lines)
