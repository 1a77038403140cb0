"""Plots of evaluation results as PNG images."""

import io

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from fer_ros.emotions import EMOTION_COLORS, EMOTIONS
from fer_ros.evaluation.metrics.classification import BINS
from fer_ros.evaluation.metrics.temporal import segments
from fer_ros.evaluation.predictions import NO_LABEL, PredictionTable
from fer_ros.evaluation.report.timelines import longest_faces
from fer_ros.io.errors import encodable

_DPI = 110
_GRID_COLOR = "#e8eaed"


def timeline(table: PredictionTable, title: str, duration_s: float) -> bytes:
    """Plot the probabilities of each face over time, with the prediction and the label below."""
    faces = longest_faces(table)
    figure = Figure(figsize=(11, 0.8 + 1.9 * max(1, len(faces))), layout="constrained")
    axes = figure.subplots(max(1, len(faces)), 1, sharex=True, squeeze=False)[:, 0]
    figure.suptitle(_plain(title), fontsize=11)
    for axis, name in zip(axes, faces, strict=False):
        _plot_face(axis, table.where(table.id == name), table, name)
    if not faces:
        axes[0].text(0.5, 0.5, "no face", transform=axes[0].transAxes, ha="center")
        axes[0].set_yticks([])
    axes[-1].set_xlim(0, max(duration_s, 0.1))
    axes[-1].set_xlabel("seconds since the first image")
    handles = [figure.axes[0].fill_between([], [], color=EMOTION_COLORS[name]) for name in EMOTIONS]
    figure.legend(handles, EMOTIONS, loc="outside right upper", fontsize=8, frameon=False)
    return _png(figure)


def _plot_face(axis: Axes, face: PredictionTable, table: PredictionTable, name: str) -> None:
    """Stacked probabilities; below them the label of the face and the ground truth as two bars."""
    readable = face.where(face.emotion != NO_LABEL)
    for rows in segments(readable, np.zeros(len(readable))):
        probabilities = readable.probabilities[rows].T
        colors = [*EMOTION_COLORS.values()]
        axis.stackplot(readable.stamp_s[rows], probabilities, colors=colors, linewidth=0)
    _plot_bars(axis, readable, readable.emotion, -0.2)
    targets = np.unique(face.target_face[face.label != NO_LABEL])
    labeled = table.where(np.isin(table.target_face, targets) & (table.label != NO_LABEL))
    # A label continues while its face is not detected; it may belong to another track by then.
    labeled = labeled.where((labeled.id == name) | (labeled.id == ""))
    is_within = (labeled.stamp_s >= face.stamp_s[0]) & (labeled.stamp_s <= face.stamp_s[-1])
    labeled = labeled.where(is_within)
    _plot_bars(axis, labeled, labeled.label, -0.42)
    axis.set_ylim(-0.45, 1)
    axis.set_yticks([-0.32, -0.1, 0.5, 1], ["label", "predicted", "0.5", "1"], fontsize=8)
    axis.set_title(_plain(name), fontsize=9, loc="left")
    axis.grid(axis="x", color=_GRID_COLOR)
    axis.set_axisbelow(True)


def _plot_bars(axis: Axes, table: PredictionTable, emotions: NDArray[np.int64], low: float) -> None:
    for rows in segments(table, emotions):
        start, end = table.stamp_s[rows[0]], table.stamp_s[rows[-1]]
        color = EMOTION_COLORS[EMOTIONS[emotions[rows[0]]]]
        axis.broken_barh([(start, max(end - start, 0.03))], (low, 0.17), color=color)


def confusion(counts: NDArray[np.int64]) -> bytes:
    """Plot a confusion matrix (8, 8): fractions of each label, with counts as text."""
    sums = counts.sum(axis=1, keepdims=True)
    fractions = counts / np.maximum(sums, 1)
    figure = Figure(figsize=(6.4, 5.4), layout="constrained")
    axis = figure.subplots()
    image = axis.imshow(fractions, cmap="Blues", vmin=0, vmax=1)
    figure.colorbar(image, label="fraction of the label", shrink=0.8)
    axis.set_xticks(range(len(EMOTIONS)), EMOTIONS, rotation=45, ha="right")
    axis.set_yticks(range(len(EMOTIONS)), EMOTIONS)
    axis.set(xlabel="predicted", ylabel="label")
    for (row, column), count in np.ndenumerate(counts):
        if sums[row, 0]:
            color = "white" if fractions[row, column] > 0.6 else "black"
            axis.text(column, row, str(count), ha="center", va="center", color=color, fontsize=8)
    return _png(figure)


def calibration(bins: NDArray[np.float64]) -> bytes:
    """Plot the reliability diagram of a calibration table (15, 3)."""
    faces, correct, confidence = bins.T
    known = faces > 0
    figure = Figure(figsize=(5.4, 5.4), layout="constrained")
    diagram, histogram = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    diagram.plot([0, 1], [0, 1], color="#9aa0a6", linestyle="--", label="perfect")
    points = confidence[known] / faces[known], correct[known] / faces[known]
    diagram.plot(*points, color="#3d6fd1", marker="o", label="measured")
    diagram.set(ylabel="accuracy", ylim=(0, 1), xlim=(0, 1))
    diagram.legend(frameon=False, loc="upper left")
    histogram.bar((np.arange(BINS) + 0.5) / BINS, faces, width=0.9 / BINS, color="#3d6fd1")
    histogram.set(xlabel="confidence", ylabel="faces")
    for axis in (diagram, histogram):
        axis.grid(color=_GRID_COLOR)
        axis.set_axisbelow(True)
    return _png(figure)


def _plain(text: str) -> str:
    """The text as it is: no formulas between dollars, no characters that cannot be drawn."""
    return encodable(text).replace("$", r"\$")


def _png(figure: Figure) -> bytes:
    """Render without the version of Matplotlib, so that equal plots are equal bytes."""
    FigureCanvasAgg(figure)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=_DPI, metadata={"Software": None})
    return buffer.getvalue()
