"""The figures of a verdict as PNG pictures."""

import io

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from fer_ros.evaluation.metrics import BINS
from fer_ros.evaluation.table import NONE, FaceTable
from fer_ros.evaluation.video import spells
from fer_ros.labels import EMOTIONS

COLOURS = {
    "neutral": "#9aa0a6",
    "happiness": "#f2b705",
    "sadness": "#3d6fd1",
    "surprise": "#f07c1c",
    "fear": "#8e4ec6",
    "disgust": "#5e9c31",
    "anger": "#d6362b",
    "contempt": "#0b9a94",
}
MOST_FACES = 8
"""In one timeline: those that were seen longest."""

_DPI = 110
_PALE = "#e8eaed"


def timeline(table: FaceTable, title: str, duration_s: float) -> bytes:
    """Eight probabilities over time for each face, with what was read and its labels under them."""
    faces = _longest(table)
    figure = Figure(figsize=(11, 0.8 + 1.9 * max(1, len(faces))), layout="constrained")
    axes = figure.subplots(max(1, len(faces)), 1, sharex=True, squeeze=False)[:, 0]
    figure.suptitle(title, fontsize=11)
    for axis, name in zip(axes, faces, strict=False):
        _one_face(axis, table.where(table.id == name), table, name)
    if not faces:
        axes[0].text(0.5, 0.5, "no face", transform=axes[0].transAxes, ha="center")
        axes[0].set_yticks([])
    axes[-1].set_xlim(0, max(duration_s, 0.1))
    axes[-1].set_xlabel("seconds since the first image")
    handles = [figure.axes[0].fill_between([], [], color=COLOURS[name]) for name in EMOTIONS]
    figure.legend(handles, EMOTIONS, loc="outside right upper", fontsize=8, frameon=False)
    return _png(figure)


def _longest(table: FaceTable) -> list[str]:
    names, counts = np.unique(table.id[table.found], return_counts=True)
    return sorted(names[np.argsort(-counts, kind="stable")][:MOST_FACES].tolist())


def _one_face(axis: Axes, face: FaceTable, table: FaceTable, name: str) -> None:
    """Shares above, the stable emotion and the label as two bars below them."""
    read = face.where(face.emotion != NONE)
    for rows in spells(read, np.zeros(len(read))):
        shares = read.probabilities[rows].T
        axis.stackplot(read.stamp_s[rows], shares, colors=[*COLOURS.values()], linewidth=0)
    _bars(axis, read, read.emotion, -0.2)
    whose = np.unique(face.who[face.label != NONE])
    labelled = table.where(np.isin(table.who, whose) & (table.label != NONE))
    # A label goes on where its face was not found; another face may have it by then.
    mine = labelled.where((labelled.id == name) | (labelled.id == ""))
    mine = mine.where((mine.stamp_s >= face.stamp_s[0]) & (mine.stamp_s <= face.stamp_s[-1]))
    _bars(axis, mine, mine.label, -0.42)
    axis.set_ylim(-0.45, 1)
    axis.set_yticks([-0.32, -0.1, 0.5, 1], ["label", "read", "0.5", "1"], fontsize=8)
    axis.set_title(name, fontsize=9, loc="left")
    axis.grid(axis="x", color=_PALE)
    axis.set_axisbelow(True)


def _bars(axis: Axes, table: FaceTable, emotions: NDArray[np.int64], low: float) -> None:
    for rows in spells(table, emotions):
        start, end = table.stamp_s[rows[0]], table.stamp_s[rows[-1]]
        colour = COLOURS[EMOTIONS[emotions[rows[0]]]]
        axis.broken_barh([(start, max(end - start, 0.03))], (low, 0.17), color=colour)


def confusion(counts: NDArray[np.int64]) -> bytes:
    """Labels in rows, what was read in columns; shares of the row, with the counts as text."""
    sums = counts.sum(axis=1, keepdims=True)
    shares = counts / np.maximum(sums, 1)
    figure = Figure(figsize=(6.4, 5.4), layout="constrained")
    axis = figure.subplots()
    image = axis.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    figure.colorbar(image, label="share of the label's faces", shrink=0.8)
    axis.set_xticks(range(len(EMOTIONS)), EMOTIONS, rotation=45, ha="right")
    axis.set_yticks(range(len(EMOTIONS)), EMOTIONS)
    axis.set(xlabel="read", ylabel="label")
    for (row, column), number in np.ndenumerate(counts):
        if sums[row, 0]:
            colour = "white" if shares[row, column] > 0.6 else "black"
            axis.text(column, row, str(number), ha="center", va="center", color=colour, fontsize=8)
    return _png(figure)


def calibration(bins: NDArray[np.float64]) -> bytes:
    """How often the most probable emotion was right, by its probability (15 bins)."""
    faces, right, confidence = bins.T
    known = faces > 0
    figure = Figure(figsize=(5.4, 5.4), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    above.plot([0, 1], [0, 1], color="#9aa0a6", linestyle="--", label="perfect")
    points = confidence[known] / faces[known], right[known] / faces[known]
    above.plot(*points, color="#3d6fd1", marker="o", label="measured")
    above.set(ylabel="share that was right", ylim=(0, 1), xlim=(0, 1))
    above.legend(frameon=False, loc="upper left")
    below.bar((np.arange(BINS) + 0.5) / BINS, faces, width=0.9 / BINS, color="#3d6fd1")
    below.set(xlabel="probability", ylabel="faces")
    for axis in (above, below):
        axis.grid(color=_PALE)
        axis.set_axisbelow(True)
    return _png(figure)


def _png(figure: Figure) -> bytes:
    """Without the version of Matplotlib in it: the same figures are the same bytes."""
    FigureCanvasAgg(figure)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=_DPI, metadata={"Software": None})
    return buffer.getvalue()
