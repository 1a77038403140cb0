"""Plots of a training run, as in Da Re (``training.experiments``; figures 2, 4, 7 and 8)."""

import io
from collections.abc import Mapping, Sequence
from math import isnan, nan
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from fer_ros.emotions import EMOTION_COLORS, EMOTIONS
from fer_ros.evaluation.report import plots

mpl.use("Agg")


def draw_curves(
    rows: Sequence[Mapping[str, Any]], curves: Mapping[str, Sequence[str]], path: Path
) -> None:
    """Plot metrics over the epochs of ``metrics.csv``; ``curves``: their names by axis label.

    Names that are no column are left out, and so are epochs without a value (NaN).
    """
    figure = Figure(figsize=(5 * len(curves), 4), layout="constrained")
    all_axes = figure.subplots(1, len(curves), squeeze=False)[0]
    for axes, (label, names) in zip(all_axes, curves.items(), strict=True):
        for name in names:
            values = [(row["epoch"], row[name]) for row in rows if not isnan(row.get(name, nan))]
            if values:
                axes.plot(*zip(*values, strict=True), marker=".", label=name)
        axes.set(xlabel="epoch", ylabel=label)
        axes.legend()
        axes.grid(alpha=0.3)
    figure.savefig(path)


def draw_classes(counts: dict[str, NDArray[np.int64]], path: Path) -> None:
    """How many images each emotion has (8,), by split."""
    figure = Figure(figsize=(8, 4), layout="constrained")
    axes = figure.subplots()
    width = 0.8 / len(counts)
    for index, (split, values) in enumerate(counts.items()):
        places = np.arange(len(EMOTIONS)) + (index - (len(counts) - 1) / 2) * width
        bars = axes.bar(places, values, width, label=split)
        axes.bar_label(bars, fontsize=7)
    axes.set_xticks(range(len(EMOTIONS)), EMOTIONS, rotation=30)
    axes.set(ylabel="images", yscale="symlog")
    axes.legend()
    figure.savefig(path)


def draw_confusion(counts: NDArray[np.int64], path: Path) -> None:
    """Plot a confusion matrix (8, 8) of counts: labels in rows, predictions in columns."""
    path.write_bytes(plots.confusion(counts))


def recall_png(
    recall: Mapping[str, float | None], intervals: Mapping[str, Sequence[float]]
) -> bytes:
    """Recall of each emotion with its interval, as a PNG; emotions without one stay empty."""
    figure = Figure(figsize=(5.4, 5.4), layout="constrained")
    axes = figure.subplots()
    for place, (name, share) in enumerate(recall.items()):
        if share is not None:
            axes.plot([place, place], intervals[name], color="black", linewidth=1)
            axes.bar(place, share, color=EMOTION_COLORS[name])
    axes.set_xticks(range(len(recall)), [*recall], rotation=45, ha="right")
    axes.set(ylabel="recall", ylim=(0, 1))
    axes.grid(axis="y", alpha=0.3)
    axes.set_axisbelow(True)
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=110)
    return buffer.getvalue()
