"""The media publisher: images, timing and exit."""

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

from fer_ros.io.media import MediaError
from fer_ros.io.synthetic import COUNT, FPS
from fer_ros.ros.convert import stamp_s, to_rgb
from fer_ros.ros.tools.media_publisher import MediaPublisherConfig, timed_images

COLORS = ((200, 30, 30), (30, 200, 30))


def paint(path: Path, color, size_wh=(64, 48)) -> Path:
    image_rgb = np.full((size_wh[1], size_wh[0], 3), color, np.uint8)
    assert cv2.imwrite(str(path), image_rgb[..., ::-1])
    return path


@pytest.fixture
def folder(tmp_path) -> Path:
    """Two images and, between them, a file that is none."""
    folder = tmp_path / "folder"
    folder.mkdir()
    paint(folder / "a.png", COLORS[0])
    (folder / "b.png").write_bytes(b"not an image")
    paint(folder / "c.png", COLORS[1])
    return folder


@pytest.fixture
def video(tmp_path) -> Path:
    path = tmp_path / "short.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10.0, (64, 48))
    for shade in (40, 120, 200):
        writer.write(np.full((48, 64, 3), shade, np.uint8))
    writer.release()
    return path


def shown(errors: list | None = None, **config) -> list[tuple[float, int]]:
    """Time and red of the first 50 images of a source."""
    on_error = errors.append if errors is not None else pytest.fail
    images = islice(timed_images(MediaPublisherConfig(**config), on_error), 50)
    return [(due_s, int(image[0, 0, 0])) for due_s, image in images]


@pytest.mark.parametrize("source", ["no/such.png", "EMPTY", "99"], ids=["path", "folder", "webcam"])
def test_a_missing_source_is_reported_at_once(tmp_path, source):
    config = MediaPublisherConfig(source=str(tmp_path) if source == "EMPTY" else source)
    with pytest.raises(MediaError) as caught:
        timed_images(config, pytest.fail)
    assert "\n" not in str(caught.value)


def test_images_are_repeated_for_their_duration_and_unreadable_ones_skipped(folder):
    errors: list[MediaError] = []
    images = shown(errors, source=str(folder), image_duration_s=0.2)
    reds = [red for _, red in images]
    assert reds == [200] * 3 + [30] * 3
    assert all(before < after for (before, _), (after, _) in pairwise(images))
    assert [str(folder / "b.png") in str(error) for error in errors] == [True]


def test_a_video_keeps_its_frame_rate(video):
    assert [due_s for due_s, _ in shown(source=str(video))] == pytest.approx([0.0, 0.1, 0.2])


def test_fps_overrides_the_frame_rate(video):
    times = [due_s for due_s, _ in shown(source=str(video), fps=50.0)]
    assert times == pytest.approx([0.0, 0.02, 0.04])


def test_a_loop_skips_unreadable_files(folder):
    errors: list[MediaError] = []
    images = shown(errors, source=str(folder), image_duration_s=0.1, loop=True)
    assert len(images) == 50
    assert len(errors) == 1
    assert all(before < after for (before, _), (after, _) in pairwise(images))


def test_a_loop_without_readable_files_ends(tmp_path):
    (tmp_path / "a.png").write_bytes(b"")
    assert shown([], source=str(tmp_path), loop=True) == []


def test_the_sample_has_its_own_frame_rate():
    times = [due_s for due_s, _ in shown()]
    assert times == pytest.approx([number / FPS for number in range(50)])
    assert COUNT > 50


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"size": "640"}, "size: expected WIDTHxHEIGHT such as 640x480, found '640'"),
        ({"size": "0x10"}, "size: expected"),
        ({"image_transport": "mpeg"}, "image_transport: expected raw or compressed"),
        ({"image_qos": "best"}, "image_qos: expected sensor_data, reliable or default"),
        ({"fps": -1.0}, "fps: expected 0.0 to 1000.0"),
    ],
)
def test_invalid_settings_are_rejected(settings, words):
    with pytest.raises(ValueError, match=words):
        MediaPublisherConfig(**settings)


ros = graph_of_a_test


def camera(ros, log: Path, **parameters):
    arguments = [text for item in parameters.items() for text in ("-p", "{}:={}".format(*item))]
    return ros.process("fer_ros.entry_points", log, "media_publisher", "--ros-args", *arguments)


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
def test_a_process_publishes_every_image(ros, folder, tmp_path, parameters, kind, topic, size):
    """Waits for a subscriber, publishes all images with stamps, and ends."""
    log = tmp_path / "camera.log"
    process = camera(
        ros,
        log,
        source=folder,
        image_duration_s=0.2,
        wait_for_subscriber=True,
        frame_id="eye",
        **parameters,
    )
    received = Listener(ros.node(Node, "observer")).listen(kind, topic)
    ros.until(lambda: process.poll() is not None, "the camera has ended")
    ros.until(lambda: len(received) == 6, "all images")
    assert process.returncode == 1  # one file is not an image
    assert to_rgb(received[0]).shape == (size[1], size[0], 3)
    reds = [int(to_rgb(message)[8, 8, 0]) for message in received]
    assert reds == pytest.approx([200] * 3 + [30] * 3, abs=4)  # JPEG
    stamps = [stamp_s(message.header) for message in received]
    assert stamps == sorted(set(stamps))
    assert {message.header.frame_id for message in received} == {"eye"}
    output = log.read_text()
    assert "finished: 6 images published, 1 files unreadable or incomplete" in output
    assert re.search(r"\[WARN\].*skipped: .*b\.png: ", output)


def test_a_camera_without_any_image_fails(ros, tmp_path):
    (tmp_path / "a.png").write_bytes(b"")
    log = tmp_path / "log"
    process = camera(ros, log, source=tmp_path)
    ros.until(lambda: process.poll() is not None, "the camera has ended")
    assert process.returncode == 1
    assert "no image can be read" in log.read_text()


def test_a_camera_that_cannot_start_reports_one_line(ros, tmp_path):
    log = tmp_path / "log"
    process = camera(ros, log, source="no/such.mp4")
    ros.until(lambda: process.poll() is not None, "the camera has ended")
    assert process.returncode == 1
    (line,) = log.read_text().splitlines()
    assert line.endswith("no/such.mp4: no such file or folder")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_end_the_process_without_a_traceback(ros, tmp_path, number):
    log = tmp_path / "log"
    process = camera(ros, log, source=paint(tmp_path / "a.png", COLORS[0]), loop=True)
    received = Listener(ros.node(Node, "observer")).listen(Image, "image")
    ros.until(lambda: received, "an image")
    process.send_signal(number)
    ros.until(lambda: process.poll() is not None, "the camera has ended")
    assert process.returncode == 0
    assert "Traceback" not in log.read_text()
