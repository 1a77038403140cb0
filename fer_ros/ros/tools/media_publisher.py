"""Node that publishes images, videos, a webcam or a synthetic sample as a camera would."""

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

from fer_ros.config import ValidatedConfig, check_choice, config_field
from fer_ros.io.media import IncompleteMediaError, MediaError, is_video, media_files, read_file
from fer_ros.io.synthetic import synthetic_frames
from fer_ros.ros.convert import to_compressed, to_image
from fer_ros.ros.parameters import IMAGE_QOS, TRANSPORTS, Parameters, image_qos
from fer_ros.ros.runtime import rclpy_context, spin_until

_NODE_NAME = "media_publisher"
_SAMPLE = "sample"
_DEFAULT_FPS = 15.0  # of a still image, and between two files
_QUEUE_DEPTH = 5  # images kept for retransmission to reliable subscribers
_POLL_INTERVAL_S = 0.05
_ACK_TIMEOUT = Duration(seconds=2)

TimedImage = tuple[float, NDArray[np.uint8]]
"""Seconds after the first image, and the image (H, W, 3), RGB."""


@dataclass(frozen=True)
class MediaPublisherConfig(ValidatedConfig):
    """Source, timing and format of the published images."""

    source: str = config_field(
        _SAMPLE, "sample, or the number of a webcam, or an image, a video or a folder"
    )
    fps: float = config_field(0.0, "images per second; 0: the rate of the source", 0.0, 1000.0)
    image_duration_s: float = config_field(1.0, "seconds per still image", 0.0, 3600.0)
    loop: bool = config_field(False, "start again at the end of the source")
    size: str = config_field("", "WIDTHxHEIGHT to resize images to; empty: original size")
    frame_id: str = config_field("camera", "header.frame_id of the images")
    image_transport: str = config_field(
        "raw", "raw: topic image; compressed: topic image/compressed"
    )
    image_qos: str = config_field(
        "default", "sensor_data: best effort; reliable and default: reliable"
    )
    wait_for_subscriber: bool = config_field(False, "start when the first subscriber is there")

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("image_transport", self.image_transport, TRANSPORTS)
        check_choice("image_qos", self.image_qos, tuple(IMAGE_QOS))
        if self.size and not re.fullmatch(r"[1-9]\d{0,4}x[1-9]\d{0,4}", self.size):
            raise ValueError(f"size: expected WIDTHxHEIGHT such as 640x480, found {self.size!r}")


class MediaPublisher(Node):
    """Publishes the images of one source, each stamped with the time at which it is due.

    ``num_published`` counts the images. ``exit_code`` is None until the source has ended, then 0,
    or 1 when it had no image or when a file of it was unreadable or incomplete. Raises ValueError,
    one line, for invalid parameters and for a source that does not exist. The arguments are those
    of rclpy's nodes.
    """

    def __init__(self, **node_arguments: Any) -> None:
        super().__init__(
            _NODE_NAME, automatically_declare_parameters_from_overrides=True, **node_arguments
        )
        parameters = Parameters(self, MediaPublisherConfig)
        self._config = parameters.read(MediaPublisherConfig)
        parameters.locked = True
        self._images = timed_images(self._config, self._on_bad_file)
        self.num_published = self._num_bad_files = 0
        self.exit_code: int | None = None
        self._start_s: float | None = None  # steady time of the first image
        self._start = self.get_clock().now()  # the same moment, for stamps
        self._next: TimedImage | None = None
        is_compressed = self._config.image_transport == "compressed"
        self._to_message = to_compressed if is_compressed else to_image
        self._publisher = self.create_publisher(
            CompressedImage if is_compressed else Image,
            "image/compressed" if is_compressed else "image",
            image_qos(self._config.image_qos, _QUEUE_DEPTH),
        )
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._timer = self.create_timer(_POLL_INTERVAL_S, self._on_timer, clock=steady)

    def _on_timer(self) -> None:
        """Publish the image that is due and schedule the next one."""
        if self._start_s is None:
            if self._config.wait_for_subscriber and not self._publisher.get_subscription_count():
                return
            self._start_s, self._start = time.monotonic(), self.get_clock().now()
            topic = self._publisher.topic_name
            self.get_logger().info(f"publishing {self._config.source} on {topic}")
        if self._next:
            self._publish(*self._next)
        self._next = next(self._images, None)
        if self._next is None:
            self._finish()
            return
        wait_s = self._start_s + self._next[0] - time.monotonic()
        self._timer.timer_period_ns = max(1, int(wait_s * 1e9))
        self._timer.reset()

    def _publish(self, due_s: float, image_rgb: NDArray[np.uint8]) -> None:
        if self._config.size:
            width, height = map(int, self._config.size.split("x"))
            resized = cv2.resize(image_rgb, (width, height), interpolation=cv2.INTER_AREA)
            image_rgb = np.asarray(resized, np.uint8)
        stamp = (self._start + Duration(seconds=due_s)).to_msg()
        header = Header(stamp=stamp, frame_id=self._config.frame_id)
        self._publisher.publish(self._to_message(image_rgb, header))
        self.num_published += 1

    def _finish(self) -> None:
        self._timer.cancel()
        self._publisher.wait_for_all_acked(_ACK_TIMEOUT)
        self.exit_code = 0 if self.num_published and not self._num_bad_files else 1

    def log_summary(self) -> None:
        """Log the number of published images."""
        summary = f"finished: {self.num_published} images published"
        if not self.num_published and self.exit_code:
            self.get_logger().error(f"{self._config.source}: no image can be read")
        elif self._num_bad_files:
            self.get_logger().error(
                f"{summary}, {self._num_bad_files} files unreadable or incomplete"
            )
        else:
            self.get_logger().info(summary)

    def _on_bad_file(self, error: MediaError) -> None:
        self._num_bad_files += 1
        is_incomplete = isinstance(error, IncompleteMediaError)
        self.get_logger().warning(f"{'incomplete' if is_incomplete else 'skipped'}: {error}")


def timed_images(
    config: MediaPublisherConfig, on_unreadable: Callable[[MediaError], None]
) -> Iterator[TimedImage]:
    """Iterate over the images of the source with the time at which each is due.

    ``on_unreadable`` receives the error of each skipped file. Raises MediaError immediately when
    the source does not exist.
    """
    if re.fullmatch(r"\d+", config.source):
        return _webcam_images(_open_webcam(int(config.source)))
    if config.source == _SAMPLE:
        synthetic_frames()  # raises now, not in the timer
        images = _file_images([Path(_SAMPLE)], config, on_unreadable)
    else:
        images = _file_images(media_files(config.source), config, on_unreadable)
    if config.fps:
        return ((number / config.fps, image) for number, (_, image) in enumerate(images))
    return images


def _file_images(
    files: list[Path], config: MediaPublisherConfig, on_unreadable: Callable[[MediaError], None]
) -> Iterator[TimedImage]:
    """One file after the other; with ``loop`` repeatedly, without the unreadable files."""
    start_s = last_s = 0.0
    while files:
        for file in [*files]:
            is_readable = False
            images = _readable(_one_file(file, config.image_duration_s), on_unreadable)
            for due_s, image_rgb in images:
                is_readable, last_s = True, start_s + due_s
                yield last_s, image_rgb
            if is_readable:
                start_s = last_s + 1 / _DEFAULT_FPS
            else:
                files.remove(file)
        if not config.loop:
            return


def _readable(
    images: Iterator[TimedImage], on_unreadable: Callable[[MediaError], None]
) -> Iterator[TimedImage]:
    try:
        yield from images
    except MediaError as error:
        on_unreadable(error)


def _one_file(file: Path, image_duration_s: float) -> Iterator[TimedImage]:
    """The frames of a video, or a still image repeated for its duration; times start at 0 s."""
    if file == Path(_SAMPLE):
        frames = synthetic_frames()
    elif is_video(file):
        frames = read_file(file)
    else:
        count = max(1, round(image_duration_s * _DEFAULT_FPS))
        for still in read_file(file):
            yield from ((number / _DEFAULT_FPS, still.image_rgb) for number in range(count))
        return
    yield from ((frame.stamp_s, frame.image_rgb) for frame in frames)


def _open_webcam(number: int) -> cv2.VideoCapture:
    webcam = cv2.VideoCapture(number)
    if not webcam.isOpened():
        raise MediaError(f"webcam {number}: not found, or in use by another program")
    return webcam


def _webcam_images(webcam: cv2.VideoCapture) -> Iterator[TimedImage]:
    """Images at the rate of the webcam, until it is disconnected."""
    start_s = time.monotonic()
    try:
        while (captured := webcam.read())[0]:
            image_rgb = np.asarray(cv2.cvtColor(captured[1], cv2.COLOR_BGR2RGB), np.uint8)
            yield time.monotonic() - start_s, image_rgb
    finally:
        webcam.release()


def main(args: list[str] | None = None) -> int:
    """Publish until the source ends, or until SIGINT or SIGTERM."""
    with rclpy_context(args) as stop_requested:
        try:
            publisher = MediaPublisher()
        except ValueError as error:
            get_logger(_NODE_NAME).error(str(error))
            return 1
        try:
            spin_until(
                publisher,
                lambda: stop_requested.is_set() or publisher.exit_code is not None,
            )
            publisher.log_summary()
        finally:
            publisher.destroy_node()
    return publisher.exit_code or 0


if __name__ == "__main__":
    sys.exit(main())
