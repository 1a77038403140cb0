import cv2
import numpy as np
import pytest

from fer_ros.alignment import (
    TEMPLATE_XY,
    align,
    alignment_points,
    crop_to_frame,
    frame_points_to_crop,
    similarity,
    warp,
)
from fer_ros.landmarks68 import ALIGNMENT_GROUPS
from fer_ros.types import CROP_SIZE_PX


def placed(scale=1.0, degrees=0.0, shift=(0.0, 0.0)):
    """Five points (1, 5, 2): the template scaled, rotated about the origin, moved."""
    angle = np.radians(degrees)
    rotation = np.array([(np.cos(angle), -np.sin(angle)), (np.sin(angle), np.cos(angle))])
    return (TEMPLATE_XY @ (scale * rotation).T + shift)[None].astype(np.float32)


PLACES = [
    placed(),
    placed(shift=(10, -20)),
    placed(scale=0.2, shift=(300, 200)),
    placed(scale=3.7, degrees=30),
    placed(scale=0.9, degrees=-170, shift=(200, 200)),
]


@pytest.mark.parametrize("shape", [(0, 5, 2)])
def test_no_face(shape):
    points = np.zeros(shape, np.float32)
    aligned = align(np.zeros((4, 6, 3), np.uint8), points)
    assert len(aligned) == 0
    assert crop_to_frame(np.zeros((0, 68, 2), np.float32), aligned.frame_to_crop).shape == (
        0,
        68,
        2,
    )
    assert alignment_points(np.zeros((0, 68, 2), np.float32)).shape == shape


@pytest.mark.parametrize("points", PLACES)
def test_similarity_takes_the_points_to_the_template(points):
    to_crop = similarity(points)[0]
    assert np.allclose(points[0] @ to_crop[:, :2].T + to_crop[:, 2], TEMPLATE_XY, atol=1e-3)


def test_similarity_never_mirrors():
    mirrored = placed() * np.array([-1, 1], np.float32)
    assert np.linalg.det(similarity(mirrored)[0, :, :2]) > 0


@pytest.mark.parametrize("points", PLACES)
def test_crop_points_transform_back_to_the_frame(points):
    back = crop_to_frame(TEMPLATE_XY[None], similarity(points))
    assert back.dtype == np.float32
    assert np.allclose(back, points, atol=1e-2)


@pytest.mark.parametrize("points", [np.zeros((0, 5, 2), np.float32), *PLACES])
def test_frame_points_transform_to_the_crop(points):
    in_crop = frame_points_to_crop(points, similarity(points))
    assert in_crop.dtype == np.float32
    np.testing.assert_allclose(in_crop, np.tile(TEMPLATE_XY, (len(points), 1, 1)), atol=1e-3)


def unlike_a_face():
    """Mirrored and stretched in height until the best fitting scale is zero."""
    template = TEMPLATE_XY - TEMPLATE_XY.mean(axis=0)
    squares = (template.astype(np.float64) ** 2).sum(axis=0)
    return template * [-1, squares[0] / squares[1]]


@pytest.mark.parametrize("offsets", [np.zeros((5, 2)), unlike_a_face()], ids=["one place", "odd"])
def test_points_unlike_a_face_give_an_upright_crop(offsets):
    image = np.zeros((200, 200, 3), np.uint8)
    image[100, 80] = 255
    points = (offsets + np.array([80, 100]))[None].astype(np.float32)
    aligned = align(image, points)
    assert np.allclose(aligned.frame_to_crop[0, :, :2], np.eye(2))
    assert aligned.crops_rgb.max() > 50
    assert np.isfinite(crop_to_frame(points, aligned.frame_to_crop)).all()


def test_five_points_of_68():
    points = np.random.default_rng(0).uniform(0, 100, (2, 68, 2)).astype(np.float32)
    five = alignment_points(points)
    for i, group in enumerate(ALIGNMENT_GROUPS):
        assert np.allclose(five[:, i], points[:, list(group)].mean(axis=1))


def marked(points, side):
    """A black image with a soft white spot at each of the points (5, 2)."""
    y, x = np.mgrid[:side, :side]
    spread = np.linalg.norm(points[1] - points[0]) / 12
    apart = np.hypot(x - points[:, 0, None, None], y - points[:, 1, None, None])
    spots = np.exp(-((apart / spread) ** 2)).max(axis=0)
    return np.repeat((255 * spots)[..., None], 3, axis=2).astype(np.uint8)


@pytest.mark.parametrize("scale", [0.5, 1.0, 1.9, 2.1, 6.0])
def test_pixels_land_on_the_template(scale):
    """The same within a fraction of a pixel for small faces and for large, reduced ones."""
    points = placed(scale, degrees=10, shift=(60 * scale, 5 * scale))
    crop = align(marked(points[0], round(180 * scale)), points).crops_rgb[0, :, :, 0]
    for x, y in TEMPLATE_XY:
        left, top = round(x) - 4, round(y) - 4
        window = crop[top : top + 9, left : left + 9].astype(float)
        rows, columns = np.mgrid[top : top + 9, left : left + 9]
        center = (window * columns).sum() / window.sum(), (window * rows).sum() / window.sum()
        assert np.allclose(center, (x, y), atol=0.15)


def test_a_large_face_is_not_aliased():
    """Fine stripes become gray: not coarse stripes, and not all black or white."""
    image = np.zeros((1200, 1200, 3), np.uint8)
    image[:, ::2] = 255
    crop = align(image, placed(scale=10)).crops_rgb[0]
    np.testing.assert_allclose(crop, 127, atol=20)


@pytest.mark.parametrize("shape", [(1, 1), (1, 500), (500, 1), (112, 112)])
@pytest.mark.parametrize("scale", [0.01, 1.0, 50.0])
def test_any_frame_gives_a_crop(shape, scale):
    image = np.full((*shape, 3), 77, np.uint8)
    crops = align(image, placed(scale, shift=(-30, 9))).crops_rgb
    assert crops.shape == (1, CROP_SIZE_PX, CROP_SIZE_PX, 3)
    assert (crops == 77).all()  # beyond the image its border goes on


@pytest.mark.parametrize("scale", [2.3, 4.0, 7.9])
@pytest.mark.parametrize("margin_px", [1, 16])
def test_a_larger_crop_shows_the_same_pixels(astronaut, scale, margin_px):
    image = cv2.resize(astronaut, None, fx=scale, fy=scale)
    to_crop = similarity(placed(scale, degrees=7, shift=(170 * scale, 50 * scale)))[0]
    wider = to_crop.copy()
    wider[:, 2] += margin_px
    crop = warp(image, to_crop, CROP_SIZE_PX)
    within = slice(margin_px, -margin_px)
    inner = warp(image, wider, CROP_SIZE_PX + 2 * margin_px)[within, within]
    assert cv2.norm(inner, crop, cv2.NORM_INF) <= 3


def test_each_crop_is_independent_of_the_others(astronaut):
    points = np.concatenate([placed(0.7, 5, (170, 60)), placed(3, 0, (50, 40))])
    together = align(astronaut, points).crops_rgb
    for i in range(2):
        assert np.array_equal(together[i], align(astronaut, points[i : i + 1]).crops_rgb[0])


def test_colors_stay_in_order(astronaut):
    points = placed(1.0)
    crop = align(astronaut, points).crops_rgb[0]
    assert cv2.norm(crop, astronaut[:112, :112], cv2.NORM_INF) <= 1
