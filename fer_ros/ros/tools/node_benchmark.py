"""Benchmark of the whole node over DDS: images per second, CPU share and memory.

    python -m fer_ros.ros.tools.node_benchmark [--seconds 10] [--json]

This process publishes images and subscribes to results; the emotion node runs in a child process.
At full speed each result triggers the next image, so that one is processed and one is pending.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import psutil
from numpy.typing import NDArray
from rclpy.client import Client
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from sensor_msgs.msg import Image
from std_msgs.msg import Header
from std_srvs.srv import SetBool
from vision_msgs.msg import Detection2DArray

from fer_ros.io.synthetic import SIZE_WH, tiled_faces
from fer_ros.ros.convert import to_image
from fer_ros.ros.runtime import NodeProcess, rclpy_context
from fer_ros.ros.tools.isolated_domain import isolated_domain

CAMERA_FPS = 15.0

_DEFAULT_SECONDS = 10.0
_STARTUP_TIMEOUT_S = 120.0  # imports and model loading on a slow machine
_POLL_INTERVAL_S = 0.01
_MAX_IN_FLIGHT = 2  # images without a result at full speed
_LOST_TIMEOUT_S = 1.0  # images without a result for so long were lost in transport


@dataclass(frozen=True)
class NodeLoad:
    """Load of the node in one situation.

    ``images_per_s`` counts results, ``core_percent`` is CPU time in percent of one core,
    ``rss_mib`` resident memory in MiB.
    """

    situation: str
    images_per_s: float
    core_percent: float
    rss_mib: float


class BenchmarkError(Exception):
    """The node does not respond; the message is one line."""


class BenchmarkNode(Node):
    """Publishes images, counts results, and enables or disables the emotion node."""

    def __init__(self) -> None:
        super().__init__("node_benchmark")
        self.num_published = self.num_results = 0
        self.in_flight = 0
        self._last_activity_s = time.monotonic()
        self.enable_client: Client = self.create_client(SetBool, "emotion_node/set_enabled")
        self._publisher = self.create_publisher(Image, "image", 1)
        self.create_subscription(Detection2DArray, "emotion_node/emotions", self._on_result, 10)

    def publish(self, image_rgb: NDArray[np.uint8]) -> None:
        """Publish an image (H, W, 3)."""
        header = Header(stamp=self.get_clock().now().to_msg(), frame_id="benchmark")
        self._publisher.publish(to_image(image_rgb, header))
        self.num_published += 1
        self.in_flight += 1
        self._last_activity_s = time.monotonic()

    def has_subscriber(self) -> bool:
        """Whether the node has subscribed."""
        return self._publisher.get_subscription_count() > 0

    def is_stalled(self) -> bool:
        """Whether nothing was published or received for a while."""
        return time.monotonic() - self._last_activity_s > _LOST_TIMEOUT_S

    def _on_result(self, message: Detection2DArray) -> None:
        self.num_results += 1
        self.in_flight = max(0, self.in_flight - 1)
        self._last_activity_s = time.monotonic()


class LoadMeasurement:
    """Spins the benchmark node and measures the process of the node."""

    def __init__(self, node: BenchmarkNode, process: NodeProcess) -> None:
        self._node, self._process = node, process
        self._statistics = psutil.Process(process.pid)
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(node)

    def close(self) -> None:
        """Stop spinning."""
        self._executor.shutdown()

    def wait(self, condition: Callable[[], bool], subject: str) -> None:
        """Spin until the condition holds.

        Raises BenchmarkError when the node ends, and after two minutes.
        """
        deadline_s = time.monotonic() + _STARTUP_TIMEOUT_S
        while not condition():
            self._executor.spin_once(timeout_sec=_POLL_INTERVAL_S)
            self._check_process(subject)
            if time.monotonic() > deadline_s:
                raise BenchmarkError(
                    f"emotion node: expected {subject} within {_STARTUP_TIMEOUT_S:.0f} s, none "
                    f"arrived; last line of its log: {self._process.last_error_line()}"
                )

    def enable(self, enabled: bool) -> None:
        """Activate or deactivate the node."""
        self.wait(self._node.enable_client.service_is_ready, "its service set_enabled")
        response = self._node.enable_client.call_async(SetBool.Request(data=enabled))
        self.wait(response.done, "a response of set_enabled")

    def measure(
        self, situation: str, seconds: float, image_rgb: NDArray[np.uint8] | None, fps: float = 0.0
    ) -> NodeLoad:
        """Publish an image (or none) ``fps`` times per second and measure.

        ``fps`` 0 publishes as fast as results arrive.
        """
        if image_rgb is not None:
            self.wait(self._node.has_subscriber, "a subscription")
            self._wait_for_first_result(image_rgb)
        start_s, start_cpu_s = time.monotonic(), self._cpu_s()
        start_results, start_published = self._node.num_results, self._node.num_published
        while (elapsed_s := time.monotonic() - start_s) < seconds:
            published = self._node.num_published - start_published
            is_due = image_rgb is not None and self._is_due(published, elapsed_s, fps)
            if is_due and image_rgb is not None:
                self._node.publish(image_rgb)
            self._executor.spin_once(timeout_sec=0.0 if is_due else _POLL_INTERVAL_S)
            self._check_process("images to be processed")
        cpu_s = self._cpu_s() - start_cpu_s
        results = self._node.num_results - start_results
        rss_mib = self._statistics.memory_info().rss / 2**20
        return NodeLoad(situation, results / elapsed_s, 100 * cpu_s / elapsed_s, rss_mib)

    def _check_process(self, subject: str) -> None:
        """Raise BenchmarkError, with what was awaited, when the node has ended."""
        if self._process.exit_code() is not None:
            raise BenchmarkError(
                f"emotion node: expected {subject}, but it ended with exit code "
                f"{self._process.exit_code()}: {self._process.last_error_line()}"
            )

    def _wait_for_first_result(self, image_rgb: NDArray[np.uint8]) -> None:
        start_results = self._node.num_results

        def has_result() -> bool:
            if self._node.num_results > start_results:
                return True
            if self._node.in_flight == 0 or self._node.is_stalled():
                self._node.in_flight = 0
                self._node.publish(image_rgb)
            return False

        self.wait(has_result, "a result")

    def _is_due(self, published: int, elapsed_s: float, fps: float) -> bool:
        if fps:
            return published < elapsed_s * fps
        if self._node.is_stalled():
            self._node.in_flight = 0
        return self._node.in_flight < _MAX_IN_FLIGHT

    def _cpu_s(self) -> float:
        """CPU time of all threads, in user and kernel mode."""
        times = self._statistics.cpu_times()
        return times.user + times.system


def measure_loads(seconds: float, folder: Path) -> Iterator[NodeLoad]:
    """Measure all situations for ``seconds`` each; the log of the node goes to ``folder``.

    Raises BenchmarkError when the node does not respond.
    """
    empty_rgb = np.full((SIZE_WH[1], SIZE_WH[0], 3), 128, np.uint8)
    node = BenchmarkNode()
    try:
        with NodeProcess("emotion_node", folder) as process:
            measurement = LoadMeasurement(node, process)
            try:
                for count in (1, 5):
                    situation = f"{count} face{'s' * (count > 1)}, full speed"
                    yield measurement.measure(situation, seconds, tiled_faces(count))
                situation = f"no face, {CAMERA_FPS:g} images/s"
                yield measurement.measure(situation, seconds, empty_rgb, CAMERA_FPS)
                yield measurement.measure("active, no images", seconds, None)
                measurement.enable(False)
                yield measurement.measure("inactive", seconds, None)
            finally:
                measurement.close()
    finally:
        node.destroy_node()


def main(args: list[str] | None = None) -> int:
    """Print the loads; return 1 when the node does not respond."""
    parser = argparse.ArgumentParser(
        prog="fer_ros.ros.tools.node_benchmark", description=__doc__.split("\n")[0]
    )
    parser.add_argument(
        "--seconds",
        type=float,
        default=_DEFAULT_SECONDS,
        help="default: %(default)g",
    )
    parser.add_argument("--json", action="store_true", help="print a JSON list of objects")
    options = parser.parse_args(args)
    try:
        with isolated_domain() as folder, rclpy_context([]):
            loads = list(measure_loads(options.seconds, folder))
    except (BenchmarkError, OSError) as error:
        print(f"node_benchmark: {error}", file=sys.stderr)
        return 1
    if options.json:
        print(json.dumps([asdict(load) for load in loads], indent=2))
        return 0
    for load in loads:
        print(
            f"{load.situation:<28} {load.images_per_s:5.1f} images/s  {load.core_percent:5.1f}% "
            f"of a core  {load.rss_mib:4.0f} MiB"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
