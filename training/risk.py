"""``python -m training.risk PACK --model NAME --out FOLDER``: what the quality gate is worth.

Aligned faces of a pack are put into scenes of 636x424, each at a size and with a blur drawn by
lot, and go through the robot's pipeline with its gate wide open. Sorted by each thing that a gate
could ask for, best first, they give a risk-coverage curve (El-Yaniv and Wiener, 2010, JMLR
11:1605): the accuracy among those that pass, against the share of all pictures that pass. Leaves
``risk.png`` and prints the same as a table.
"""

import argparse
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from tqdm import tqdm

from fer_ros.align import align, five_points
from fer_ros.config import (
    ClassifierConfig,
    DetectorConfig,
    PipelineConfig,
    QualityConfig,
    TrackerConfig,
)
from fer_ros.pipeline import EmotionPipeline
from fer_ros.quality import sharpness, yaw_deg
from fer_ros.types import FaceEmotion, Frame
from training.data import load_faces

PICTURES = 3600
COLUMNS, ROWS, CELL_PX = 3, 2, 212
_SIDES_PX = (24.0, 208.0)  # of a picture in the scene; its face is about two thirds of it
_BLURS = (0.0, 0.0, 0.01, 0.02, 0.04)  # standard deviations, as shares of the picture's side
_SEED = 0
_THRESHOLDS: dict[str, tuple[float, ...]] = {
    "size in pixels, at least": (24, 32, 48, 64, 96),
    "score, at least": (0.4, 0.5, 0.6, 0.7, 0.8),
    "turn in degrees, at most": (15, 30, 45, 60),
    "sharpness, at least": (10, 20, 40, 80),
    "probability, at least": (0.3, 0.5, 0.7, 0.9),
}
"""What a gate can ask for; sharpness is the variance of the Laplacian of the aligned crop."""


@dataclass(frozen=True, eq=False)
class Found:
    """What was found of N pictures: ``measures`` (N, 5) as in the table, turns negated, NaN where
    no face was found; whether the emotion was ``right`` (N,).
    """

    measures: NDArray[np.float64]
    right: NDArray[np.bool_]


def scene(
    canvases: NDArray[np.uint8], sides_px: NDArray[np.int64], blurs: NDArray[np.float64]
) -> NDArray[np.uint8]:
    """Up to 6 canvases (N, 144, 144), each in its cell of a grey scene (424, 636, 3)."""
    scene_rgb = np.full((ROWS * CELL_PX, COLUMNS * CELL_PX, 3), 128, np.uint8)
    for place, (canvas, side, blur) in enumerate(zip(canvases, sides_px, blurs, strict=True)):
        picture = cv2.resize(canvas, (int(side), int(side)), interpolation=cv2.INTER_AREA)
        if blur > 0:
            picture = cv2.GaussianBlur(picture, (0, 0), blur * side)
        top, left = (CELL_PX * each + (CELL_PX - side) // 2 for each in divmod(place, COLUMNS))
        scene_rgb[top : top + side, left : left + side] = picture[..., None]
    return scene_rgb


def measure(
    pipeline: EmotionPipeline, canvases: NDArray[np.uint8], labels: NDArray[np.int64]
) -> Found:
    """What the pipeline makes of canvases (N, 144, 144) whose emotions are ``labels`` (N,)."""
    random, count = np.random.default_rng(_SEED), len(labels)
    low, high = np.log(_SIDES_PX)
    sides_px = np.exp(random.uniform(low, high, count)).round().astype(np.int64)
    blurs = random.choice(_BLURS, count)
    measures = np.full((count, len(_THRESHOLDS)), np.nan)
    right = np.zeros(count, np.bool_)
    for begin in tqdm(range(0, count, COLUMNS * ROWS), desc="scenes"):
        some = slice(begin, begin + COLUMNS * ROWS)
        scene_rgb = scene(canvases[some], sides_px[some], blurs[some])
        pipeline.reset()
        for face in reversed(pipeline(Frame(scene_rgb, 0.0)).faces):  # the best one counts
            column, row = ((face.box_xyxy[:2] + face.box_xyxy[2:]) / 2 // CELL_PX).astype(int)
            place = begin + row * COLUMNS + column
            if 0 <= column < COLUMNS and 0 <= row < ROWS and place < count:
                measures[place] = _measures(face, scene_rgb)
                right[place] = face.raw_probabilities.argmax() == labels[place]
    return Found(measures, right)


def _measures(face: FaceEmotion, scene_rgb: NDArray[np.uint8]) -> list[float]:
    crop = align(scene_rgb, five_points(face.points_xy[None])).crops_rgb[0]
    size_px = float((face.box_xyxy[2:] - face.box_xyxy[:2]).min())
    sure = float(face.raw_probabilities.max())
    return [size_px, face.score, -abs(yaw_deg(face.points_xy)), sharpness(crop), sure]


def passing(found: Found, column: int, threshold: float) -> tuple[float, float]:
    """Coverage and accuracy of a gate; the accuracy of nobody is NaN."""
    passes = found.measures[:, column] >= threshold  # NaN does not
    right = found.right[passes]
    return float(passes.mean()), float(right.mean()) if len(right) else float("nan")


def curve(found: Found, column: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Coverage and accuracy (M,) as more and more of the M faces pass, the best ones first."""
    seen = np.flatnonzero(np.isfinite(found.measures[:, column]))
    order = seen[np.argsort(-found.measures[seen, column], kind="stable")]
    passed = np.arange(1, len(order) + 1)
    return passed / len(found.right), found.right[order].cumsum() / passed


def lines(found: Found) -> Iterator[str]:
    """The table in Markdown: everything first, then each threshold."""
    coverage, accuracy = passing(found, 0, -np.inf)
    yield "| gate | threshold | coverage | accuracy |"
    yield "|---|---|---|---|"
    yield f"| none: every face that is found | | {coverage:.1%} | {accuracy:.1%} |"
    for column, (name, thresholds) in enumerate(_THRESHOLDS.items()):
        for threshold in thresholds:
            limit = -threshold if "at most" in name else threshold
            coverage, accuracy = passing(found, column, limit)
            yield f"| {name} | {threshold} | {coverage:.1%} | {accuracy:.1%} |"


def draw(found: Found, path: Path) -> None:
    """All curves in one picture; where few have passed, chance has more to say than the gate."""
    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.subplots()
    for column, name in enumerate(_THRESHOLDS):
        coverage, accuracy = curve(found, column)
        least = len(found.right) // 20
        axes.plot(coverage[least:], accuracy[least:], label=name.partition(",")[0])
    axes.set(xlabel="coverage: share of all pictures", ylabel="accuracy of those")
    axes.legend()
    axes.grid(alpha=0.3)
    figure.savefig(path, dpi=100)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("pack", type=Path, help="a pack of training.prepare, with labels")
    parser.add_argument("--model", required=True, help="name or folder of a model")
    parser.add_argument("--out", type=Path, required=True, help="folder for risk.png")
    arguments = parser.parse_args()
    config = PipelineConfig(
        detector=DetectorConfig(min_score=0.3),
        tracker=TrackerConfig(min_hits=1),
        quality=QualityConfig(min_size_px=0, min_score=0, max_yaw_deg=90),
        classifier=ClassifierConfig(model=arguments.model),
    )
    try:
        faces = load_faces(arguments.pack)
        labels = faces.labels.numpy()
        some = np.random.default_rng(_SEED).permutation(len(labels))[:PICTURES]
        found = measure(EmotionPipeline(config), faces.canvases.numpy()[some], labels[some])
        arguments.out.mkdir(parents=True, exist_ok=True)
        draw(found, arguments.out / "risk.png")
    except (ValueError, OSError) as error:
        sys.exit(f"risk: {error}")
    print(*lines(found), sep="\n")


if __name__ == "__main__":
    main()
