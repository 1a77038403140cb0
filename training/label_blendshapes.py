"""``python -m training.label_blendshapes SRC DATASET TASK``: add 52 blendshapes to a dataset.

DATASET was made from SRC by ``training.prepare``. TASK is the model file ``face_landmarker.task``
of MediaPipe's Face Landmarker (float16, version 1; Apache-2.0), which runs in the environment of
``requirements/mediapipe.txt``. Adds ``blendshapes`` (N, 52) in 0..1 to the shards of the dataset,
NaN where it detects no face. Run the same command again to resume one that was killed.

The landmarker gets the views of ``training.datasets.labeling``. Its predictions differ between
views of one face: with ``--average-views``, meant for training splits, each label is the mean of
those for the view, its mirror image (with the sides exchanged) and a smaller one.
``blendshape_views`` (N,) in the shards is the number of views, 3 or 1.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray

from fer_ros.blendshapes import BLENDSHAPES, MIRRORED_BLENDSHAPES
from fer_ros.io.progress import ProgressBar
from training.command_line import report_error
from training.datasets.labeling import View, label_dataset, label_shard, make_parser
from training.datasets.records import DatasetSource

if TYPE_CHECKING:
    from mediapipe.tasks.python.components.containers.category import Category

Detect = Callable[[NDArray[np.uint8]], "list[list[Category]]"]
"""From an image (H, W, 3) to the blendshapes of each face."""
_MIN_DETECTION_CONFIDENCE = 0.3
_SMALLER = 0.93


def blendshapes(detect: Detect, view: View) -> NDArray[np.float32]:
    """52 values (52,) in the order of BLENDSHAPES; NaN where ``detect`` finds no face.

    Raises ValueError when the landmarker names other blendshapes.
    """
    faces = detect(view[0])
    if not faces:
        return np.full(len(BLENDSHAPES), np.nan, np.float32)
    names = tuple(category.category_name for category in faces[0])
    if names != BLENDSHAPES:
        examples = ", ".join(names[:3])
        raise ValueError(
            f"expected the 52 blendshapes of version 1, found {len(names)}: {examples}; "
            "download face_landmarker.task (float16, version 1)"
        )
    return np.array([category.score for category in faces[0]], np.float32)


def mean_blendshapes(detect: Detect, view: View) -> NDArray[np.float32]:
    """Mean of ``blendshapes`` (52,) over the view, its mirror image and one of 0.93 of its size.

    Views without a face do not count; NaN where there is none in any.
    """
    image_rgb, to_view = view
    center = (image_rgb.shape[1] / 2 - 0.5, image_rgb.shape[0] / 2 - 0.5)
    shrink = cv2.getRotationMatrix2D(center, 0, _SMALLER)
    size_wh = image_rgb.shape[1::-1]
    smaller = cv2.warpAffine(image_rgb, shrink, size_wh, borderMode=cv2.BORDER_REPLICATE)
    values = np.stack(
        [
            blendshapes(detect, view),
            blendshapes(detect, (image_rgb[:, ::-1], to_view))[list(MIRRORED_BLENDSHAPES)],
            blendshapes(detect, (np.asarray(smaller, np.uint8), to_view)),
        ]
    )
    found = values[np.isfinite(values).all(axis=1)]
    return found.mean(axis=0) if len(found) else values[0]


def add_blendshapes(
    source: Path, images: Path | None, folder: Path, task: Path, average_views: bool
) -> str:
    """Add the blendshapes to a dataset; return a one-line summary."""
    import mediapipe
    from mediapipe.tasks.python import BaseOptions
    from mediapipe.tasks.python.vision import FaceLandmarker, FaceLandmarkerOptions

    options = FaceLandmarkerOptions(
        base_options=BaseOptions(model_asset_path=str(task)),
        output_face_blendshapes=True,
        min_face_detection_confidence=_MIN_DETECTION_CONFIDENCE,
    )
    with FaceLandmarker.create_from_options(options) as landmarker:

        def detect(image_rgb: NDArray[np.uint8]) -> "list[list[Category]]":
            contiguous = np.ascontiguousarray(image_rgb)
            image = mediapipe.Image(image_format=mediapipe.ImageFormat.SRGB, data=contiguous)
            return landmarker.detect(image).face_blendshapes

        label, views = (mean_blendshapes, 3) if average_views else (blendshapes, 1)

        def label_one(source: DatasetSource, path: Path, bar: ProgressBar) -> NDArray[np.float32]:
            measure = lambda view, _: label(detect, view)  # noqa: E731
            constants = {"blendshape_views": views}
            return label_shard(path, source, "blendshapes", measure, bar, constants)

        missing = label_dataset(source, images, folder, label_one)
    return f"{folder}: no blendshapes found in {missing} faces"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line."""
    command_line = make_parser(__doc__.split("\n\n")[0])
    command_line.add_argument("task", type=Path, help="face_landmarker.task")
    command_line.add_argument(
        "--average-views", action="store_true", help="mean over three views, for training splits"
    )
    arguments = command_line.parse_args(argv)
    try:
        print(
            add_blendshapes(
                arguments.source,
                arguments.images,
                arguments.dataset,
                arguments.task,
                arguments.average_views,
            )
        )
    except (ValueError, OSError) as error:
        return report_error("label_blendshapes", error)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
