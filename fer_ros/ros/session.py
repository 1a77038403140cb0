"""The work of an active node: images in, results out, and what there is to say about it."""

import math
from abc import ABC, abstractmethod
from collections.abc import Hashable
from time import monotonic

from diagnostic_msgs.msg import DiagnosticStatus
from rclpy.lifecycle import LifecycleNode

from fer_ros.config import PipelineConfig
from fer_ros.errors import with_file
from fer_ros.ros.diagnostics import Monitor
from fer_ros.ros.outputs import Outputs
from fer_ros.ros.params import NodeConfig
from fer_ros.types import FrameEmotions

_REPEAT_S = 10.0  # a warning about the same is not given more often


class Session(ABC):
    """From activation to deactivation; figures count from its birth.

    ``config`` may be replaced at any time, ``settings`` too: those are the pipeline's from the next
    image on.
    """

    def __init__(
        self, node: LifecycleNode, config: NodeConfig, settings: PipelineConfig, outputs: Outputs
    ) -> None:
        self.config = config
        self.settings = settings
        self._logger = node.get_logger()
        self._outputs = outputs
        self._told_s: dict[Hashable, float] = {}

    @abstractmethod
    def close(self) -> None:
        """Unsubscribes and lets the work in hand be done."""

    @abstractmethod
    def report(self) -> dict[str, DiagnosticStatus]:
        """How it goes, by camera. Raises what ended the worker's thread, if anything did."""

    def _lose(self, what: str, error: Exception, monitor: Monitor) -> None:
        """A bad image costs itself and nothing else."""
        self._warn(("loss", monitor), f"{what} is lost: {with_file(error)}")
        monitor.failed(with_file(error))

    def _note(self, result: FrameEmotions, source: str) -> None:
        try:
            self._outputs.note(result, source)
        except OSError as error:
            self._warn("log", f"log_path {self.config.log_path!r}: {error.strerror}")

    def _warn(self, about: Hashable, text: str) -> None:
        """Not again about the same for a while. (rclpy's throttle goes by the line of code.)"""
        now_s = monotonic()
        if now_s - self._told_s.get(about, -math.inf) >= _REPEAT_S:
            self._told_s[about] = now_s
            self._logger.warning(text)
