"""YuNet's outputs are read as OpenCV's FaceDetectorYN reads them; its file is named in errors."""

import hashlib
from dataclasses import replace

import numpy as np
import pytest

from fer_ros.config import DetectorConfig
from fer_ros.detector import make_detector
from fer_ros.detectors import yunet
from fer_ros.detectors.base import DetectorError
from fer_ros.inference.download import DETECTORS

WIDTH, HEIGHT = 96, 64
STRIDES = (8, 16, 32)


def outputs(faces=()):
    """Twelve outputs without a face but ``faces``: (grid, row, column, class, object score)."""
    values = []
    for kind, channels in (("cls", 1), ("obj", 1), ("bbox", 4), ("kps", 10)):
        for grid, stride in enumerate(STRIDES):
            cells = (HEIGHT // stride) * (WIDTH // stride)
            array = np.zeros((cells, channels), np.float32)
            for at_grid, row, column, class_score, object_score in faces:
                if at_grid != grid:
                    continue
                cell = row * (WIDTH // stride) + column
                if kind == "bbox":
                    array[cell] = 0.25, -0.5, np.log(2), np.log(3)
                elif kind == "kps":
                    array[cell] = np.arange(10) / 10
                else:
                    array[cell] = class_score if kind == "cls" else object_score
            values.append(array)
    return values


@pytest.mark.parametrize("faces", [(), [(0, 1, 2, 0.1, 0.9)], [(0, 1, 2, 0.9, -0.5)]])
def test_no_face(faces):
    detections = yunet.decode(outputs(faces), WIDTH, 0.5)
    assert len(detections) == 0
    assert detections.points_xy.shape == (0, 5, 2)


@pytest.mark.parametrize(("grid", "stride"), enumerate(STRIDES))
def test_each_grid_decodes_to_pixels(grid, stride):
    detections = yunet.decode(outputs([(grid, 1, 2, 0.81, 1.3)]), WIDTH, 0.5)
    x, y = 2.25 * stride, 0.5 * stride
    box = [x - stride, y - 1.5 * stride, x + stride, y + 1.5 * stride]
    np.testing.assert_allclose(detections.boxes_xyxy, [box], rtol=1e-5)
    np.testing.assert_allclose(
        detections.scores, [0.729], rtol=1e-6
    )  # of 0.81 and 1.3, cut off at 1
    points = (np.arange(10).reshape(5, 2) / 10 + [2, 1]) * stride
    np.testing.assert_allclose(detections.points_xy[0], points, rtol=1e-5)


def test_the_network_gets_bgr_and_the_best_face_is_first(monkeypatch):
    detector = object.__new__(yunet.YuNet)
    seen = []

    class Session:
        def run(self, batch):
            seen.append(batch)
            faces = [(0, 1, 2, 0.81, 1.0), (0, 1, 3, 0.7, 1.0), (2, 1, 2, 1.0, 1.0)]
            return [value[None] for value in outputs(faces)]

    detector._session, detector._order = Session(), list(range(12))
    image_rgb = np.zeros((50, 90, 3), np.uint8)
    image_rgb[..., 0] = 200
    detections = detector.detect(image_rgb, 0.5, 0.3)
    assert seen[0].shape == (1, 3, HEIGHT, WIDTH)
    assert seen[0][0, :, 0, 0].tolist() == [0, 0, 200]
    np.testing.assert_allclose(detections.scores, [1.0, 0.729], rtol=1e-6)


def test_a_missing_file_names_the_fetch_command(monkeypatch, tmp_path):
    monkeypatch.setenv("FER_ROS_CACHE", str(tmp_path))
    with pytest.raises(DetectorError, match="fer models fetch yunet") as caught:
        make_detector(DetectorConfig(name="yunet"))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("version", ["yunet", "yunet_2023mar"])
def test_either_fetched_version_is_used(monkeypatch, tmp_path, version):
    monkeypatch.setenv("FER_ROS_CACHE", str(tmp_path))
    file = replace(DETECTORS[version], sha256=hashlib.sha256(b"YuNet").hexdigest())
    monkeypatch.setitem(DETECTORS, version, file)
    file.path.write_bytes(b"YuNet")
    assert yunet.find_model("") == file.path
    file.path.write_bytes(b"another one")
    with pytest.raises(
        DetectorError, match=f"sha256 .*fetch it again with: fer models fetch {version}$"
    ):
        yunet.find_model("")


def test_another_network_is_rejected(published_centerface):
    with pytest.raises(DetectorError, match="expected YuNet, with the outputs cls_8"):
        make_detector(DetectorConfig(name="yunet", model_path=str(published_centerface)))


@pytest.mark.parametrize("name", ["", "yolo", "YuNet"])
def test_an_unknown_detector_is_rejected(name):
    with pytest.raises(DetectorError, match=r"^detector.name: expected centerface or yunet, found"):
        make_detector(DetectorConfig(name=name))


def test_the_published_files_are_pinned():
    for file in DETECTORS.values():
        assert file.url.startswith("https://")
        assert len(bytes.fromhex(file.sha256)) == 32
    assert len({file.path for file in DETECTORS.values()}) == len(yunet.VERSIONS) == 2
