"""A camera made of pictures, videos, a webcam, or the built-in sample."""

import signal

if __name__ == "__main__":  # while it imports, Ctrl-C ends it without a trace, as in start.py
    signal.signal(signal.SIGINT, signal.SIG_DFL)

import re
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from rclpy.clock import Clock, ClockType
from rclpy.duration import Duration
from rclpy.logging import get_logger
from rclpy.node import Node
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header

from fer_ros.config import Checked, setting
from fer_ros.media import MediaError, is_video, media_files, read_file
from fer_ros.ros.convert import to_compressed, to_image
from fer_ros.ros.params import IMAGE_QOS, TRANSPORTS, Parameters, check_choice, image_qos
from fer_ros.ros.process import ros, spin
from fer_ros.sample import sample_frames

_SAMPLE = "sample"
_USUAL_FPS = 15.0  # of a picture that stands, and between two files
_DEPTH = 5  # images that are kept for subscribers that ask again
_LOOK_S = 0.05  # how often a waiting camera looks for subscribers
_ACKNOWLEDGED_WITHIN = Duration(seconds=2)

Due = tuple[float, NDArray[np.uint8]]
"""Seconds after the first image, and the image (H, W, 3), RGB."""


@dataclass(frozen=True)
class CameraConfig(Checked):
    """What the camera shows and how."""

    source: str = setting(_SAMPLE, "sample, the number of a webcam, a picture, video or folder")
    fps: float = setting(0.0, "images per second; 0: as the source has them", 0.0, 1000.0)
    picture_s: float = setting(1.0, "how long each picture of a folder is shown", 0.0, 3600.0)
    loop: bool = setting(False, "starts again at the end of the source")
    size: str = setting("", "WIDTHxHEIGHT that images are brought to; empty: as they are")
    frame_id: str = setting("camera", "in the header of the images")
    image_transport: str = setting("raw", "raw: topic 'image'; compressed: 'image/compressed'")
    image_qos: str = setting(
        "default", "sensor_data: lost parts are not sent again; default, reliable_latest: they are"
    )
    wait_for_subscriber: bool = setting(False, "shows nothing before somebody subscribes")

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("image_transport", self.image_transport, TRANSPORTS)
        check_choice("image_qos", self.image_qos, tuple(IMAGE_QOS))
        if self.size and not re.fullmatch(r"[1-9]\d{0,4}x[1-9]\d{0,4}", self.size):
            raise ValueError(f"size: expected WIDTHxHEIGHT such as 640x480, got {self.size!r}")


class Camera(Node):
    """Publishes one source of images, each stamped with the time at which it was due.

    Raises ValueError, one line, for bad parameters and for a source that is not there.
    ``published`` counts the images. ``exit_code`` is None until the source has ended, then 0, or 1
    when it held no image. The arguments are those of rclpy's nodes.
    """

    def __init__(self, **node_arguments: Any) -> None:
        super().__init__(
            "camera", automatically_declare_parameters_from_overrides=True, **node_arguments
        )
        settings = Parameters(self, CameraConfig)
        self._config = settings.read(CameraConfig)
        settings.locked = True
        self._images = images(self._config, self._complain)
        self.published = 0
        self._begin_s: float | None = None  # once somebody watches
        self._begin = self.get_clock().now()  # the same moment, for stamps
        self._next: Due | None = None
        self.exit_code: int | None = None
        qos = image_qos(self._config.image_qos, _DEPTH)
        compressed = self._config.image_transport == "compressed"
        self._to_message = to_compressed if compressed else to_image
        self._publisher = self.create_publisher(
            CompressedImage if compressed else Image,
            "image/compressed" if compressed else "image",
            qos,
        )
        clock = Clock(clock_type=ClockType.STEADY_TIME)
        self._timer = self.create_timer(_LOOK_S, self._show, clock=clock)

    def _show(self) -> None:
        """Publishes the image that is due and waits for the next one."""
        if self._begin_s is None:
            if self._config.wait_for_subscriber and not self._publisher.get_subscription_count():
                return
            self._begin_s, self._begin = time.monotonic(), self.get_clock().now()
            self.get_logger().info(
                f"{self._config.source} is shown on {self._publisher.topic_name}"
            )
        if self._next:
            self._publish(*self._next)
        self._next = next(self._images, None)
        if self._next is None:
            self._end()
            return
        wait_s = self._begin_s + self._next[0] - time.monotonic()
        self._timer.timer_period_ns = max(1, int(wait_s * 1e9))
        self._timer.reset()

    def _publish(self, due_s: float, image_rgb: NDArray[np.uint8]) -> None:
        if self._config.size:
            width, height = map(int, self._config.size.split("x"))
            resized = cv2.resize(image_rgb, (width, height), interpolation=cv2.INTER_AREA)
            image_rgb = np.asarray(resized, np.uint8)
        stamp = (self._begin + Duration(seconds=due_s)).to_msg()
        header = Header(stamp=stamp, frame_id=self._config.frame_id)
        self._publisher.publish(self._to_message(image_rgb, header))
        self.published += 1

    def _end(self) -> None:
        self._timer.cancel()
        self._publisher.wait_for_all_acked(_ACKNOWLEDGED_WITHIN)
        self.exit_code = 0 if self.published else 1

    def say_goodbye(self) -> None:
        """Logs how many images there were."""
        if self.exit_code:
            self.get_logger().error(f"{self._config.source}: no image can be read")
        else:
            self.get_logger().info(f"end: {self.published} images published")

    def _complain(self, error: MediaError) -> None:
        self.get_logger().warning(f"skipped: {error}")


def images(config: CameraConfig, on_unreadable: Callable[[MediaError], None]) -> Iterator[Due]:
    """The images of the source with the time at which each is due.

    ``on_unreadable`` hears of files that are skipped. Raises MediaError at once when there is no
    such source.
    """
    if re.fullmatch(r"\d+", config.source):
        return _webcam(_open_webcam(int(config.source)))
    if config.source == _SAMPLE:
        sample_frames()  # complains now
        shown = _clips([Path(_SAMPLE)], config, on_unreadable)
    else:
        shown = _clips(media_files(config.source), config, on_unreadable)
    if config.fps:
        return ((number / config.fps, image) for number, (_, image) in enumerate(shown))
    return shown


def _clips(
    files: list[Path], config: CameraConfig, on_unreadable: Callable[[MediaError], None]
) -> Iterator[Due]:
    """One file after the other; with ``loop`` again and again, without those that are no good."""
    begin_s = last_s = 0.0
    while files:
        for file in [*files]:
            is_good = False
            for due_s, image_rgb in _readable(_clip(file, config.picture_s), on_unreadable):
                is_good, last_s = True, begin_s + due_s
                yield last_s, image_rgb
            if is_good:
                begin_s = last_s + 1 / _USUAL_FPS
            else:
                files.remove(file)
        if not config.loop:
            return


def _readable(clip: Iterator[Due], on_unreadable: Callable[[MediaError], None]) -> Iterator[Due]:
    try:
        yield from clip
    except MediaError as error:
        on_unreadable(error)


def _clip(file: Path, picture_s: float) -> Iterator[Due]:
    """One video, or one picture that stands for a while, from 0 s on."""
    if file == Path(_SAMPLE):
        frames = sample_frames()
    elif is_video(file):
        frames = read_file(file)
    else:
        (picture,) = read_file(file)
        count = max(1, round(picture_s * _USUAL_FPS))
        yield from ((number / _USUAL_FPS, picture.image_rgb) for number in range(count))
        return
    yield from ((frame.stamp_s, frame.image_rgb) for frame in frames)


def _open_webcam(number: int) -> cv2.VideoCapture:
    webcam = cv2.VideoCapture(number)
    if not webcam.isOpened():
        raise MediaError(f"webcam {number}: there is none, or another program has it")
    return webcam


def _webcam(webcam: cv2.VideoCapture) -> Iterator[Due]:
    """As fast as they come; ends when the webcam is pulled out."""
    begin_s = time.monotonic()
    try:
        while (answer := webcam.read())[0]:
            image_rgb = np.asarray(cv2.cvtColor(answer[1], cv2.COLOR_BGR2RGB), np.uint8)
            yield time.monotonic() - begin_s, image_rgb
    finally:
        webcam.release()


def main(args: list[str] | None = None) -> int:
    """Runs the camera until its source has ended, Ctrl-C or SIGTERM."""
    with ros(args) as ended:
        try:
            camera = Camera()
        except ValueError as error:
            get_logger("camera").error(str(error))
            return 1
        try:
            spin(camera, lambda: ended.is_set() or camera.exit_code is not None)
            camera.say_goodbye()
        finally:
            camera.destroy_node()
    return camera.exit_code or 0


if __name__ == "__main__":
    sys.exit(main())
