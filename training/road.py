"""``python -m training.road SRC PACK --model NAME``: the road that a robot takes.

The pictures of a labelled set of tight crops are enlarged and put into scenes of 640x480, which go
through the whole pipeline as ``fer analyze`` has it: detector, alignment, network, quality. Beside
that stands what the same network reads in the crops of PACK, which ``training.prepare`` made of
SRC. Prints figures as JSON:

``pictures``; ``found``, the share in which a face was found; ``coverage``, the share that was found
and good enough to read; of these ``accuracy`` on the road, ``accuracy_prepared`` in the crops, and
``gap``, the latter less the former, in points.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from fer_ros.config import ClassifierConfig, PipelineConfig, TrackerConfig
from fer_ros.labels import EMOTIONS
from fer_ros.pipeline import EmotionPipeline
from fer_ros.types import Frame
from training.data import load_faces
from training.evaluate import read
from training.find import decode, framed, scaled
from training.packs import INSIDE, Pack
from training.rows import Source
from training.sources import add_arguments, from_arguments

SCENE_WH = (640, 480)
PICTURE_PX = 192  # long side in the scene

Floats = NDArray[np.float32]


def scene(picture_rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The picture (H, W, 3), enlarged, in the middle of a grey scene (480, 640, 3)."""
    _, size_wh = scaled(picture_rgb, PICTURE_PX)
    return framed(picture_rgb, size_wh, SCENE_WH, cv2.INTER_CUBIC)[0]


def read_scene(
    pipeline: EmotionPipeline, scene_rgb: NDArray[np.uint8]
) -> tuple[Floats | None, bool]:
    """Probabilities (8,) of the best face, None when there is none; is it good enough to read."""
    pipeline.reset()
    faces = pipeline(Frame(scene_rgb, 0.0)).faces
    return (faces[0].raw_probabilities, faces[0].usable) if faces else (None, False)


def compare(
    road: Floats, prepared: Floats, labels: NDArray[np.int64], usable: NDArray[np.bool_]
) -> dict[str, Any]:
    """Figures of probabilities (N, 8) on the road, NaN where no face was found, and in crops."""
    found = ~np.isnan(road[:, 0])
    covered = found & usable
    right, right_prepared = (
        _share(each[covered].argmax(axis=1) == labels[covered]) for each in (road, prepared)
    )
    return {
        "pictures": len(labels),
        "found": _share(found),
        "coverage": _share(covered),
        "accuracy": right,
        "accuracy_prepared": right_prepared,
        "gap": round(100 * (right_prepared - right), 2),
    }


def _share(which: NDArray[np.bool_]) -> float:
    return round(float(which.mean()), 4) if len(which) else float("nan")


def measure(source: Source, pack: Pack, pipeline: EmotionPipeline) -> dict[str, Any]:
    """The figures of all rows of a pack. ValueError when it was made of another source."""
    rows = source.at(pack.column("row"))
    if [row.name for row in rows] != pack.column("name").tolist():
        raise ValueError(f"{pack.folder}: expected a pack of this source, found other pictures")
    faces = load_faces(pack.folder)
    road = np.full((len(rows), len(EMOTIONS)), np.nan, np.float32)
    usable = np.zeros(len(rows), np.bool_)
    pictures = zip(rows, source.read(rows), strict=True)
    for place, (row, data) in enumerate(tqdm(pictures, total=len(rows), desc="scenes")):
        seen, usable[place] = read_scene(pipeline, scene(decode(data, row.name)))
        if seen is not None:
            road[place] = seen
    crops = faces.canvases.numpy()[:, INSIDE, INSIDE]
    prepared = read(pipeline.classifier, crops, "crops")[1]
    return compare(road, prepared, faces.labels.numpy(), usable)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    add_arguments(parser)
    parser.add_argument("pack", type=Path, help="what training.prepare made of the source")
    parser.add_argument("--model", required=True, help="name or folder of a model")
    arguments = parser.parse_args()
    config = PipelineConfig(
        tracker=TrackerConfig(min_hits=1), classifier=ClassifierConfig(model=arguments.model)
    )
    try:
        source, pack = from_arguments(arguments), Pack.open(arguments.pack)
        found = measure(source, pack, EmotionPipeline(config))
    except (ValueError, OSError) as error:
        sys.exit(f"road: {error}")
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
