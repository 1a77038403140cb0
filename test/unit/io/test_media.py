"""Images and videos as RGB images."""

import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from media_tools import write_video
from tree import ROOT

from fer_ros.io.errors import WarningCounter
from fer_ros.io.media import (
    IncompleteMediaError,
    MediaError,
    count_images,
    is_stream,
    is_video,
    list_media,
    media_files,
    open_media,
    read_file,
    read_stream,
    skipped_errors,
)

ORANGE_RGB = (230, 120, 20)


def orange(height=32, width=48):
    return np.full((height, width, 3), ORANGE_RGB, np.uint8)


def write(path, image_rgb):
    assert cv2.imwrite(str(path), cv2.cvtColor(image_rgb, cv2.COLOR_RGB2BGR))
    return path


@pytest.mark.parametrize(
    "others", [[], ["notes.txt"], ["notes.txt", "model.onnx", "clip.mp4.part"]]
)
def test_an_empty_folder(tmp_path, others):
    for name in others:
        (tmp_path / name).write_text("")
    with pytest.raises(MediaError) as caught:
        open_media(tmp_path)  # at once, not with the first image
    assert str(caught.value) == f"{tmp_path}: the folder holds no image and no video"


def test_subfolders_are_read_and_the_rest_is_listed(tmp_path, monkeypatch):
    monkeypatch.setattr("fer_ros.io.media.find_spec", lambda name: None)
    names = ["a.png", "day1/b.JFIF", "day2/deep/c.gif", "d.HEIC", "e.txt", ".cache/f.png"]
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    listing = list_media(tmp_path)
    assert [[str(Path(file).relative_to(tmp_path)) for file in files] for files in listing] == [
        ["a.png", "day1/b.JFIF", "day2/deep/c.gif"],
        ["d.HEIC"],
        ["e.txt"],
        [],
    ]
    assert skipped_errors(tmp_path, listing) == [
        f"{tmp_path}: 1 HEIC images cannot be read, the first d.HEIC: pip install pillow-heif",
        f"{tmp_path}: 1 files are no images or videos and skipped, the first e.txt",
    ]
    with pytest.raises(MediaError, match=r"1 HEIC images cannot be read, the first d\.HEIC: pip"):
        media_files(tmp_path)


def test_what_cannot_be_read_in_a_folder_is_reported(tmp_path, caplog):
    folder = tmp_path / "photos"
    folder.mkdir()
    write(folder / "a.png", orange())
    (folder / "b.png").symlink_to("gone.png")
    os.mkfifo(folder / "c.png")
    listing = list_media(folder)
    assert listing.files == [folder / "a.png"]
    line = (
        f"{folder}: 2 files or folders cannot be read, the first b.png: a link to gone.png, which "
        "cannot be followed: No such file or directory"
    )
    assert skipped_errors(folder, listing) == [line]
    assert len(list(open_media(folder))) == 1
    assert caplog.messages == [line]


def test_a_path_that_is_neither_file_nor_folder_is_described(tmp_path):
    loop = tmp_path / "loop.png"
    loop.symlink_to("loop.png")
    for path, found in (
        ("/dev/null", "/dev/null: expected a file or a folder, found a device"),
        (loop, f"{loop}: expected a file or a folder, found a link to loop.png, which cannot be"),
        ("", "the path is empty: name a file or a folder"),
    ):
        with pytest.raises(MediaError) as caught:
            open_media(path)
        assert str(caught.value).startswith(found)


def test_heic_needs_a_decoder(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    (tmp_path / "a.heic").touch()
    with pytest.raises(MediaError, match="HEIC images need another package"):
        next(read_file(tmp_path / "a.heic"))


def test_a_stream_is_stamped_by_the_clock(tmp_path):
    path = write_video(tmp_path / "a.avi", 3)
    assert [is_stream(name) for name in ("rtsp://a/b", "/dev/video0", str(path))] == [
        True,
        True,
        False,
    ]
    images = list(read_stream(f"file://{path}"))
    stamps = [image.stamp_s for image in images]
    assert (len(images), stamps[0], stamps == sorted(stamps)) == (3, 0.0, True)


class BrokenStream:
    """Three images of a camera; then the connection is lost."""

    def __init__(self, source):
        self._images = [np.zeros((4, 4, 3), np.uint8)] * 3

    def get(self, property_id):
        return -1.0

    def read(self):
        return (True, self._images.pop()) if self._images else (False, None)

    def release(self):
        pass


def test_a_stream_that_ends_is_reported_after_its_images(monkeypatch):
    monkeypatch.setattr(cv2, "VideoCapture", BrokenStream)
    images = read_stream("rtsp://camera")
    assert [next(images).image_rgb.shape for _ in range(3)] == [(4, 4, 3)] * 3
    with pytest.raises(
        IncompleteMediaError, match=r"^rtsp://camera: the stream ended after 3 images"
    ):
        next(images)


@pytest.mark.parametrize("source", ["rtsp://127.0.0.1:9/none", "/dev/video99"])
def test_a_missing_stream_is_reported_in_one_line(source):
    with pytest.raises(MediaError, match=f"^{source}: no images; expected a stream") as caught:
        next(read_stream(source))
    assert "\n" not in str(caught.value)


def test_a_missing_path_is_reported(tmp_path):
    with pytest.raises(MediaError, match=r"none\.png: no such file or folder$"):
        media_files(tmp_path / "none.png")


@pytest.mark.parametrize(
    "name", ["a.png", "a.PNG", "a.bmp", "a.jpg", "a.JPeG", "a.webp", "a.tiff", "a.ppm", "a.jpe"]
)
def test_an_image_is_rgb_at_time_zero(tmp_path, name):
    path = write(tmp_path / name, orange())
    (image,) = read_file(path)
    assert (image.name, image.stamp_s) == (str(path), 0.0)
    assert (image.image_rgb.shape, image.image_rgb.dtype) == ((32, 48, 3), np.uint8)
    np.testing.assert_allclose(image.image_rgb.reshape(-1, 3).mean(axis=0), ORANGE_RGB, atol=4)
    assert not is_video(path)


STORED = {
    "gray": (np.full((9, 8), 100, np.uint8), (100, 100, 100)),
    "16 bits, gray": (np.full((9, 8), 100 * 256 + 7, np.uint16), (100, 100, 100)),
    "16 bits": (np.full((9, 8, 3), (5140, 30840, 59110), np.uint16), ORANGE_RGB),
    "with alpha": (np.full((9, 8, 4), (20, 120, 230, 0), np.uint8), ORANGE_RGB),
    "one pixel": (np.full((1, 1, 3), (20, 120, 230), np.uint8), ORANGE_RGB),
}


@pytest.mark.parametrize(("stored", "shown_rgb"), STORED.values(), ids=STORED)
def test_any_kind_of_png(tmp_path, stored, shown_rgb):
    cv2.imwrite(str(tmp_path / "a.png"), stored)
    (image,) = read_file(tmp_path / "a.png")
    assert (image.image_rgb.shape, image.image_rgb.dtype) == ((*stored.shape[:2], 3), np.uint8)
    expected = np.broadcast_to(shown_rgb, (*stored.shape[:2], 3))
    np.testing.assert_allclose(image.image_rgb, expected, atol=1)  # OpenCV 4.6 rounds down


def test_an_image_without_suffix_is_recognized_by_content(tmp_path):
    path = write(tmp_path / "a.png", orange()).rename(tmp_path / "image")
    assert (is_video(path), count_images(path)) == (False, 1)
    assert len(list(read_file(path))) == 1


def test_a_video_without_suffix_is_recognized_by_content(tmp_path):
    path = write_video(tmp_path / "a.avi").rename(tmp_path / "clip")
    assert (is_video(path), count_images(path)) == (True, 6)
    assert [image.stamp_s for image in read_file(path)] == [0.0, 0.25, 0.5, 0.75, 1.0, 1.25]


@pytest.mark.parametrize("name", ["clip.avi", "CLIP.AVI"])
def test_a_video_counts_from_its_start(tmp_path, name):
    path = write_video(tmp_path / name)
    images = list(read_file(path))
    assert [image.stamp_s for image in images] == [0.0, 0.25, 0.5, 0.75, 1.0, 1.25]
    assert {image.name for image in images} == {str(path)}
    colors = [image.image_rgb.mean(axis=(0, 1)) for image in images]
    np.testing.assert_allclose(colors, np.outer(range(6), (40, 20, 10)), atol=4)
    assert (is_video(path), count_images(path)) == (True, 6)


def test_a_folder_is_read_by_name_with_its_subfolders(tmp_path):
    for name in ("b.PNG", "a.jpg", "10.png", "9.png"):
        write(tmp_path / name, orange())
    write_video(tmp_path / "c.avi", frames=2)
    (tmp_path / "notes.txt").write_text("x")
    (tmp_path / "deeper").mkdir()
    write(tmp_path / "deeper" / "d.png", orange())
    names = ["10.png", "9.png", "a.jpg", "b.PNG", "c.avi", "deeper/d.png"]
    assert [str(path.relative_to(tmp_path)) for path in media_files(tmp_path)] == names
    assert media_files(str(tmp_path / "b.PNG")) == [tmp_path / "b.PNG"]
    shown = [image.name for image in open_media(tmp_path)]
    assert shown == [str(tmp_path / name) for name in sorted([*names, "c.avi"])]


CUT = cv2.imencode(".png", orange())[1].tobytes()[:30]
BROKEN_PICTURE = "not an image: OpenCV cannot read"
BROKEN_VIDEO = "not an image or video that OpenCV can read"


@pytest.mark.parametrize(("largest", "bits"), [(1023, 10), (4095, 12)])
def test_a_stretched_range_is_reported_with_a_count(tmp_path, largest, bits):
    guesses = WarningCounter()
    for name in ("a.png", "b.png"):
        gray = np.linspace(0, largest, 96).reshape(8, 12).astype(np.uint16)
        cv2.imwrite(str(tmp_path / name), gray)
        (image,) = read_file(tmp_path / name, guesses.about(name))
        assert (image.image_rgb.min(), image.image_rgb.max()) == (0, 255)
    assert guesses.lines == [
        f"2 images, the first a.png: 16-bit file: only {bits} of 16 bits are used; the range is "
        "stretched"
    ]


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("empty.png", b"", f"{BROKEN_PICTURE} 0 bytes"),
        ("EMPTY.PNG", b"", f"{BROKEN_PICTURE} 0 bytes"),
        ("text.jpg", b"not images", f"{BROKEN_PICTURE} 10 bytes"),
        ("cut.png", CUT, "damaged PNG of 30 bytes: its end is missing"),
        ("text.mp4", b"no video", BROKEN_VIDEO),
        ("empty.avi", b"", BROKEN_VIDEO),
        ("text", b"neither", BROKEN_VIDEO),
    ],
)
def test_a_broken_file_is_reported_in_one_line_with_its_name(tmp_path, name, content, says):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(MediaError) as caught:
        list(read_file(path))
    assert str(caught.value) == f"{path}: {says}"
    assert count_images(path) == (says != BROKEN_VIDEO)


def test_an_image_may_have_any_name(tmp_path):
    path = write(tmp_path / "a.png", orange())
    for name in (b"a\xff.png", b"a\xff"):
        path = path.rename(tmp_path / os.fsdecode(name))
        assert [image.name for image in read_file(path)] == [str(path)]


FORMATS = ("PNG", "BMP", "TIFF", "JPEG", "WEBP")
OPENCV_VERSION = tuple(map(int, cv2.__version__.split(".")[:2]))


def test_only_the_error_is_printed_about_a_damaged_image(tmp_path, astronaut):
    """OpenCV prints lines of its own otherwise."""
    script = """
import sys
from pathlib import Path
from fer_ros.io.media import MediaError, read_file
for file in map(Path, sys.argv[1:]):
    try:
        print(len([*read_file(file)]))
    except MediaError as error:
        print(error)
"""
    paths = [write(tmp_path / f"a.{form.lower()}", astronaut) for form in FORMATS]
    for path in paths:
        data = path.read_bytes()
        path.write_bytes(data[: len(data) // 2])
    command = [sys.executable, "-c", script, *map(str, paths)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    starts = [f"{path}: damaged {form}" for path, form in zip(paths, FORMATS, strict=True)]
    lines = zip(done.stdout.splitlines(), starts, strict=True)
    assert all(line.startswith(start) for line, start in lines), done.stdout
    if OPENCV_VERSION >= (4, 7):  # older ones print a line about a BMP file at any log level
        assert done.stderr == ""


def test_a_folder_is_read_until_its_first_broken_file(tmp_path):
    write(tmp_path / "a.png", orange())
    (tmp_path / "b.png").write_text("no image")
    images = open_media(tmp_path)
    assert next(images).name == str(tmp_path / "a.png")
    with pytest.raises(MediaError, match=r"b\.png: not an image"):
        next(images)


def test_a_folder_named_like_an_image_is_read_as_a_folder(tmp_path):
    (tmp_path / "a.png").mkdir()
    with pytest.raises(MediaError, match=r"a\.png: cannot be read: Is a directory"):
        list(read_file(tmp_path / "a.png"))


def test_a_video_can_be_left_in_the_middle(tmp_path):
    path = write_video(tmp_path / "a.avi")
    images = read_file(path)
    next(images)
    images.close()
    assert len(list(read_file(path))) == 6
