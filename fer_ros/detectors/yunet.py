"""YuNet (Wu et al., YuNet: A Tiny Millisecond-level Face Detector, 2023; OpenCV Zoo, MIT license).

At each cell of three grids, of 8, 16 and 32 px, the network gives two scores, a box and five
points. A detection's score is the third power of their geometric mean: its authors separate faces
from background at 0.8 to 0.9, which becomes about the 0.5 of other detectors.
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fer_ros.detectors.base import DetectorError, nms, pad_to_multiple, select
from fer_ros.detectors.onnx_file import existing_file, load_onnx, make_input_dynamic, verify_file
from fer_ros.detectors.session import SessionNetwork, open_detector
from fer_ros.inference.download import DETECTORS
from fer_ros.types import FaceDetections

VERSIONS = ("yunet", "yunet_2023mar")
"""Names of its published files in ``fer models fetch``, the one to prefer first."""

_STRIDES_PX = (8, 16, 32)
_OUTPUTS = [f"{kind}_{px}" for kind in ("cls", "obj", "bbox", "kps") for px in _STRIDES_PX]


class YuNet(SessionNetwork):
    """YuNet in ONNX Runtime."""

    name = "yunet"
    proposal_height_px = 16.0
    proposal_score = 0.015

    def __init__(self, model_path: str = "", threads: int = 0, device: str = "cpu") -> None:
        """Load the network; an empty path is the file that was fetched. Raises DetectorError.

        ``threads`` 0: one for each core. ``device``: auto, cpu, cuda or cuda:N.
        """
        path = find_model(model_path)
        model = load_onnx(path)
        outputs = [value.name for value in model.graph.output]
        if sorted(outputs) != sorted(_OUTPUTS):
            raise DetectorError(
                f"detector model {path}: expected YuNet, with the outputs {', '.join(_OUTPUTS)}, "
                f"found {', '.join(outputs) or 'none'}"
            )
        self._order = [outputs.index(name) for name in _OUTPUTS]
        model = make_input_dynamic(model, axes=(2, 3))
        session = open_detector(model, device, threads, torch_works=False)
        super().__init__(session, is_fast_on_cpu=True)
        try:
            self._session.run(np.zeros((1, 3, 64, 96), np.float32))
        except RuntimeError as error:
            raise DetectorError(
                f"detector model {path}: expected YuNet for images of any size: {error}"
            ) from None

    def detect(
        self, image_rgb: NDArray[np.uint8], score_threshold: float, nms_iou_threshold: float
    ) -> FaceDetections:
        """Detect the faces of an RGB image (H, W, 3), best score first."""
        batch = pad_to_multiple(image_rgb[..., ::-1])  # the network was trained on BGR
        values = self._run(batch)
        outputs = [values[index] for index in self._order]
        detections = decode(outputs, batch.shape[3], score_threshold)
        return select(detections, nms(detections.boxes_xyxy, detections.scores, nms_iou_threshold))


def find_model(model_path: str) -> Path:
    """Return the ONNX file: ``model_path``, or the preferred one of the cache, verified."""
    if model_path:
        return existing_file(model_path)
    for version in VERSIONS:
        file = DETECTORS[version]
        if file.path.is_file():
            remedy = f"delete it, and fetch it again with: fer models fetch {version}"
            return verify_file(file.path, file.sha256, remedy)
    raise DetectorError(
        f"detector yunet: {DETECTORS[VERSIONS[0]].path}: no such file; fetch it with: "
        "fer models fetch yunet, or name a file in detector.model_path"
    )


def decode(outputs: list[NDArray[np.float32]], width: int, min_score: float) -> FaceDetections:
    """Read faces from the twelve outputs (cells, C), in input pixels and in no order.

    ``outputs`` are class scores, object scores, boxes and points, each for the three grids;
    ``width`` is that of the input in pixels.
    """
    boxes, scores, points = [], [], []
    for grid, stride in enumerate(_STRIDES_PX):
        class_scores, object_scores, offsets, point_offsets = outputs[grid::3]
        score = (class_scores[:, 0].clip(0, 1) * object_scores[:, 0].clip(0, 1)) ** 1.5
        index = np.flatnonzero(score >= min_score)
        columns = width // stride
        cells = np.stack([index % columns, index // columns], axis=1).astype(np.float32)
        centers = (cells + offsets[index, :2]) * stride
        half_sizes = np.exp(offsets[index, 2:]) * stride / 2
        boxes.append(np.concatenate([centers - half_sizes, centers + half_sizes], axis=1))
        scores.append(score[index])
        cell_points = cells[:, None] + point_offsets[index].reshape(-1, 5, 2)
        points.append(cell_points * stride)  # they name pixel centers already
    return FaceDetections(np.concatenate(boxes), np.concatenate(scores), np.concatenate(points))
