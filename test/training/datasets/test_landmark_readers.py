"""The layouts of 300-W and WFLW, as samples with landmarks."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from dataset_tools import write_lines, write_points

from training.datasets.readers.registry import open_source
from training.datasets.readers.wflw import POINTS_OF_WFLW
from training.datasets.records import SourceRequest

IMAGE = b"not looked at"


def draw(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(IMAGE)


def landmarks() -> np.ndarray:
    return np.stack([np.linspace(10, 30, 68), np.linspace(20, 50, 68)], axis=1)


def three_hundred(top: Path) -> Path:
    for name in ("afw/1", "helen/trainset/2", "helen/testset/3", "ibug/4"):
        draw(top / f"{name}.png")
        write_points(top / f"{name}.pts", landmarks() + 1)
    return top


def wflw(top: Path) -> Path:
    """Two faces of one image."""
    points = np.zeros((98, 2))
    points[list(POINTS_OF_WFLW)] = landmarks()
    numbers = " ".join(map(str, points.ravel()))
    lines = [f"{numbers} 5 6 20 30 0 0 0 0 0 0 a/1.jpg"] * 2
    for split in ("train", "test"):
        write_lines(top / "lists" / "rect" / f"list_98pt_rect_attr_{split}.txt", *lines)
    draw(top / "WFLW_images" / "a" / "1.jpg")
    return top


# layout, requested split, kind, names
LAYOUTS = (
    (three_hundred, "train", "300w", ["afw/1", "helen/trainset/2"]),
    (three_hundred, "test", "300w", ["helen/testset/3", "ibug/4"]),
    (wflw, "test", "wflw", ["a/1.jpg", "a/1.jpg"]),
)


@pytest.mark.parametrize(("make", "split", "kind", "names"), LAYOUTS)
def test_layouts_are_recognized(tmp_path, make, split, kind, names):
    source = open_source(SourceRequest(make(tmp_path), split))
    assert source.kind == kind
    assert [row.name for row in source.samples] == names
    assert all(data == IMAGE for _, _, data in source.images(0, 99))
    assert not source.tight_crops


@pytest.mark.parametrize("make", [three_hundred, wflw])
def test_landmarks_count_from_0_and_give_a_box_and_five_points(tmp_path, make):
    source = open_source(SourceRequest(make(tmp_path), "test"))
    assert source.has_landmarks
    assert not source.labels
    for row in source.samples:
        np.testing.assert_allclose(row.landmarks68_xy, landmarks(), atol=1e-4)
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


def truncated_wflw(top: Path) -> Path:
    write_lines(wflw(top) / "lists" / "rect" / "list_98pt_rect_attr_train.txt", "1 2 3 a.jpg")
    return top


# source, requested split, words of the message
ERRORS = (
    (break_points(""), "train", "1.pts: expected 68 points between braces, found 0"),
    (break_points("{ 1 2 }"), "train", "1.pts: expected 68 points between braces, found 1"),
    (break_points("{ 1 nan }"), "train", "1.pts: expected 68 points between braces, found 0"),
    (break_points("{ 1 x }"), "train", "1.pts: expected 68 points between braces, found 0"),
    (break_points(f"{{ {'3e38 ' * 136}}}"), "train", "1.pts: expected 68 points between braces"),
    (lost_picture, "train", "1.pts: expected an image of the same name next to it"),
    (three_hundred, "", "holds train, test: choose one with --split"),
    (truncated_wflw, "train", "train.txt:1: expected 98 points and an image, found '1 2 3 a.jpg'"),
    (lost_wflw, "train", "name the folder of its images with --images"),
)


@pytest.mark.parametrize(("make", "split", "words"), ERRORS)
def test_errors_are_reported_in_one_line(tmp_path, make, split, words):
    with pytest.raises(ValueError) as caught:
        open_source(SourceRequest(make(tmp_path), split))
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("split", ["train", "test"])
def test_a_wflw_list_can_be_given_with_its_image_folder(tmp_path, split):
    lost_wflw(tmp_path)
    table = tmp_path / "lists" / "rect" / f"list_98pt_rect_attr_{split}.txt"
    source = open_source(SourceRequest(table, images=tmp_path / "elsewhere"))
    assert [data for _, _, data in source.images(0, 99)] == [IMAGE] * 2


def test_an_invalid_image_name_gives_an_empty_image(tmp_path):
    table = wflw(tmp_path) / "lists" / "rect" / "list_98pt_rect_attr_train.txt"
    table.write_text(table.read_text().replace("a/1.jpg", "a\0.jpg"))
    assert [data for *_, data in open_source(SourceRequest(table)).images(0, 99)] == [b""] * 2


def test_every_kind_is_tested():
    assert {kind for _, _, kind, _ in LAYOUTS} == {"300w", "wflw"}
