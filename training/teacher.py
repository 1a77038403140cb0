"""``python -m training.teacher SRC.parquet PACK.npz``: 68 landmarks of every face of a pack.

The teacher is MediaPipe's face mesh (Apache-2.0), whose 0.10.21 wheel holds its model. It needs
NumPy 1, so it has an environment of its own: ``training/teacher.txt``. Adds ``points68``
(N, 68, 2) to the pack of ``training.prepare``: fractions of the crop, NaN where it finds no face.
"""

import argparse
from pathlib import Path

import cv2
import mediapipe
import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray
from tqdm import tqdm

from fer_ros.types import CROP_SIZE_PX
from training.mesh68 import MESH_TO_68

_FACE_PX, _FRAMED_PX = 192, 384  # the mesh wants surroundings: the picture fills half of the frame


def framed(picture_rgb: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], float, NDArray[np.float32]]:
    """The picture in the middle of a grey square, its scale, and where its corner (2,) stands."""
    height, width = picture_rgb.shape[:2]
    scale = _FACE_PX / max(height, width)
    size = (round(width * scale), round(height * scale))
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    corner = np.array([(_FRAMED_PX - side) // 2 for side in size])
    square = np.full((_FRAMED_PX, _FRAMED_PX, 3), 128, np.uint8)
    inside = (slice(corner[1], corner[1] + size[1]), slice(corner[0], corner[0] + size[0]))
    square[inside] = cv2.resize(picture_rgb, size, interpolation=method)
    return square, scale, corner.astype(np.float32)


def landmarks(mesh: "mediapipe.solutions.face_mesh.FaceMesh", data: bytes) -> NDArray[np.float32]:
    """68 points (68, 2) in pixels of the encoded picture ``data``; NaN where no face is found."""
    picture_bgr = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    square, scale, corner = framed(cv2.cvtColor(picture_bgr, cv2.COLOR_BGR2RGB))
    faces = mesh.process(square).multi_face_landmarks
    if not faces:
        return np.full((68, 2), np.nan, np.float32)
    vertices = np.array([(point.x, point.y) for point in faces[0].landmark], np.float32)
    edges = vertices[list(MESH_TO_68)] * _FRAMED_PX  # edge coordinates: centre of a pixel at + 0.5
    return (edges - corner) / scale - 0.5


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("source", type=Path)
    parser.add_argument("pack", type=Path)
    arguments = parser.parse_args()
    pictures = pq.read_table(arguments.source, columns=["image"])["image"].to_pylist()
    pack = dict(np.load(arguments.pack))
    options = {"static_image_mode": True, "max_num_faces": 1, "min_detection_confidence": 0.3}
    with mediapipe.solutions.face_mesh.FaceMesh(**options) as mesh:
        points = np.stack([landmarks(mesh, item) for item in tqdm(pictures, mininterval=10)])
    maps = pack["frame_to_crop"]
    moved = np.einsum("nij,npj->npi", maps[:, :, :2], points) + maps[:, None, :, 2]
    pack["points68"] = ((moved + 0.5) / CROP_SIZE_PX).astype(np.float32)
    partial = arguments.pack.with_suffix(".partial.npz")
    np.savez(partial, **pack)
    partial.replace(arguments.pack)
    missing = int(np.isnan(points).any(axis=(1, 2)).sum())
    print(f"{arguments.pack}: {len(points)} pictures, no face found in {missing}")


if __name__ == "__main__":
    main()
