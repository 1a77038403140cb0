"""``python -m training.label_landmarks SOURCE DATASET``: add 68 landmarks to a dataset.

DATASET was made from SOURCE by ``training.prepare``. The teacher is MediaPipe's face mesh (wheel
0.10.21, Apache-2.0). It needs NumPy 1 and therefore its own environment:
``requirements/mediapipe.txt``. Adds ``landmarks68`` (N, 68, 2) to the shards of the dataset:
fractions of the crop, NaN where it detects no face. Run the same command again to resume one that
was killed. ``training.datasets.labeling`` describes the views of the faces that the mesh gets.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fer_ros.alignment import crop_to_frame
from fer_ros.io.progress import ProgressBar
from training.command_line import report_error
from training.datasets.labeling import VIEW_PX, View, label_dataset, label_shard, make_parser
from training.datasets.localization import to_crop_fractions
from training.datasets.records import DatasetSource
from training.pretrained.mediapipe import MESH_TO_68

if TYPE_CHECKING:
    import mediapipe


def landmarks(mesh: "mediapipe.solutions.face_mesh.FaceMesh", view: View) -> NDArray[np.float32]:
    """68 points (68, 2) in pixels of the image; NaN where no face is found."""
    view_rgb, to_view = view
    faces = mesh.process(view_rgb).multi_face_landmarks
    if not faces:
        return np.full((68, 2), np.nan, np.float32)
    vertices = np.array([(point.x, point.y) for point in faces[0].landmark], np.float32)
    points = vertices[list(MESH_TO_68)] * VIEW_PX - 0.5  # edge coordinates: centers at + 0.5
    return crop_to_frame(points[None], to_view[None])[0]


def add_landmarks_to_shard(
    mesh: "mediapipe.solutions.face_mesh.FaceMesh",
    source: DatasetSource,
    path: Path,
    bar: ProgressBar,
) -> NDArray[np.float32]:
    """The landmarks (n, 68, 2) of a shard, which are in it afterwards.

    Raises ValueError when its faces are not those of the source.
    """

    def measure(view: View, frame_to_crop: NDArray[np.float32]) -> NDArray[np.float32]:
        return to_crop_fractions(landmarks(mesh, view)[None], frame_to_crop[None])[0]

    return label_shard(path, source, "landmarks68", measure, bar)


def add_landmarks(source: Path, images: Path | None, folder: Path) -> str:
    """Add the landmarks to a dataset; return a one-line summary."""
    import mediapipe

    options = {"static_image_mode": True, "max_num_faces": 1, "min_detection_confidence": 0.3}
    with mediapipe.solutions.face_mesh.FaceMesh(**options) as mesh:
        missing = label_dataset(
            source, images, folder, lambda *shard: add_landmarks_to_shard(mesh, *shard)
        )
    return f"{folder}: no landmarks found in {missing} faces"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line."""
    arguments = make_parser(__doc__.split("\n\n")[0]).parse_args(argv)
    try:
        print(add_landmarks(arguments.source, arguments.images, arguments.dataset))
    except (ValueError, OSError) as error:
        return report_error("label_landmarks", error)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
