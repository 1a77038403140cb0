"""``python -m training.prepare SRC.parquet OUT.npz``: find, align and store every face once.

Packs of tightly cropped faces (FER+ and the like, where the face fills the picture) have their own
rule, because a detector wants surroundings: each picture is scaled to 128 px, framed with grey up
to 192 px and searched with a low threshold. Where no face is found the picture is aligned by the
median map of its pack, so that no test picture is lost; ``found`` says which.

The result holds grey canvases: the aligned 112 px crop with a margin of 16 px on each side for
augmentation.
"""

import argparse
from pathlib import Path

import cv2
import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray
from tqdm import tqdm

from fer_ros.align import similarity, warp
from fer_ros.config import DetectorConfig
from fer_ros.detect import FaceDetector, make_detector
from fer_ros.types import CROP_SIZE_PX

MARGIN_PX = 16
CANVAS_PX = CROP_SIZE_PX + 2 * MARGIN_PX
_FACE_PX, _FRAMED_PX = 128, 192
_COLUMNS = ("name", "votes", "label", "dup_group", "identity", "source")


def find_face(detector: FaceDetector, picture_rgb: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Five points (5, 2) of the best face of a tightly cropped picture; NaN where none is found."""
    height, width = picture_rgb.shape[:2]
    scale = _FACE_PX / max(height, width)
    size = (round(width * scale), round(height * scale))
    area = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    left, top = (_FRAMED_PX - size[0]) // 2, (_FRAMED_PX - size[1]) // 2
    framed = np.full((_FRAMED_PX, _FRAMED_PX, 3), 128, np.uint8)
    framed[top : top + size[1], left : left + size[0]] = cv2.resize(
        picture_rgb, size, interpolation=area
    )
    faces = detector.detect(framed)
    if len(faces) == 0:
        return np.full((5, 2), np.nan, np.float32)
    points = faces.points_xy[int(np.argmax(faces.scores))]
    return ((points + 0.5 - (left, top)) / scale - 0.5).astype(np.float32)


def fill_missing(maps: NDArray[np.float32], found: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Maps (N, 2, 3) with the median of the found ones where no face was found."""
    if not found.any():
        raise ValueError("no face was found in any picture: is this a pack of faces?")
    filled = maps.copy()
    filled[~found] = np.median(maps[found], axis=0)
    return filled


def canvas(picture_rgb: NDArray[np.uint8], frame_to_crop: NDArray[np.float32]) -> NDArray[np.uint8]:
    """The grey canvas (144, 144): the crop of ``frame_to_crop`` (2, 3) with its margin."""
    with_margin = frame_to_crop.copy()
    with_margin[:, 2] += MARGIN_PX
    return cv2.cvtColor(warp(picture_rgb, with_margin, CANVAS_PX), cv2.COLOR_RGB2GRAY)


def decode(data: bytes, name: str) -> NDArray[np.uint8]:
    """RGB picture of encoded bytes; ValueError names the picture that does not decode."""
    encoded = np.frombuffer(data, np.uint8)
    picture = cv2.imdecode(encoded, cv2.IMREAD_COLOR) if data else None
    if picture is None:
        raise ValueError(
            f"{name}: expected an encoded picture, found {len(data)} undecodable bytes"
        )
    return cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)


def prepare(source: Path, target: Path, detector: FaceDetector) -> str:
    """Writes ``target``; returns one line about what was found."""
    table = pq.read_table(source)
    names, data = table["name"].to_pylist(), table["image"].to_pylist()
    points = np.stack(
        [
            find_face(detector, decode(item, name))
            for name, item in zip(tqdm(names, desc=source.stem), data, strict=True)
        ]
    )
    found = np.asarray(np.isfinite(points).all(axis=(1, 2)))
    maps = fill_missing(similarity(np.nan_to_num(points)), found)
    canvases = np.stack(
        [
            canvas(decode(item, name), frame_to_crop)
            for name, item, frame_to_crop in zip(names, data, maps, strict=True)
        ]
    )
    columns = {key: column(table, key) for key in _COLUMNS if key in table.column_names}
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_suffix(".partial.npz")
    columns |= {"canvas": canvases, "found": found, "frame_to_crop": maps}
    np.savez(partial, allow_pickle=False, **columns)
    partial.replace(target)
    return f"{target}: {len(names)} pictures, no face found in {int((~found).sum())}"


def column(table: "pq.Table", key: str) -> NDArray:
    """A column as an array; a missing group becomes -1."""
    values = table[key].to_pylist()
    return np.array([-1 if value is None else value for value in values])


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("source", type=Path)
    parser.add_argument("target", type=Path)
    arguments = parser.parse_args()
    detector = make_detector(DetectorConfig(long_side_px=_FRAMED_PX, min_score=0.2))
    print(prepare(arguments.source, arguments.target, detector))


if __name__ == "__main__":
    main()
