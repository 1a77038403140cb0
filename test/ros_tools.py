"""Graphs of nodes for tests, each in a domain of its own and on this machine only."""

import atexit
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from conftest import FakeClassifier

from fer_ros.ros.tools.isolated_domain import find_free_domain_id, localhost_transport_env

# The middleware reads its profile once, when the first node of the process is made.
_FOLDER = tempfile.TemporaryDirectory()
atexit.register(_FOLDER.cleanup)
os.environ |= localhost_transport_env(Path(_FOLDER.name))
os.environ.setdefault("ROS_LOG_DIR", _FOLDER.name)

import rclpy  # noqa: E402
from builtin_interfaces.msg import Time  # noqa: E402
from rclpy.context import Context  # noqa: E402
from rclpy.executors import SingleThreadedExecutor  # noqa: E402
from rclpy.node import Node  # noqa: E402
from rclpy.parameter import Parameter  # noqa: E402
from sensor_msgs.msg import Image  # noqa: E402
from std_msgs.msg import Header  # noqa: E402

from fer_ros.config import PipelineConfig  # noqa: E402
from fer_ros.multi_camera import MultiCameraPipeline  # noqa: E402
from fer_ros.ros.convert import to_image  # noqa: E402
from fer_ros.types import FaceDetections, FacePredictions  # noqa: E402

LIMIT_S = 30.0


class NodeClassifier(FakeClassifier):
    """The fake network with what the node wants to know of a real one."""

    manifest = SimpleNamespace(name="fake", sha256="0" * 64)
    reason, fallback = "fake on cpu: made up", ""
    provider, precision = "CPUExecutionProvider", "fp32"

    def warm_up(self) -> float:
        return 0.0


class HeldClassifier(NodeClassifier):
    """Begins with a batch, which ``entered`` tells, and goes on when ``go_on`` is set."""

    def __init__(self) -> None:
        super().__init__()
        self.entered, self.go_on = threading.Event(), threading.Event()

    def classify(self, crops_rgb: np.ndarray) -> FacePredictions:
        self.entered.set()
        assert self.go_on.wait(LIMIT_S)
        return super().classify(crops_rgb)


def fake_pipeline(cameras: Sequence[str], config: PipelineConfig) -> MultiCameraPipeline:
    return MultiCameraPipeline(cameras, config, classifier=NodeClassifier())


BRIGHT = np.full((120, 160, 3), 200, np.uint8)
DARK = np.zeros((120, 160, 3), np.uint8)


class FakeDetector:
    """A detector that finds one frontal face of 60 px in every image that is not dark.

    ``before`` hears of each image first: it can wait, or raise.
    """

    def __init__(self, before: Callable[[np.ndarray], Any]) -> None:
        self._before = before

    def detect(self, image_rgb: np.ndarray) -> FaceDetections:
        self._before(image_rgb)
        if image_rgb.max() < 50:
            return FaceDetections.empty()
        points = [(62, 40), (98, 40), (80, 60), (65, 80), (95, 80)]
        return FaceDetections(
            np.array([(50, 30, 110, 90)], np.float32),
            np.array([0.9], np.float32),
            np.array([points], np.float32),
        )


def quick_pipeline(
    before: Callable[[np.ndarray], Any] = lambda _: None,
) -> Callable[[Sequence[str], PipelineConfig], MultiCameraPipeline]:
    """What makes a pipeline in which neither the detector nor the network is real."""
    return lambda cameras, config: MultiCameraPipeline(
        cameras, config, FakeDetector(before), NodeClassifier()
    )


class Graph:
    """Nodes of this process that are spun by the test, and processes beside it."""

    def __init__(self) -> None:
        self.domain = find_free_domain_id()
        self.context = Context()
        rclpy.init(args=[], context=self.context, domain_id=self.domain)
        self.executor = SingleThreadedExecutor(context=self.context)
        self.nodes: list[Node] = []
        self.processes: list[subprocess.Popen] = []

    def node(self, make: Callable[..., Any] = Node, *args: Any, **parameters: Any) -> Any:
        """A node of this graph with these parameters; ``__`` in a name stands for a dot."""
        overrides = [
            Parameter(name.replace("__", "."), value=value) for name, value in parameters.items()
        ]
        node = make(*args, context=self.context, parameter_overrides=overrides)
        self.nodes.append(node)
        self.executor.add_node(node)
        return node

    def process(self, module: str, log: Path, *arguments: str) -> subprocess.Popen:
        """A process of this graph; its output goes to ``log``."""
        with log.open("w") as file:
            process = subprocess.Popen(
                [sys.executable, "-m", module, *arguments],
                env=os.environ | {"ROS_DOMAIN_ID": str(self.domain)},
                stdout=file,
                stderr=subprocess.STDOUT,
            )
        self.processes.append(process)
        return process

    def remove(self, node: Node) -> None:
        self.nodes.remove(node)
        self.executor.remove_node(node)
        node.destroy_node()

    def until(self, condition: Callable[[], Any], what: str, limit_s: float = LIMIT_S) -> None:
        """Spins until the condition holds; fails after the limit."""
        last_s = time.monotonic() + limit_s
        while not condition():
            assert time.monotonic() < last_s, f"waited {limit_s:g} s in vain: {what}"
            self.executor.spin_once(timeout_sec=0.02)

    def close(self) -> None:
        for process in self.processes:
            process.kill()
            process.wait()
        for node in [*self.nodes]:
            self.remove(node)
        self.executor.shutdown()
        rclpy.shutdown(context=self.context)


@contextmanager
def graph() -> Iterator[Graph]:
    opened = Graph()
    try:
        yield opened
    finally:
        opened.close()


@pytest.fixture
def graph_of_a_test() -> Iterator[Graph]:
    """A graph of its own for each test of a module that calls this ``ros``."""
    with graph() as opened:
        yield opened


@pytest.fixture(autouse=True)
def diagnostics_often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Diagnostics come at once in modules that use this."""
    monkeypatch.setattr("fer_ros.ros.node._REPORT_PERIOD_S", 0.05)


class Listener:
    """A node that collects the messages of topics."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self.received: dict[str, list[Any]] = {}

    def listen(self, kind: type, topic: str, qos: Any = 10) -> list[Any]:
        """The list that the messages go to."""
        received = self.received.setdefault(topic, [])
        self.node.create_subscription(kind, topic, received.append, qos)
        return received


def header_at(stamp_s: float, frame_id: str = "eye") -> Header:
    nanoseconds = round(stamp_s * 1e9)
    stamp = Time(sec=nanoseconds // 10**9, nanosec=nanoseconds % 10**9)
    return Header(stamp=stamp, frame_id=frame_id)


def image_at(stamp_s: float, image_rgb: Any) -> Image:
    return to_image(image_rgb, header_at(stamp_s))
