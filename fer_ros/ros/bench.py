"""What the whole node costs over real DDS: images per second, its share of a core, its memory.

    python -m fer_ros.ros.bench [--seconds 10] [--json]

This process is the camera and the listener, the emotion node is a process of its own. At full speed
the next image goes out with each answer, so that one is in work and one waits.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rclpy.client import Client
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from sensor_msgs.msg import Image
from std_msgs.msg import Header
from std_srvs.srv import SetBool
from vision_msgs.msg import Detection2DArray

from fer_ros.ros.convert import to_image
from fer_ros.ros.local import free_domain, transport
from fer_ros.ros.process import NodeProcess, ros, status_of
from fer_ros.sample import SIZE_WH, sample_crowd

CAMERA_FPS = 15.0

_SECONDS = 10.0
_START_S = 120.0  # importing and loading on a slow machine
_LOOK_S = 0.01
_AT_ONCE = 2  # images on the way at full speed
_LOST_S = 1.0  # without an answer, what is on the way was lost


@dataclass(frozen=True)
class Load:
    """Of the node in one situation: answers per second, percent of one core, memory in MiB."""

    situation: str
    images_per_s: float
    core_percent: float
    rss_mib: float


class BenchError(Exception):
    """The node does not answer; the message says so in one line."""


class Bench(Node):
    """Shows one image again and again, hears the answers, and switches the node on and off."""

    def __init__(self) -> None:
        super().__init__("bench")
        self.sent = self.answers = 0
        self.on_way = 0
        self._last_s = time.monotonic()  # of the last image, or the last answer
        self.switch: Client = self.create_client(SetBool, "emotion_node/set_enabled")
        self._camera = self.create_publisher(Image, "image", 1)
        self.create_subscription(Detection2DArray, "emotion_node/emotions", self._hear, 10)

    def show(self, image_rgb: NDArray[np.uint8]) -> None:
        """Publishes an image (H, W, 3)."""
        header = Header(stamp=self.get_clock().now().to_msg(), frame_id="bench")
        self._camera.publish(to_image(image_rgb, header))
        self.sent += 1
        self.on_way += 1
        self._last_s = time.monotonic()

    def is_heard(self) -> bool:
        """Whether the node has subscribed."""
        return self._camera.get_subscription_count() > 0

    def is_lost(self) -> bool:
        """Whether nothing was heard for long."""
        return time.monotonic() - self._last_s > _LOST_S

    def _hear(self, message: Detection2DArray) -> None:
        self.answers += 1
        self.on_way = max(0, self.on_way - 1)
        self._last_s = time.monotonic()


class Run:
    """A bench that spins, and the process that it measures."""

    def __init__(self, bench: Bench, process: NodeProcess) -> None:
        self.bench, self._process = bench, process
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(bench)

    def close(self) -> None:
        """Stops spinning."""
        self._executor.shutdown()

    def wait(self, is_so: Callable[[], bool], what: str) -> None:
        """Spins until it is so. Raises BenchError when the node ends, or after two minutes."""
        last_s = time.monotonic() + _START_S
        while not is_so():
            self._executor.spin_once(timeout_sec=_LOOK_S)
            if self._process.exit_code() is not None or time.monotonic() > last_s:
                raise BenchError(f"the emotion node: expected {what}, waited in vain")

    def enable(self, is_wanted: bool) -> None:
        """Activates or deactivates the node."""
        self.wait(self.bench.switch.service_is_ready, "its service set_enabled")
        answer = self.bench.switch.call_async(SetBool.Request(data=is_wanted))
        self.wait(answer.done, "an answer of set_enabled")

    def measure(
        self, situation: str, seconds: float, image_rgb: NDArray[np.uint8] | None, fps: float = 0.0
    ) -> Load:
        """Shows an image, or none, so many times a second; 0: as fast as it is answered."""
        if image_rgb is not None:
            self.wait(self.bench.is_heard, "a subscription")
            self._first_answer(image_rgb)
        begin_s, begin_cpu_s, begin = time.monotonic(), self._cpu_s(), self.bench.answers
        sent = self.bench.sent
        while (spent_s := time.monotonic() - begin_s) < seconds:
            is_due = self._is_due(sent, spent_s, fps) if image_rgb is not None else False
            if is_due and image_rgb is not None:
                self.bench.show(image_rgb)
            self._executor.spin_once(timeout_sec=0.0 if is_due else _LOOK_S)
            if self._process.exit_code() is not None:
                raise BenchError("the emotion node ended")
        cpu_s = self._cpu_s() - begin_cpu_s
        answered = self.bench.answers - begin
        return Load(situation, answered / spent_s, 100 * cpu_s / spent_s, self._rss_mib())

    def _first_answer(self, image_rgb: NDArray[np.uint8]) -> None:
        answers = self.bench.answers

        def is_answered() -> bool:
            is_so = self.bench.answers > answers
            if not is_so and (self.bench.on_way == 0 or self.bench.is_lost()):
                self.bench.on_way = 0
                self.bench.show(image_rgb)
            return is_so

        self.wait(is_answered, "an answer")

    def _is_due(self, sent: int, spent_s: float, fps: float) -> bool:
        if fps:
            return self.bench.sent - sent < spent_s * fps
        if self.bench.is_lost():
            self.bench.on_way = 0
        return self.bench.on_way < _AT_ONCE

    def _cpu_s(self) -> float:
        """Seconds of all threads, in the program and in the kernel for it (proc(5))."""
        stat = Path(f"/proc/{self._process.pid}/stat").read_text(encoding="utf-8")
        user, system = stat.rpartition(")")[2].split()[11:13]
        return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")

    def _rss_mib(self) -> float:
        return int(status_of(self._process.pid)["VmRSS"].split()[0]) / 1024


def measure(seconds: float, folder: Path) -> Iterator[Load]:
    """All situations, so many seconds each; the log of the node goes to ``folder``.

    Raises BenchError when the node does not answer.
    """
    empty_rgb = np.full((SIZE_WH[1], SIZE_WH[0], 3), 128, np.uint8)
    bench = Bench()
    try:
        with NodeProcess("node", folder) as process:
            run = Run(bench, process)
            try:
                for count in (1, 5):
                    what = f"{count} face{'s' * (count > 1)}, as fast as it goes"
                    yield run.measure(what, seconds, sample_crowd(count))
                what = f"no face, {CAMERA_FPS:g} images/s"
                yield run.measure(what, seconds, empty_rgb, CAMERA_FPS)
                yield run.measure("active, no images", seconds, None)
                run.enable(False)
                yield run.measure("inactive", seconds, None)
            finally:
                run.close()
    finally:
        bench.destroy_node()


def main(args: list[str] | None = None) -> int:
    """Prints the figures. 1: the node does not answer."""
    parser = argparse.ArgumentParser(prog="fer_ros.ros.bench", description=__doc__.split("\n")[0])
    parser.add_argument("--seconds", type=float, default=_SECONDS, help="default: %(default)g")
    parser.add_argument("--json", action="store_true", help="a list of objects, not lines")
    options = parser.parse_args(args)
    try:
        with tempfile.TemporaryDirectory() as folder:
            os.environ.update(transport(Path(folder)), ROS_DOMAIN_ID=str(free_domain()))
            with ros([]):
                loads = list(measure(options.seconds, Path(folder)))
    except (BenchError, OSError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    if options.json:
        print(json.dumps([asdict(each) for each in loads], indent=2))
        return 0
    for each in loads:
        print(
            f"{each.situation:<28} {each.images_per_s:5.1f} images/s  {each.core_percent:5.1f} % "
            f"of a core  {each.rss_mib:4.0f} MiB"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
