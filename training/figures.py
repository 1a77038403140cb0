"""Pictures of a run, as in the thesis (figures 2, 4, 7 and 8)."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from fer_ros.evaluation import pictures
from fer_ros.labels import EMOTIONS

mpl.use("Agg")


def draw_curves(rows: list[dict[str, Any]], path: Path) -> None:
    """Loss and accuracy over the epochs of ``metrics.csv``."""
    figure = Figure(figsize=(10, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    epochs = [row["epoch"] for row in rows]
    for name in ("train_loss", "valid_loss"):
        left.plot(epochs, [row[name] for row in rows], marker=".", label=name.partition("_")[0])
    for name in ("accuracy", "mean_recall"):
        right.plot(epochs, [row[f"valid_{name}"] for row in rows], marker=".", label=name)
    left.set(xlabel="epoch", ylabel="cross-entropy")
    right.set(xlabel="epoch", ylabel="on the validation split")
    for axes in (left, right):
        axes.legend()
        axes.grid(alpha=0.3)
    figure.savefig(path)


def draw_classes(counts: dict[str, NDArray[np.int64]], path: Path) -> None:
    """How many pictures each emotion has (8,), by split."""
    figure = Figure(figsize=(8, 4), layout="constrained")
    axes = figure.subplots()
    width = 0.8 / len(counts)
    for index, (split, values) in enumerate(counts.items()):
        places = np.arange(len(EMOTIONS)) + (index - (len(counts) - 1) / 2) * width
        bars = axes.bar(places, values, width, label=split)
        axes.bar_label(bars, fontsize=7)
    axes.set_xticks(range(len(EMOTIONS)), EMOTIONS, rotation=30)
    axes.set(ylabel="pictures", yscale="symlog")
    axes.legend()
    figure.savefig(path)


def draw_confusion(counts: NDArray[np.int64], path: Path) -> None:
    """True emotions in rows, what was seen in columns; shares of the row, with counts (8, 8)."""
    path.write_bytes(pictures.confusion(counts))


def recall_png(
    recall: Mapping[str, float | None], intervals: Mapping[str, Sequence[float]]
) -> bytes:
    """Recall of each emotion with its interval, as a PNG; emotions without one stay empty."""
    figure = Figure(figsize=(5.4, 5.4), layout="constrained")
    axes = figure.subplots()
    for place, (name, share) in enumerate(recall.items()):
        if share is not None:
            axes.plot([place, place], intervals[name], color="black", linewidth=1)
            axes.bar(place, share, color=pictures.COLOURS[name])
    axes.set_xticks(range(len(recall)), [*recall], rotation=45, ha="right")
    axes.set(ylabel="recall", ylim=(0, 1))
    axes.grid(axis="y", alpha=0.3)
    axes.set_axisbelow(True)
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=110)
    return buffer.getvalue()


def draw_pretraining(rows: list[dict[str, Any]], path: Path) -> None:
    """Losses, accuracy of the nearest neighbours, and the spread of the features, by epoch."""
    figure = Figure(figsize=(10, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    epochs = [row["epoch"] for row in rows]
    for name in ("loss", "dino", "ibot", "koleo"):
        if name in rows[-1]:
            left.plot(epochs, [row[name] for row in rows], marker=".", label=name)
    looks = [row for row in rows if row["knn_accuracy"] == row["knn_accuracy"]]
    for name, some in (("knn_accuracy", looks), ("feature_std", rows)):
        right.plot([row["epoch"] for row in some], [row[name] for row in some], ".-", label=name)
    left.set(xlabel="epoch", ylabel="loss")
    right.set(xlabel="epoch", ylim=(0, 1))
    for axes in (left, right):
        axes.legend()
        axes.grid(alpha=0.3)
    figure.savefig(path)
