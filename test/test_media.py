"""Pictures and videos as RGB images."""

import cv2
import numpy as np
import pytest

from fer_ros.media import MediaError, count_images, is_video, media_files, open_media, read_file

ORANGE_RGB = (230, 120, 20)


def orange(height=32, width=48):
    return np.full((height, width, 3), ORANGE_RGB, np.uint8)


def write(path, image_rgb):
    assert cv2.imwrite(str(path), cv2.cvtColor(image_rgb, cv2.COLOR_RGB2BGR))
    return path


def write_video(path, frames=6, fps=4.0):
    """Ever brighter frames of one colour."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), fps, (64, 48))
    assert writer.isOpened()
    for i in range(frames):
        writer.write(np.full((48, 64, 3), (10 * i, 20 * i, 40 * i), np.uint8))  # BGR
    writer.release()
    return path


@pytest.mark.parametrize(
    "others", [[], ["notes.txt"], ["notes.txt", "model.onnx", "clip.mp4.part"]]
)
def test_an_empty_folder(tmp_path, others):
    for name in others:
        (tmp_path / name).write_text("")
    with pytest.raises(MediaError) as caught:
        open_media(tmp_path)  # at once, not with the first image
    assert str(caught.value) == f"{tmp_path}: the folder holds no picture and no video"


def test_nothing_is_there(tmp_path):
    with pytest.raises(MediaError, match=r"none\.png: no such file or folder$"):
        media_files(tmp_path / "none.png")


@pytest.mark.parametrize(
    "name", ["a.png", "a.PNG", "a.bmp", "a.jpg", "a.JPeG", "a.webp", "a.tiff", "a.ppm"]
)
def test_a_picture_is_rgb_at_time_zero(tmp_path, name):
    path = write(tmp_path / name, orange())
    (image,) = read_file(path)
    assert (image.name, image.stamp_s) == (str(path), 0.0)
    assert (image.image_rgb.shape, image.image_rgb.dtype) == ((32, 48, 3), np.uint8)
    np.testing.assert_allclose(image.image_rgb.reshape(-1, 3).mean(axis=0), ORANGE_RGB, atol=4)
    assert not is_video(path)


STORED = {
    "grey": (np.full((9, 8), 100, np.uint8), (100, 100, 100)),
    "16 bits, grey": (np.full((9, 8), 100 * 256 + 7, np.uint16), (100, 100, 100)),
    "16 bits": (np.full((9, 8, 3), (5127, 30727, 58887), np.uint16), ORANGE_RGB),
    "with alpha": (np.full((9, 8, 4), (20, 120, 230, 0), np.uint8), ORANGE_RGB),
    "one pixel": (np.full((1, 1, 3), (20, 120, 230), np.uint8), ORANGE_RGB),
}


@pytest.mark.parametrize(("stored", "shown_rgb"), STORED.values(), ids=STORED)
def test_any_kind_of_png(tmp_path, stored, shown_rgb):
    cv2.imwrite(str(tmp_path / "a.png"), stored)
    (image,) = read_file(tmp_path / "a.png")
    assert (image.image_rgb.shape, image.image_rgb.dtype) == ((*stored.shape[:2], 3), np.uint8)
    np.testing.assert_allclose(image.image_rgb, np.broadcast_to(shown_rgb, (*stored.shape[:2], 3)))


def test_a_picture_without_suffix_is_known_by_its_content(tmp_path):
    path = write(tmp_path / "a.png", orange()).rename(tmp_path / "picture")
    assert (is_video(path), count_images(path)) == (False, 1)
    assert len(list(read_file(path))) == 1


def test_a_video_without_suffix_is_known_by_its_content(tmp_path):
    path = write_video(tmp_path / "a.avi").rename(tmp_path / "clip")
    assert (is_video(path), count_images(path)) == (True, 6)
    assert [image.stamp_s for image in read_file(path)] == [0.0, 0.25, 0.5, 0.75, 1.0, 1.25]


@pytest.mark.parametrize("name", ["clip.avi", "CLIP.AVI"])
def test_a_video_counts_from_its_start(tmp_path, name):
    path = write_video(tmp_path / name)
    images = list(read_file(path))
    assert [image.stamp_s for image in images] == [0.0, 0.25, 0.5, 0.75, 1.0, 1.25]
    assert {image.name for image in images} == {str(path)}
    colours = [image.image_rgb.mean(axis=(0, 1)) for image in images]
    np.testing.assert_allclose(colours, np.outer(range(6), (40, 20, 10)), atol=4)
    assert (is_video(path), count_images(path)) == (True, 6)


def test_a_folder_goes_by_name_and_leaves_the_rest_alone(tmp_path):
    for name in ("b.PNG", "a.jpg", "10.png", "9.png"):
        write(tmp_path / name, orange())
    write_video(tmp_path / "c.avi", frames=2)
    (tmp_path / "notes.txt").write_text("x")
    (tmp_path / "deeper").mkdir()
    write(tmp_path / "deeper" / "d.png", orange())
    names = ["10.png", "9.png", "a.jpg", "b.PNG", "c.avi"]
    assert [path.name for path in media_files(tmp_path)] == names
    assert media_files(str(tmp_path / "b.PNG")) == [tmp_path / "b.PNG"]
    shown = [image.name for image in open_media(tmp_path)]
    assert shown == [str(tmp_path / name) for name in [*names, "c.avi"]]


class Silent:
    """A video whose properties all have the same, odd value."""

    def __init__(self, path, answer):
        self.video = cv2.VideoCapture(str(path))
        self.answer = answer
        self.read, self.release = self.video.read, self.video.release

    def get(self, name):
        return self.answer


@pytest.mark.parametrize("answer", [0.0, -1.0, float("inf"), float("nan")])
def test_a_video_that_does_not_say_how_fast_it_is(tmp_path, monkeypatch, answer):
    """It is taken for one of 25 frames per second."""
    video = Silent(write_video(tmp_path / "a.avi", frames=3), answer)
    monkeypatch.setattr(cv2, "VideoCapture", lambda path: video)
    assert [image.stamp_s for image in read_file(tmp_path / "a.avi")] == [0.0, 0.04, 0.08]


@pytest.mark.parametrize("answer", [0.0, -1.0, -9.2e18])
def test_a_video_that_does_not_say_how_long_it_is(tmp_path, monkeypatch, answer):
    video = Silent(write_video(tmp_path / "a.avi", frames=3), answer)
    monkeypatch.setattr(cv2, "VideoCapture", lambda path: video)
    assert count_images(tmp_path / "a.avi") == 0


CUT = cv2.imencode(".png", orange())[1].tobytes()[:30]
BROKEN_PICTURE = "not a picture: OpenCV cannot read"
BROKEN_VIDEO = "neither a picture nor a video that OpenCV can read"


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("empty.png", b"", f"{BROKEN_PICTURE} 0 bytes"),
        ("EMPTY.PNG", b"", f"{BROKEN_PICTURE} 0 bytes"),
        ("text.jpg", b"no picture", f"{BROKEN_PICTURE} 10 bytes"),
        ("cut.png", CUT, f"{BROKEN_PICTURE} 30 bytes"),
        ("text.mp4", b"no video", BROKEN_VIDEO),
        ("empty.avi", b"", BROKEN_VIDEO),
        ("text", b"neither", BROKEN_VIDEO),
    ],
)
def test_a_broken_file_is_one_line_that_names_it(tmp_path, name, content, says):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(MediaError) as caught:
        list(read_file(path))
    assert str(caught.value) == f"{path}: {says}"
    assert count_images(path) == (says != BROKEN_VIDEO)


def test_a_broken_video_is_not_complained_about_twice(tmp_path, capfd):
    (tmp_path / "a.mp4").write_text("no video")
    with pytest.raises(MediaError):
        list(read_file(tmp_path / "a.mp4"))
    assert capfd.readouterr().err == ""


def test_a_folder_is_read_until_its_first_broken_file(tmp_path):
    write(tmp_path / "a.png", orange())
    (tmp_path / "b.png").write_text("no picture")
    images = open_media(tmp_path)
    assert next(images).name == str(tmp_path / "a.png")
    with pytest.raises(MediaError, match=r"b\.png: not a picture"):
        next(images)


def test_a_folder_with_the_name_of_a_picture(tmp_path):
    (tmp_path / "a.png").mkdir()
    with pytest.raises(MediaError, match=r"a\.png: cannot be read: Is a directory"):
        list(read_file(tmp_path / "a.png"))


def test_a_video_can_be_left_in_the_middle(tmp_path):
    path = write_video(tmp_path / "a.avi")
    images = read_file(path)
    next(images)
    images.close()
    assert len(list(read_file(path))) == 6
