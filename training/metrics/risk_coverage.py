"""``python -m training.metrics.risk_coverage DATASET --model NAME --out FOLDER``: the quality gate.

Measures accuracy against coverage for each criterion of the gate. Padded crops of a dataset are
placed in scenes of 636x424 px with random sizes and blurs. The pipeline runs on them without a
gate. Sorted by a criterion, the faces give a risk-coverage curve (El-Yaniv and Wiener, 2010, JMLR
11:1605): the accuracy of the faces that pass against the fraction of all images that pass. Writes
``risk.png`` and prints a table of thresholds.
"""

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from fer_ros.alignment import align, alignment_points
from fer_ros.config import (
    ClassifierConfig,
    DetectorConfig,
    PipelineConfig,
    QualityConfig,
)
from fer_ros.io.progress import progress_bar
from fer_ros.pipeline import EmotionPipeline
from fer_ros.quality import laplacian_variance, yaw_deg
from fer_ros.types import FaceEmotion, Frame
from training.command_line import report_error
from training.datasets.splits import load_faces

MAX_IMAGES = 3600
COLUMNS, ROWS, CELL_PX = 3, 2, 212
_SIDES_PX = (24.0, 208.0)  # range of an image in the scene; its face is about two thirds of it
_BLURS = (0.0, 0.0, 0.01, 0.02, 0.04)  # standard deviations, as fractions of the image's side
_SEED = 0
_THRESHOLDS: dict[str, tuple[float, ...]] = {
    "size in pixels, at least": (24, 32, 48, 64, 96),
    "score, at least": (0.4, 0.5, 0.6, 0.7, 0.8),
    "yaw in degrees, at most": (15, 30, 45, 60),
    "sharpness, at least": (10, 20, 40, 80),
    "probability, at least": (0.3, 0.5, 0.7, 0.9),
}
"""Thresholds by criterion; sharpness is the variance of the Laplacian of the aligned crop."""


@dataclass(frozen=True, eq=False)
class GateMeasurements:
    """Criteria and correctness of N images.

    ``criteria`` (N, 5): values in the order of the thresholds, higher is better (the yaw is
    negated), NaN where no face was detected. ``correct`` (N,): whether the emotion is the label.
    """

    criteria: NDArray[np.float64]
    correct: NDArray[np.bool_]


def scene(
    padded_crops: NDArray[np.uint8], sides_px: NDArray[np.int64], blurs: NDArray[np.float64]
) -> NDArray[np.uint8]:
    """Place up to 6 padded crops (N, 144, 144) in the cells of a gray scene (424, 636, 3)."""
    scene_rgb = np.full((ROWS * CELL_PX, COLUMNS * CELL_PX, 3), 128, np.uint8)
    for index, (padded_crop, side, blur) in enumerate(
        zip(padded_crops, sides_px, blurs, strict=True)
    ):
        image = cv2.resize(padded_crop, (int(side), int(side)), interpolation=cv2.INTER_AREA)
        if blur > 0:
            image = cv2.GaussianBlur(image, (0, 0), blur * side)
        top, left = (CELL_PX * cell + (CELL_PX - side) // 2 for cell in divmod(index, COLUMNS))
        scene_rgb[top : top + side, left : left + side] = image[..., None]
    return scene_rgb


def measure(
    pipeline: EmotionPipeline, padded_crops: NDArray[np.uint8], labels: NDArray[np.int64]
) -> GateMeasurements:
    """Run the pipeline on padded crops (N, 144, 144) with ``labels`` (N,)."""
    random, count = np.random.default_rng(_SEED), len(labels)
    low, high = np.log(_SIDES_PX)
    sides_px = np.exp(random.uniform(low, high, count)).round().astype(np.int64)
    blurs = random.choice(_BLURS, count)
    criteria = np.full((count, len(_THRESHOLDS)), np.nan)
    correct = np.zeros(count, np.bool_)
    for start in progress_bar(range(0, count, COLUMNS * ROWS), description="scenes"):
        part = slice(start, start + COLUMNS * ROWS)
        scene_rgb = scene(padded_crops[part], sides_px[part], blurs[part])
        pipeline.reset()
        # The best face of a cell comes first, and is written last.
        for face in reversed(pipeline(Frame(scene_rgb, 0.0)).faces):
            column, row = ((face.box_xyxy[:2] + face.box_xyxy[2:]) / 2 // CELL_PX).astype(int)
            index = start + row * COLUMNS + column
            if 0 <= column < COLUMNS and 0 <= row < ROWS and index < count:
                criteria[index] = _criteria(face, scene_rgb)
                correct[index] = face.raw_probabilities.argmax() == labels[index]
    return GateMeasurements(criteria, correct)


def _criteria(face: FaceEmotion, scene_rgb: NDArray[np.uint8]) -> list[float]:
    crop = align(scene_rgb, alignment_points(face.points_xy[None])).crops_rgb[0]
    size_px = float((face.box_xyxy[2:] - face.box_xyxy[:2]).min())
    probability = float(face.raw_probabilities.max())
    yaw = abs(yaw_deg(face.points_xy))
    return [size_px, face.score, -yaw, laplacian_variance(crop), probability]


def gate_metrics(
    measurements: GateMeasurements, column: int, threshold: float
) -> tuple[float, float]:
    """Coverage and accuracy of a threshold; the accuracy is NaN when no face passes."""
    passes = measurements.criteria[:, column] >= threshold  # false for NaN
    correct = measurements.correct[passes]
    return float(passes.mean()), float(correct.mean()) if len(correct) else float("nan")


def accuracy_by_coverage(
    measurements: GateMeasurements, column: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Coverage and accuracy (M,) of the best 1 to M of the M detected faces."""
    detected = np.flatnonzero(np.isfinite(measurements.criteria[:, column]))
    order = detected[np.argsort(-measurements.criteria[detected, column], kind="stable")]
    passed = np.arange(1, len(order) + 1)
    return passed / len(measurements.correct), measurements.correct[order].cumsum() / passed


def markdown_lines(measurements: GateMeasurements) -> Iterator[str]:
    """A Markdown table: without a gate, then each threshold."""
    coverage, accuracy = gate_metrics(measurements, 0, -np.inf)
    yield "| criterion | threshold | coverage | accuracy |"
    yield "|---|---|---|---|"
    yield f"| none: all detected faces | | {coverage:.1%} | {accuracy:.1%} |"
    for column, (name, thresholds) in enumerate(_THRESHOLDS.items()):
        for threshold in thresholds:
            limit = -threshold if "at most" in name else threshold
            coverage, accuracy = gate_metrics(measurements, column, limit)
            yield f"| {name} | {threshold} | {coverage:.1%} | {accuracy:.1%} |"


def draw(measurements: GateMeasurements, path: Path) -> None:
    """Plot the curves of all criteria from a coverage of 5% on; below, they are mostly noise."""
    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.subplots()
    for column, name in enumerate(_THRESHOLDS):
        coverage, accuracy = accuracy_by_coverage(measurements, column)
        first = len(measurements.correct) // 20
        axes.plot(coverage[first:], accuracy[first:], label=name.partition(",")[0])
    axes.set(xlabel="coverage: fraction of all images", ylabel="accuracy of these")
    axes.legend()
    axes.grid(alpha=0.3)
    figure.savefig(path, dpi=100)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("dataset", type=Path, help="a labeled dataset of training.prepare")
    parser.add_argument("--model", required=True, help="name or folder of a model")
    parser.add_argument("--out", type=Path, required=True, help="folder for risk.png")
    arguments = parser.parse_args(argv)
    config = PipelineConfig(
        detector=DetectorConfig(score_threshold=0.3),
        quality=QualityConfig(min_size_px=0, min_score=0, max_yaw_deg=90),
        classifier=ClassifierConfig(model=arguments.model, precision="fp32"),
    ).for_still_images()
    try:
        faces = load_faces(arguments.dataset)
        labels = faces.labels.numpy()
        chosen = np.random.default_rng(_SEED).permutation(len(labels))[:MAX_IMAGES]
        measurements = measure(
            EmotionPipeline(config), faces.padded_crops.numpy()[chosen], labels[chosen]
        )
        arguments.out.mkdir(parents=True, exist_ok=True)
        draw(measurements, arguments.out / "risk.png")
    except (ValueError, OSError) as error:
        return report_error("risk_coverage", error)
    print(*markdown_lines(measurements), sep="\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
