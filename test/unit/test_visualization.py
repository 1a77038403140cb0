"""The overlay."""

import subprocess
import sys

import cv2
import numpy as np
import pytest
from conftest import frontal_points
from tree import ROOT

from fer_ros.emotions import EMOTIONS
from fer_ros.types import FaceEmotion
from fer_ros.visualization import draw, draw_attention


def face(box=(100, 80, 180, 180), points_xy=None, emotion="happiness", **changes):
    box_xyxy = np.array(box, np.float32)
    side = (box_xyxy[2:] - box_xyxy[:2]).max()
    probabilities = np.full(8, 0.02, np.float32)
    probabilities[EMOTIONS.index(emotion or "neutral")] = 0.86
    values = {
        "id": "f00001",
        "box_xyxy": box_xyxy,
        "score": 0.9,
        "points_xy": frontal_points() * side / 112 + box_xyxy[:2]
        if points_xy is None
        else points_xy,
        "probabilities": probabilities,
        "raw_probabilities": probabilities,
        "emotion": emotion,
    }
    return FaceEmotion(**values | changes)


def unusable(**changes):
    why = "turned away: 72 degrees, maximum 60"
    return face(emotion=None, is_readable=False, rejection_reason=why, **changes)


def gray(height=360, width=480):
    return np.full((height, width, 3), 128, np.uint8)


def changed(image_rgb, faces):
    """Where (H, W) the overlay is."""
    return (draw(image_rgb, faces) != image_rgb).any(axis=2)


def test_without_faces_the_image_is_unchanged(astronaut):
    overlay = draw(astronaut, [])
    np.testing.assert_array_equal(overlay, astronaut)
    assert overlay is not astronaut
    assert overlay.flags.writeable


@pytest.mark.parametrize("faces", [[face()], [unusable()], [face(), unusable()]])
def test_the_input_image_is_not_modified(faces):
    image_rgb = gray()
    assert changed(image_rgb, faces).any()
    assert (image_rgb == 128).all()


@pytest.mark.parametrize("emotion", EMOTIONS)
def test_every_emotion_has_its_own_color(emotion):
    """The middle of the lower side of the box shows it."""
    overlay = {other: tuple(draw(gray(), [face(emotion=other)])[179, 140]) for other in EMOTIONS}
    assert overlay[emotion] != (128, 128, 128)
    assert list(overlay.values()).count(overlay[emotion]) == 1


def test_box_and_points_are_drawn_at_their_positions():
    there = changed(gray(), [face()])
    assert there[179, 100:180].all()
    assert there[80:180, 100].all()
    assert not there[182:, :].any()
    assert not there[:, :98].any()
    for x, y in np.round(face().points_xy).astype(int):
        assert there[y, x]


def bar_lengths(overlay):
    """Pixels of each emotion's bar, right of the names, for a face at the default place."""
    bars = (overlay[80:160, 230:270] != 128 // 3).any(axis=2)
    return bars[5::10].sum(axis=1).tolist()


def test_bars_are_as_long_as_the_probabilities():
    probabilities = np.array([0.0, 0.5, 0.25, 0.0, 0.0, 0.25, 0.0, 0.0], np.float32)
    lengths = bar_lengths(draw(gray(), [face(probabilities=probabilities)]))
    assert lengths[1] == pytest.approx(20, abs=2)
    assert lengths[2] == lengths[5] == pytest.approx(10, abs=2)
    assert max(lengths[i] for i in (0, 3, 4, 6, 7)) <= 1
    assert len(lengths) == len(EMOTIONS)


@pytest.mark.parametrize("share", [0.01, 0.5, 0.99])
def test_the_label_names_id_and_probability(share):
    """Another text is another image, and nothing else changes it."""
    probabilities = np.full(8, share, np.float32)
    named = np.eye(8, dtype=np.float32)[EMOTIONS.index("happiness")]
    label = np.s_[70:80]
    overlay = draw(gray(), [face(probabilities=probabilities)])[label]
    others = [
        face(probabilities=probabilities, id="f00002"),
        face(probabilities=probabilities - 0.01 * named),
        face(probabilities=probabilities, emotion="anger"),
    ]
    assert all((draw(gray(), [other])[label] != overlay).any() for other in others)
    others_vary = (probabilities + named) / 2 + (share - 1) / 2 * named
    again = draw(gray(), [face(probabilities=others_vary, score=0.1)])[label]
    np.testing.assert_array_equal(again, overlay)


@pytest.mark.parametrize("height", [256, 512, 1080, 2160])
def test_text_is_readable_on_any_image(height):
    """Dark on light, at least ten pixels and a fortieth of the image high."""
    side = height // 3
    image_rgb = gray(height, height * 4 // 3)
    overlay = draw(image_rgb, [face(box=(side, side, 2 * side, 2 * side))])
    line_px = max(10, height // 40)
    strip = overlay[side - line_px : side, side + line_px // 4 : side + 4 * line_px].astype(int)
    brightness = strip.sum(axis=2)
    assert np.median(brightness) > 400
    assert (brightness < 200).mean() > 0.06  # ink: strokes grow with the letters


def test_a_label_is_drawn_above_other_faces():
    """The bars of one face do not cover the name of another."""
    first, second = face(), face(box=(190, 100, 270, 200), id="f00002", emotion="anger")
    alone = draw(gray(), [second])[90:100, 190:270]
    np.testing.assert_array_equal(draw(gray(), [first, second])[90:100, 190:270], alone)
    np.testing.assert_array_equal(draw(gray(), [second, first])[90:100, 190:270], alone)


def test_an_unusable_face_is_gray_and_has_no_bars():
    overlay = draw(gray(), [unusable()])
    there = changed(gray(), [unusable()])
    assert there[70:80, 100:280].mean() > 0.9  # why, in words
    assert not there[82:180, 200:].any()  # no bars
    assert (np.ptp(overlay[there].astype(int), axis=1) < 3).all()


def test_a_narrow_image_gets_the_reason_without_values():
    faces = [unusable(box=(2, 60, 60, 120))]
    there = changed(gray(140, 140), faces)
    assert there[50:60, 2:80].mean() > 0.9
    assert not there[50:60, 130:].any()


ODD_PLACES = {
    "left and above": (-40, -30, 30, 40),
    "right and below": (440, 330, 520, 420),
    "around everything": (-100, -100, 900, 900),
    "outside": (600, 500, 700, 600),
    "far outside": (-1e30, -1e30, 1e30, 1e30),
    "a point": (200, 200, 200, 200),
    "turned round": (200, 200, 100, 100),
    "not a number": (np.nan, np.nan, np.nan, np.nan),
}


@pytest.mark.parametrize("box", ODD_PLACES.values(), ids=ODD_PLACES)
@pytest.mark.parametrize("make", [face, unusable])
def test_any_position_can_be_drawn(box, make):
    points_xy = np.full((68, 2), np.inf, np.float32)
    assert draw(gray(), [make(box=box, points_xy=points_xy)]).shape == (360, 480, 3)


@pytest.mark.parametrize("box", [(-40, -30, 30, 40), (440, 300, 480, 360), (200, 0, 280, 60)])
def test_bars_and_label_stay_inside_the_image(box):
    """Whole, wherever the face is: as much is drawn as in the middle, but for the outline."""
    there = changed(gray(), [face(box=box)])
    in_the_middle = changed(gray(), [face(box=(200, 150, 280, 210))])
    assert there.sum() > 0.9 * in_the_middle[:, 282:].sum()


@pytest.mark.parametrize("box", [(-40, 150, 30, 210), (440, 300, 480, 360), (200, 0, 280, 60)])
def test_the_label_is_complete_at_any_position(box):
    middle = changed(gray(), [face(box=(200, 150, 280, 210))])[140:150]
    width_px = middle.any(axis=0).sum()
    label = draw(gray(), [face(box=(200, 150, 280, 210))])[140:150, 200 : 200 + width_px]
    left, top = min(max(0, box[0]), 480 - width_px), max(0, box[1] - 10)
    overlay = draw(gray(), [face(box=box)])
    np.testing.assert_array_equal(overlay[top : top + 10, left : left + width_px], label)


def test_bars_are_on_the_side_with_more_space():
    width_px = changed(gray(), [face(box=(200, 150, 280, 210))])[:, 282:].any(axis=0).sum()
    for box, bars in [
        ((200, 150, 280, 210), np.s_[150:230, 282 : 282 + width_px]),
        ((440, 150, 480, 210), np.s_[150:230, 438 - width_px : 438]),
        ((20, 150, 470, 300), np.s_[150:230, 0:width_px]),  # neither side: on the face
    ]:
        assert changed(gray(), [face(box=box)])[bars].all()


@pytest.mark.parametrize("shape", [(1, 1), (3, 500), (500, 3), (48, 48)])
def test_any_image_size_can_be_drawn(shape):
    assert draw(gray(*shape), [face(), unusable()]).shape == (*shape, 3)


def test_views_and_read_only_images_can_be_drawn(astronaut):
    mirrored = astronaut[::-1, ::-1]
    overlay = draw(mirrored, [face()])
    np.testing.assert_array_equal(overlay, draw(np.ascontiguousarray(mirrored), [face()]))


SIDES = (28, 14, 7)
TILE = 3 * 112
TOP = 48  # below the two lines of text
LEFTS = [column * (TILE + 6) for column in range(4)]


def even(count):
    return [np.ones((count, side, side), np.float32) for side in SIDES]


def gray_crops(count):
    return np.full((count, 112, 112, 3), 128, np.uint8)


def tile(overlay, column, row=0):
    top = row * (TOP + TILE) + TOP
    return overlay[top : top + TILE, LEFTS[column] : LEFTS[column] + TILE].astype(int)


def test_attention_without_faces_is_labeled():
    overlay = draw_attention([], gray_crops(0), even(0))
    assert overlay.ndim == 3
    assert (overlay > 100).any()
    np.testing.assert_array_equal(overlay, draw_attention([], gray_crops(0), []))


@pytest.mark.parametrize("faces", [[face()], [face(), unusable()]])
def test_attention_has_a_row_for_each_face(faces):
    count = len(faces)
    overlay = draw_attention(faces, gray_crops(count), even(count))
    assert overlay.shape == (count * (TOP + TILE), 4 * (TILE + 6), 3)
    assert overlay.dtype == np.uint8
    for row in range(count):
        assert (tile(overlay, 0, row) == 128).all()  # the crop itself


def test_attention_names_the_face_and_the_largest_value():
    """The first line is the label, the second one what stands below it."""
    maps = even(1)
    maps[2][0, 3, 3] = 5
    titles, captions = np.s_[:24], np.s_[24:48]
    plain = draw_attention([face()], gray_crops(1), even(1))
    other = draw_attention([face(id="f00002")], gray_crops(1), maps)
    assert (plain[titles] != other[titles]).any()
    same = [
        (plain[captions, left : left + TILE] == other[captions, left : left + TILE]).all()
        for left in LEFTS
    ]
    assert same == [True, True, True, False]


@pytest.mark.parametrize("scale", [0, 1, 2])
@pytest.mark.parametrize("place", [(0, 0), (3, 5)])
def test_the_heat_map_is_brightest_at_the_maximum(scale, place):
    maps = [attention * 0.5 for attention in even(1)]
    maps[scale][0, place[0], place[1]] = 4
    overlay = draw_attention([face()], gray_crops(1), maps)
    brightness = tile(overlay, 1 + scale).sum(axis=2)
    cell = TILE // SIDES[scale]
    rows, columns = np.nonzero(brightness == brightness.max())
    assert (rows.mean() // cell, columns.mean() // cell) == place
    far = brightness[-cell:, -cell:]
    assert far.max() < 0.6 * brightness.max()


def test_captions_fit_above_their_maps():
    """49 is the most that a window of 7x7 allows."""
    maps = [attention * 49 for attention in even(1)]
    captions = draw_attention([face()], gray_crops(1), maps)[24:48]
    for left in LEFTS:
        assert (captions[:, left + TILE - 4 : left + TILE] == captions[0, 0]).all()


def test_attention_shows_the_face_below():
    """Light parts of the crop stay lighter."""
    crops = gray_crops(1)
    crops[:, :56] = 255
    overlay = draw_attention([face()], crops, even(1))
    for column in range(4):
        image = tile(overlay, column).sum(axis=2)
        assert image[:150].min() > image[-150:].max()


@pytest.mark.parametrize("value", [0.0, np.nan, np.inf, 1e-30])
def test_any_attention_can_be_drawn(value):
    maps = [attention * np.float32(value) for attention in even(1)]
    assert tile(draw_attention([face()], gray_crops(1), maps), 3).shape == (TILE, TILE, 3)


def test_attention_is_more_colorful_the_more_there_is():
    """The eye can order the colors: each step of the map is lighter than the one before."""
    maps = even(1)
    maps[2][0] = np.linspace(0, 2, 7, dtype=np.float32)[None]
    overlay = draw_attention([face()], gray_crops(1), maps)
    light = cv2.cvtColor(tile(overlay, 3).astype(np.uint8), cv2.COLOR_RGB2LAB)[..., 0]
    steps = light[TILE // 2, 24::48].astype(int)
    assert (np.diff(steps) > 0).all()


def test_the_debug_view_of_the_docs_shows_no_photograph(tmp_path):
    new = tmp_path / "debug_view.png"
    subprocess.run([sys.executable, ROOT / "examples/debug_view.py", new], cwd=ROOT, check=True)
    for path in (ROOT / "docs/images/debug_view.png", new):
        image = cv2.imread(str(path)).reshape(-1, 3)
        plain = (image == image[0]).all(axis=1).mean()
        assert 0.9 < plain < 0.98
