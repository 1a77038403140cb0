"""Videos that are damaged, or have no properties or odd names."""

import os
import re

import cv2
import numpy as np
import pytest
from media_tools import partial, write_video

from fer_ros.io.media import MediaError, count_images, read_file, read_stream


class Silent:
    """A video whose properties all have the same, odd value."""

    def __init__(self, path, result):
        self.video = cv2.VideoCapture(str(path))
        self.result = result
        self.read, self.release = self.video.read, self.video.release

    def get(self, name):
        return self.result


@pytest.mark.parametrize("result", [0.0, -1.0, float("inf"), float("nan")])
def test_a_video_without_a_frame_rate_gets_the_default(tmp_path, monkeypatch, result):
    """It is taken for one of 25 frames per second."""
    video = Silent(write_video(tmp_path / "a.avi", frames=3), result)
    monkeypatch.setattr(cv2, "VideoCapture", lambda path: video)
    assert [image.stamp_s for image in read_file(tmp_path / "a.mkv")] == [0.0, 0.04, 0.08]


@pytest.mark.parametrize("result", [0.0, -1.0, -9.2e18])
def test_a_video_without_a_length_is_reported(tmp_path, monkeypatch, result):
    video = Silent(write_video(tmp_path / "a.avi", frames=3), result)
    monkeypatch.setattr(cv2, "VideoCapture", lambda path: video)
    assert count_images(tmp_path / "a.avi") == 0


@pytest.mark.parametrize("name", [b"v\xff.mp4", b"v\xff"])
def test_a_video_whose_name_crashes_opencv_is_rejected(tmp_path, name):
    path = write_video(tmp_path / "a.avi").rename(tmp_path / os.fsdecode(name))
    with pytest.raises(MediaError, match=r": the name of the video is not UTF-8: rename it$"):
        list(read_file(path))
    assert count_images(path) == 0
    with pytest.raises(MediaError, match="not UTF-8"):
        next(read_stream(f"file://{path}"))


def test_a_broken_video_is_reported_once(tmp_path, capfd):
    (tmp_path / "a.mp4").write_text("no video")
    with pytest.raises(MediaError):
        list(read_file(tmp_path / "a.mp4"))
    printed = capfd.readouterr().err
    if int(cv2.__version__.split(".")[1]) < 7:  # FFmpeg's own line cannot be turned off there
        printed = re.sub(r"^.*moov atom not found\n", "", printed)
    assert printed == ""


class Script:
    """A video with given reads: each is a time in seconds, or None for a failed read."""

    def __init__(self, reads, promised, fps=10.0):
        self.reads = iter(reads)
        self.properties = {cv2.CAP_PROP_FRAME_COUNT: promised, cv2.CAP_PROP_FPS: fps}

    def read(self):
        self.stamp_s = next(self.reads, None)
        return self.stamp_s is not None, np.zeros((4, 4, 3), np.uint8)

    def get(self, name):
        return self.stamp_s * 1000 if name == cv2.CAP_PROP_POS_MSEC else self.properties[name]

    def release(self):
        pass


NOTHING = [None]


@pytest.mark.parametrize(
    ("name", "reads", "promised", "stamps_s", "error"),
    [
        pytest.param("a.mp4", [0, 0.1, 0.2], 3, [0, 0.1, 0.2], "", id="whole"),
        pytest.param("a.mp4", [0, 0.1, 4.1, 4.13], 4, [0, 0.1, 4.1, 4.13], "", id="variable rate"),
        pytest.param("a.mkv", [0, 0.1, 4.1], 42, [0, 0.1, 4.1], "", id="variable rate, estimated"),
        pytest.param("a.mp4", [0, 0.1], 4, [0, 0.1], "", id="two that an editor left out"),
        pytest.param(
            "a.avi",
            [0, 0.1],
            0,
            [0, 0.1],
            "the file does not say how many images it has: 2 were read, others may be missing",
            id="damaged header",
        ),
        pytest.param(
            "a.avi",
            [0, 0.1],
            3,
            [0, 0.1],
            "ends at 0.10 of 0.30 s: 1 of 3 images are missing",
            id="one at the end, without edit lists",
        ),
        pytest.param(
            "a.mp4",
            [0, 0.1, *NOTHING * 100, 0.6, 0.7],
            8,
            [0, 0.1, 0.6, 0.7],
            "damaged after 0.10 s: 4 of 8 images are missing",
            id="hole",
        ),
        pytest.param(
            "a.mkv",
            [0, *NOTHING * 3, 0.4],
            5,
            [0, 0.4],
            "damaged after 0.00 s: a part is missing",
            id="hole, estimated",
        ),
        pytest.param(
            "a.mp4",
            [0, 0.1],
            50,
            [0, 0.1],
            "ends at 0.10 of 5.00 s: 48 of 50 images are missing",
            id="truncated",
        ),
        pytest.param(
            "a.webm", [0, 0.1], 50, [0, 0.1], "ends at 0.10 of 5.00 s: the end is missing", id="cut"
        ),
        pytest.param(
            "a.mkv",
            [0, 0.1, 0.2, 0.3, 0.4, 0.5],
            12,
            [0, 0.1, 0.2, 0.3, 0.4, 0.5],
            "ends at 0.50 of 1.20 s: the end is missing",
            id="short and cut",
        ),
        pytest.param("a.mkv", [0, 0.1], 2, [0, 0.1], "", id="short and whole"),
        pytest.param("a.mkv", [0, 0.1], 0, [0, 0.1], "", id="of unknown length"),
        pytest.param("a.mp4", [0, 0, 0.05, 0.05], 4, [0, 0.1, 0.2, 0.3], "", id="no clock"),
    ],
)
def test_videos_keep_their_timing_after_damaged_parts(
    monkeypatch, tmp_path, name, reads, promised, stamps_s, error
):
    monkeypatch.setattr(cv2, "VideoCapture", lambda path: Script(reads, promised))
    images, reported = partial(tmp_path / name)
    np.testing.assert_allclose([image.stamp_s for image in images], stamps_s)
    assert reported == (error and f"{tmp_path / name}: {error}")


def test_a_truncated_video_is_reported(tmp_path):
    path = write_video(tmp_path / "a.avi", frames=60, fps=10.0)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 2 // 3])
    images, _ = partial(path)
    assert 30 <= len(images) < 60
    assert images[-1].stamp_s == pytest.approx((len(images) - 1) / 10)
