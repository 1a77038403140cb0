"""The layouts of 300-W and WFLW, as rows with landmarks."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pack_tools import write_lines, write_points

from training.annotated import ANNOTATED, POINTS_OF_WFLW
from training.rows import Wanted
from training.sources import open_source

PICTURE = b"not looked at"


def draw(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(PICTURE)


def landmarks() -> np.ndarray:
    return np.stack([np.linspace(10, 30, 68), np.linspace(20, 50, 68)], axis=1)


def three_hundred(top: Path) -> Path:
    for name in ("afw/1", "helen/trainset/2", "helen/testset/3", "ibug/4"):
        draw(top / f"{name}.png")
        write_points(top / f"{name}.pts", landmarks() + 1)
    return top


def wflw(top: Path) -> Path:
    """Two faces of one picture."""
    points = np.zeros((98, 2))
    points[list(POINTS_OF_WFLW)] = landmarks()
    numbers = " ".join(map(str, points.ravel()))
    lines = [f"{numbers} 5 6 20 30 0 0 0 0 0 0 a/1.jpg"] * 2
    for split in ("train", "test"):
        write_lines(top / "lists" / "rect" / f"list_98pt_rect_attr_{split}.txt", *lines)
    draw(top / "WFLW_images" / "a" / "1.jpg")
    return top


# layout, split asked for, kind, names
LAYOUTS = (
    (three_hundred, "train", "300w", ["afw/1", "helen/trainset/2"]),
    (three_hundred, "test", "300w", ["helen/testset/3", "ibug/4"]),
    (wflw, "test", "wflw", ["a/1.jpg", "a/1.jpg"]),
)


@pytest.mark.parametrize(("make", "split", "kind", "names"), LAYOUTS)
def test_layouts_are_recognised(tmp_path, make, split, kind, names):
    source = open_source(Wanted(make(tmp_path), split))
    assert source.kind == kind
    assert [row.name for row in source.rows] == names
    assert all(data == PICTURE for _, _, data in source.pictures(0, 99))
    assert not source.tight


@pytest.mark.parametrize("make", [three_hundred, wflw])
def test_landmarks_count_from_0_and_bring_a_box_and_five_points(tmp_path, make):
    source = open_source(Wanted(make(tmp_path), "test"))
    assert source.annotated
    assert not source.labels
    for row in source.rows:
        np.testing.assert_allclose(row.points68_xy, landmarks(), atol=1e-4)
        np.testing.assert_allclose(row.box_xyxy, [10, 20, 30, 50], atol=1e-4)
        np.testing.assert_allclose(row.points_xy[2], landmarks()[30], atol=1e-4)


def test_an_eye_of_wflw_is_an_eye(tmp_path):
    """Its corners are 60, 64, 68 and 72, its mouth's 76 and 82, its nose's tip 54."""
    assert len(set(POINTS_OF_WFLW)) == 68
    corners = [POINTS_OF_WFLW[place] for place in (36, 39, 42, 45, 48, 54, 30)]
    assert corners == [60, 64, 68, 72, 76, 82, 54]


def break_points(text: str) -> Callable[[Path], Path]:
    def make(top: Path) -> Path:
        write_lines(three_hundred(top) / "afw" / "1.pts", "version: 1", "n_points: 68", text)
        return top

    return make


def lost_picture(top: Path) -> Path:
    (three_hundred(top) / "afw" / "1.png").unlink()
    return top


def lost_wflw(top: Path) -> Path:
    (wflw(top) / "WFLW_images").rename(top / "elsewhere")
    return top


def torn_wflw(top: Path) -> Path:
    write_lines(wflw(top) / "lists" / "rect" / "list_98pt_rect_attr_train.txt", "1 2 3 a.jpg")
    return top


# what is wrong, split asked for, words of the message
TROUBLES = (
    (break_points(""), "train", "1.pts: expected 68 points between braces, found 0"),
    (break_points("{ 1 2 }"), "train", "1.pts: expected 68 points between braces, found 1"),
    (break_points("{ 1 nan }"), "train", "1.pts: expected 68 points between braces, found 0"),
    (break_points("{ 1 x }"), "train", "1.pts: expected 68 points between braces, found 0"),
    (break_points(f"{{ {'3e38 ' * 136}}}"), "train", "1.pts: expected 68 points between braces"),
    (lost_picture, "train", "1.pts: expected a picture of the same name beside it"),
    (three_hundred, "", "holds train, test: choose one with --split"),
    (torn_wflw, "train", "list_98pt_rect_attr_train.txt:1: expected 98 points and a picture"),
    (lost_wflw, "train", "name the folder of its pictures with --pictures"),
)


@pytest.mark.parametrize(("make", "split", "words"), TROUBLES)
def test_what_is_wrong_is_one_line(tmp_path, make, split, words):
    with pytest.raises(ValueError) as caught:
        open_source(Wanted(make(tmp_path), split))
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("split", ["train", "test"])
def test_a_list_of_wflw_can_be_named_with_its_pictures(tmp_path, split):
    lost_wflw(tmp_path)
    table = tmp_path / "lists" / "rect" / f"list_98pt_rect_attr_{split}.txt"
    source = open_source(Wanted(table, pictures=tmp_path / "elsewhere"))
    assert [data for _, _, data in source.pictures(0, 99)] == [PICTURE] * 2


def test_a_picture_of_a_name_that_no_file_has_is_empty(tmp_path):
    table = wflw(tmp_path) / "lists" / "rect" / "list_98pt_rect_attr_train.txt"
    table.write_text(table.read_text().replace("a/1.jpg", "a\0.jpg"))
    assert [data for *_, data in open_source(Wanted(table)).pictures(0, 99)] == [b""] * 2


def test_every_kind_is_tested():
    assert {kind for _, _, kind, _ in LAYOUTS} == set(ANNOTATED)
