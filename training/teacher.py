"""``python -m training.teacher SRC PACK``: 68 landmarks of every face of a pack.

SRC is what ``training.prepare`` made PACK from. The teacher is MediaPipe's face mesh (Apache-2.0),
whose 0.10.21 wheel holds its model. It needs NumPy 1, so it has an environment of its own:
``training/teacher.txt``. Adds ``points68`` (N, 68, 2) to the shards of the pack: fractions of the
crop, NaN where it finds no face. A call that was killed loses one shard; the same call goes on.

The mesh wants surroundings. Tightly cropped pictures fill half of a grey frame; of photographs it
sees the face that the pack has, with what is around it.
"""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from fer_ros.align import to_frame, warp
from fer_ros.types import CROP_SIZE_PX
from training.find import decode, framed, in_crop, scaled
from training.mesh68 import MESH_TO_68
from training.packs import Pack, open_shard, shard_path, write_shard
from training.rows import Source, Wanted
from training.sources import open_source

if TYPE_CHECKING:
    import mediapipe

_FACE_PX, _FRAMED_PX = 192, 384

View = tuple[NDArray[np.uint8], NDArray[np.float32]]
"""What the mesh sees (384, 384, 3), and the map (2, 3) from pixels of the picture to its own."""


def tight_view(picture_rgb: NDArray[np.uint8]) -> View:
    """The whole picture in the middle of grey."""
    scale, size = scaled(picture_rgb, _FACE_PX)
    frame, corner = framed(picture_rgb, size, (_FRAMED_PX, _FRAMED_PX), cv2.INTER_CUBIC)
    shift = 0.5 * scale + corner - 0.5  # scaling keeps edges of pixels in place, not their centres
    return frame, np.array([[scale, 0, shift[0]], [0, scale, shift[1]]], np.float32)


def photo_view(picture_rgb: NDArray[np.uint8], frame_to_crop: NDArray[np.float32]) -> View:
    """The face upright in the middle of its surroundings; the map (2, 3) is that of the pack."""
    scale, corner = _FACE_PX / CROP_SIZE_PX, (_FRAMED_PX - _FACE_PX) / 2
    to_view = frame_to_crop * np.float32(scale)
    to_view[:, 2] += 0.5 * scale + corner - 0.5
    return warp(picture_rgb, to_view, _FRAMED_PX), to_view


def landmarks(mesh: "mediapipe.solutions.face_mesh.FaceMesh", view: View) -> NDArray[np.float32]:
    """68 points (68, 2) in pixels of the picture; NaN where no face is found."""
    seen, to_view = view
    faces = mesh.process(seen).multi_face_landmarks
    if not faces:
        return np.full((68, 2), np.nan, np.float32)
    vertices = np.array([(point.x, point.y) for point in faces[0].landmark], np.float32)
    points = vertices[list(MESH_TO_68)] * _FRAMED_PX - 0.5  # edge coordinates: centres at + 0.5
    return to_frame(points[None], to_view[None])[0]


def teach_shard(
    mesh: "mediapipe.solutions.face_mesh.FaceMesh", source: Source, path: Path, bar: "tqdm[Any]"
) -> NDArray[np.float32]:
    """The landmarks (n, 68, 2) of a shard, which are in it afterwards.

    ValueError when its faces are not those of the source.
    """
    with open_shard(path) as arrays:
        if "points68" in arrays.files:
            bar.update(len(arrays["points68"]))
            return arrays["points68"]
        columns = {key: arrays[key] for key in arrays.files}
    maps, rows = columns["frame_to_crop"], source.at(columns["row"])
    if [row.name for row in rows] != columns["name"].tolist():
        raise ValueError(f"{path}: expected faces of the source, found others: which one is it of?")
    points = np.full((len(rows), 68, 2), np.nan, np.float32)
    for index, (row, data) in enumerate(zip(rows, source.read(rows), strict=True)):
        picture_rgb = decode(data, row.name)
        view = tight_view(picture_rgb) if source.tight else photo_view(picture_rgb, maps[index])
        points[index] = landmarks(mesh, view)
        bar.update()
    columns["points68"] = in_crop(points, maps)
    write_shard(path, columns)
    return columns["points68"]


def teach(source: Path, pictures: Path | None, folder: Path) -> str:
    """Adds the landmarks to a pack; returns one line about what was found."""
    import mediapipe

    pack = Pack.open(folder)
    card = pack.card
    wanted = Wanted(source, card.split, pictures, card.classes)
    opened = open_source(wanted, card.kind, card.tight)
    options = {"static_image_mode": True, "max_num_faces": 1, "min_detection_confidence": 0.3}
    missing = 0
    with (
        mediapipe.solutions.face_mesh.FaceMesh(**options) as mesh,
        tqdm(total=len(pack), desc=folder.name) as bar,
    ):
        for index in range(card.shards):
            points = teach_shard(mesh, opened, shard_path(folder, index), bar)
            missing += int(np.isnan(points).any(axis=(1, 2)).sum())
    return f"{folder}: {len(pack)} faces, no landmarks found in {missing}"


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("source", type=Path)
    parser.add_argument("pack", type=Path)
    parser.add_argument("--pictures", type=Path, help="as it was given to training.prepare")
    arguments = parser.parse_args()
    try:
        print(teach(arguments.source, arguments.pictures, arguments.pack))
    except (ValueError, OSError) as error:
        sys.exit(f"teacher: {error}")


if __name__ == "__main__":
    main()
