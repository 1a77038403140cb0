"""``python -m training.evaluate_end_to_end SOURCE DATASET --model NAME``: the whole pipeline.

The labeled tight crops of SOURCE are resized, placed in scenes of 640x480 px, and processed by the
pipeline of ``fer analyze``: detector, alignment, classifier, quality gate. The same classifier runs
on the aligned crops of DATASET, which ``training.prepare`` made from SOURCE, and, as the pipeline
does for new faces, on their mirror images. ``--image-px`` sets the size of the images in the
scenes. Prints JSON:

* ``images``: their number;
* ``detected``: fraction of images with a detected face;
* ``coverage``: fraction of images whose face passes the quality gate;
* ``accuracy``, ``accuracy_prepared``: accuracy on the covered images, end to end and on the aligned
  crops;
* ``gap``: the latter minus the former, in percentage points;
* ``by_yaw``: number of images and fraction with a detected face, by the absolute yaw of the head in
  degrees, estimated from the network's landmarks of the aligned crops.
"""

import argparse
import json
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from fer_ros.config import ClassifierConfig, PipelineConfig
from fer_ros.emotions import EMOTIONS
from fer_ros.io.progress import progress_bar
from fer_ros.mirror_average import average_mirrored
from fer_ros.pipeline import EmotionPipeline
from fer_ros.quality import yaw_deg
from fer_ros.types import FacePredictions, Frame
from training.command_line import report_error
from training.datasets.localization import decode_image, fit_size, pad_to_frame
from training.datasets.readers.registry import add_arguments, from_arguments
from training.datasets.records import DatasetSource
from training.datasets.shards import CROP_SLICE, FaceDataset
from training.datasets.splits import load_faces
from training.metrics.predictions import predict

SCENE_WH = (640, 480)
YAW_EDGES_DEG = (0, 15, 30, 45, 60, 90)
IMAGE_PX = 192  # long side in the scene


def scene(image_rgb: NDArray[np.uint8], image_px: int = IMAGE_PX) -> NDArray[np.uint8]:
    """Place an image (H, W, 3), resized to ``image_px``, in the center of a scene (480, 640, 3)."""
    _, size_wh = fit_size(image_rgb, image_px)
    return pad_to_frame(image_rgb, size_wh, SCENE_WH, cv2.INTER_CUBIC)[0]


def predict_scene(
    pipeline: EmotionPipeline, scene_rgb: NDArray[np.uint8]
) -> tuple[NDArray[np.float32] | None, bool]:
    """Probabilities (8,) of the best face, or None, and whether it passes the quality gate."""
    pipeline.reset()
    faces = pipeline(Frame(scene_rgb, 0.0)).faces
    if not faces:
        return None, False
    # In this module NaN means that no face was detected; in the result, that it was not classified.
    uniform = 1 / len(EMOTIONS)
    return np.nan_to_num(faces[0].raw_probabilities, nan=uniform), faces[0].is_readable


def compare(
    end_to_end: NDArray[np.float32],
    prepared: NDArray[np.float32],
    labels: NDArray[np.int64],
    readable: NDArray[np.bool_],
) -> dict[str, Any]:
    """Metrics of probabilities (N, 8) end to end, NaN without a detected face, and of crops."""
    detected = ~np.isnan(end_to_end[:, 0])
    covered = detected & readable
    accuracy, accuracy_prepared = (
        _fraction(probabilities[covered].argmax(axis=1) == labels[covered])
        for probabilities in (end_to_end, prepared)
    )
    return {
        "images": len(labels),
        "detected": _fraction(detected),
        "coverage": _fraction(covered),
        "accuracy": accuracy,
        "accuracy_prepared": accuracy_prepared,
        "gap": round(100 * (accuracy_prepared - accuracy), 2),
    }


def by_yaw(
    detected: NDArray[np.bool_], points_xy: NDArray[np.float32]
) -> dict[str, dict[str, Any]]:
    """Images and fraction ``detected`` (N,), by the yaw of landmarks (N, 68, 2)."""
    yaws = np.array([abs(yaw_deg(points)) for points in points_xy])
    groups = {}
    for low, high in pairwise(YAW_EDGES_DEG):
        chosen = detected[(low <= yaws) & (yaws < high)]
        fraction = _fraction(chosen) if len(chosen) else None
        groups[f"{low}-{high}"] = {"images": len(chosen), "detected": fraction}
    return groups


def _fraction(values: NDArray[np.bool_]) -> float:
    return round(float(values.mean()), 4) if len(values) else float("nan")


def measure(
    source: DatasetSource, dataset: FaceDataset, pipeline: EmotionPipeline, image_px: int = IMAGE_PX
) -> dict[str, Any]:
    """Evaluate all samples of a dataset. Raises ValueError if it was made from another source."""
    samples = source.at(dataset.column("index"))
    if [sample.name for sample in samples] != dataset.column("name").tolist():
        raise ValueError(f"{dataset.folder}: expected a dataset of this source, found other images")
    faces = load_faces(dataset.folder)
    end_to_end = np.full((len(samples), len(EMOTIONS)), np.nan, np.float32)
    readable = np.zeros(len(samples), np.bool_)
    images = zip(samples, source.read(samples), strict=True)
    for index, (sample, data) in enumerate(
        progress_bar(images, total=len(samples), description="scenes")
    ):
        scene_rgb = scene(decode_image(data, sample.name), image_px)
        probabilities, readable[index] = predict_scene(pipeline, scene_rgb)
        if probabilities is not None:
            end_to_end[index] = probabilities
    crops = faces.padded_crops.numpy()[:, CROP_SLICE, CROP_SLICE]
    plain = predict(pipeline.classifier, crops, "crops")
    mirrored = predict(pipeline.classifier, crops[:, :, ::-1], "mirrored crops")
    both = FacePredictions.concatenate([plain, mirrored])
    prepared = average_mirrored(both, range(len(crops)))
    results = compare(end_to_end, prepared.probabilities, faces.labels.numpy(), readable)
    return {**results, "by_yaw": by_yaw(~np.isnan(end_to_end[:, 0]), prepared.points_xy)}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    add_arguments(parser)
    parser.add_argument("dataset", type=Path, help="dataset made from the source")
    parser.add_argument("--model", required=True, help="name or folder of a model")
    parser.add_argument(
        "--image-px", type=int, default=IMAGE_PX, help="long side of an image in the scene"
    )
    arguments = parser.parse_args(argv)
    if not 8 <= arguments.image_px <= SCENE_WH[1]:
        parser.error(f"--image-px: expected 8 to {SCENE_WH[1]}, found {arguments.image_px}")
    config = PipelineConfig(
        classifier=ClassifierConfig(model=arguments.model, precision="fp32")
    ).for_still_images()
    try:
        source, dataset = from_arguments(arguments), FaceDataset.open(arguments.dataset)
        results = measure(source, dataset, EmotionPipeline(config), arguments.image_px)
    except (ValueError, OSError) as error:
        return report_error("evaluate_end_to_end", error)
    print(json.dumps(results, indent=1))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
