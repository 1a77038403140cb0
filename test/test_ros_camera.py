"""The camera: what it shows, when, and how it ends."""

import re
import signal
from itertools import islice, pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest
from rclpy.node import Node
from ros_tools import Listener, graph_of_a_test
from sensor_msgs.msg import CompressedImage, Image

from fer_ros.media import MediaError
from fer_ros.ros.camera import CameraConfig, images
from fer_ros.ros.convert import stamp_s, to_rgb
from fer_ros.sample import COUNT, FPS

COLOURS = ((200, 30, 30), (30, 200, 30))


def paint(path: Path, colour, size_wh=(64, 48)) -> Path:
    picture = np.full((size_wh[1], size_wh[0], 3), colour, np.uint8)
    assert cv2.imwrite(str(path), picture[..., ::-1])
    return path


@pytest.fixture
def album(tmp_path) -> Path:
    """Two pictures and, between them, a file that is none."""
    folder = tmp_path / "album"
    folder.mkdir()
    paint(folder / "a.png", COLOURS[0])
    (folder / "b.png").write_bytes(b"not a picture")
    paint(folder / "c.png", COLOURS[1])
    return folder


@pytest.fixture
def video(tmp_path) -> Path:
    path = tmp_path / "short.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10.0, (64, 48))
    for shade in (40, 120, 200):
        writer.write(np.full((48, 64, 3), shade, np.uint8))
    writer.release()
    return path


def shown(complaints: list | None = None, **config) -> list[tuple[float, int]]:
    """Time and red of the first 50 images of a source."""
    complain = complaints.append if complaints is not None else pytest.fail
    found = islice(images(CameraConfig(**config), complain), 50)
    return [(due_s, int(image[0, 0, 0])) for due_s, image in found]


@pytest.mark.parametrize("source", ["no/such.png", "EMPTY", "99"], ids=["path", "folder", "webcam"])
def test_a_source_that_is_not_there_is_told_at_once(tmp_path, source):
    config = CameraConfig(source=str(tmp_path) if source == "EMPTY" else source)
    with pytest.raises(MediaError) as caught:
        images(config, pytest.fail)
    assert "\n" not in str(caught.value)


def test_pictures_stand_for_a_while_and_unreadable_ones_are_skipped(album):
    complaints: list[MediaError] = []
    found = shown(complaints, source=str(album), picture_s=0.2)
    reds = [red for _, red in found]
    assert reds == [200] * 3 + [30] * 3
    assert all(before < after for (before, _), (after, _) in pairwise(found))
    assert [str(album / "b.png") in str(each) for each in complaints] == [True]


def test_a_video_keeps_its_pace(video):
    assert [due_s for due_s, _ in shown(source=str(video))] == pytest.approx([0.0, 0.1, 0.2])


def test_fps_gives_another_pace(video):
    times = [due_s for due_s, _ in shown(source=str(video), fps=50.0)]
    assert times == pytest.approx([0.0, 0.02, 0.04])


def test_a_loop_goes_on_without_what_is_no_good(album):
    complaints: list[MediaError] = []
    found = shown(complaints, source=str(album), picture_s=0.1, loop=True)
    assert len(found) == 50
    assert len(complaints) == 1
    assert all(before < after for (before, _), (after, _) in pairwise(found))


def test_a_loop_of_nothing_good_ends(tmp_path):
    (tmp_path / "a.png").write_bytes(b"")
    assert shown([], source=str(tmp_path), loop=True) == []


def test_the_sample_has_its_own_pace():
    times = [due_s for due_s, _ in shown()]
    assert times == pytest.approx([number / FPS for number in range(50)])
    assert COUNT > 50


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"size": "640"}, "size: expected WIDTHxHEIGHT such as 640x480, got '640'"),
        ({"size": "0x10"}, "size: expected"),
        ({"image_transport": "mpeg"}, "image_transport: expected raw or compressed"),
        ({"image_qos": "best"}, "image_qos: expected sensor_data, default or reliable_latest"),
        ({"fps": -1.0}, "fps: expected 0.0 to 1000.0"),
    ],
)
def test_settings_that_mean_nothing(settings, words):
    with pytest.raises(ValueError, match=words):
        CameraConfig(**settings)


ros = graph_of_a_test


def camera(ros, log: Path, **parameters):
    arguments = [text for each in parameters.items() for text in ("-p", "{}:={}".format(*each))]
    return ros.process("fer_ros.ros.camera", log, "--ros-args", *arguments)


# parameters of the process, type and topic of what it publishes, size of the images
SHOWS = {
    "raw": ({}, Image, "image", (64, 48)),
    "compressed": (
        {"image_transport": "compressed", "size": "32x16"},
        CompressedImage,
        "image/compressed",
        (32, 16),
    ),
}


@pytest.mark.parametrize(("parameters", "kind", "topic", "size"), SHOWS.values(), ids=SHOWS)
def test_a_process_shows_everything_to_its_subscriber(
    ros, album, tmp_path, parameters, kind, topic, size
):
    """Waits for somebody to watch, shows all, stamps it, and ends."""
    log = tmp_path / "camera.log"
    process = camera(
        ros,
        log,
        source=album,
        picture_s=0.2,
        wait_for_subscriber=True,
        frame_id="eye",
        **parameters,
    )
    heard = Listener(ros.node(Node, "watcher")).listen(kind, topic)
    ros.until(lambda: process.poll() is not None, "the camera has ended")
    ros.until(lambda: len(heard) == 6, "all images")
    assert process.returncode == 0
    assert to_rgb(heard[0]).shape == (size[1], size[0], 3)
    reds = [int(to_rgb(message)[8, 8, 0]) for message in heard]
    assert reds == pytest.approx([200] * 3 + [30] * 3, abs=4)  # JPEG
    stamps = [stamp_s(message.header) for message in heard]
    assert stamps == sorted(set(stamps))
    assert {message.header.frame_id for message in heard} == {"eye"}
    said = log.read_text()
    assert "end: 6 images published" in said
    assert re.search(r"\[WARN\].*skipped: .*b\.png: not a picture", said)


def test_a_camera_without_any_image_fails(ros, tmp_path):
    (tmp_path / "a.png").write_bytes(b"")
    log = tmp_path / "log"
    process = camera(ros, log, source=tmp_path)
    ros.until(lambda: process.poll() is not None, "the camera has ended")
    assert process.returncode == 1
    assert "no image can be read" in log.read_text()


def test_a_camera_that_cannot_start_says_why_in_one_line(ros, tmp_path):
    log = tmp_path / "log"
    process = camera(ros, log, source="no/such.mp4")
    ros.until(lambda: process.poll() is not None, "the camera has ended")
    assert process.returncode == 1
    (line,) = log.read_text().splitlines()
    assert line.endswith("no/such.mp4: no such file or folder")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_end_it_without_a_trace(ros, tmp_path, number):
    log = tmp_path / "log"
    process = camera(ros, log, source=paint(tmp_path / "a.png", COLOURS[0]), loop=True)
    heard = Listener(ros.node(Node, "watcher")).listen(Image, "image")
    ros.until(lambda: heard, "an image")
    process.send_signal(number)
    ros.until(lambda: process.poll() is not None, "the camera has ended")
    assert process.returncode == 0
    assert "Traceback" not in log.read_text()
