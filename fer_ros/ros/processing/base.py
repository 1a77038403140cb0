"""Common part of the processors of an active node: configuration, failures, warnings."""

import math
from abc import ABC, abstractmethod
from collections.abc import Hashable
from dataclasses import dataclass
from time import monotonic
from typing import TypeAlias

from diagnostic_msgs.msg import DiagnosticStatus
from rclpy.lifecycle import LifecycleNode
from sensor_msgs.msg import CompressedImage, Image

from fer_ros.config import PipelineConfig
from fer_ros.io.errors import format_os_error
from fer_ros.io.image_decoding import WarningCallback
from fer_ros.ros.diagnostics import FrameStatistics
from fer_ros.ros.output.publishers import ResultPublishers
from fer_ros.ros.parameters import NodeConfig
from fer_ros.types import FrameResult

_WARNING_PERIOD_S = 10.0  # of the same warning


ImageMessage: TypeAlias = "Image | CompressedImage"


@dataclass(frozen=True)
class ReceivedImage:
    """An image message and the wall time of its arrival in seconds."""

    message: ImageMessage
    arrival_s: float


class Processor(ABC):
    """Processes input from activation to deactivation; statistics start at zero.

    ``node_config`` and ``pipeline_config`` may be replaced at any time; they take effect with the
    next image.
    """

    def __init__(
        self,
        node: LifecycleNode,
        node_config: NodeConfig,
        pipeline_config: PipelineConfig,
        publishers: ResultPublishers,
    ) -> None:
        self.node_config = node_config
        self.pipeline_config = pipeline_config
        self._logger = node.get_logger()
        self._publishers = publishers
        self._last_warned_s: dict[Hashable, float] = {}

    @abstractmethod
    def close(self) -> None:
        """Unsubscribe and wait for the work in progress."""

    @abstractmethod
    def report(self) -> dict[str, DiagnosticStatus]:
        """Status of each camera. Raises the exception that ended the worker thread, if any."""

    def _fail_frame(
        self, subject: str, error: Exception | str, statistics: FrameStatistics
    ) -> None:
        """Report a frame that cannot be processed; all others are unaffected."""
        self._warn(("failed", statistics), f"{subject} is lost: {format_os_error(error)}")
        statistics.failed(format_os_error(error))

    def _log_result(self, result: FrameResult, image_topic: str) -> None:
        try:
            self._publishers.log_result(result, image_topic)
        except OSError as error:
            path = self.node_config.results_log_path
            self._warn("results_log", f"results_log_path {path!r}: {error.strerror}")

    def _warn_once(self, subject: str) -> WarningCallback:
        """Callback that logs the first warning about ``subject``."""
        key = ("once", subject)
        return lambda text: self._warn(key, f"{subject}: {text}", period_s=math.inf)

    def _warn(self, key: Hashable, text: str, period_s: float = _WARNING_PERIOD_S) -> None:
        """Log a warning at most once per period and key (rclpy throttles per line of code)."""
        now_s = monotonic()
        if now_s - self._last_warned_s.get(key, -math.inf) >= period_s:
            self._last_warned_s[key] = now_s
            self._logger.warning(text)
