"""The work of an active node: images in, results out, and what there is to say about it."""

import math
from abc import ABC, abstractmethod
from contextlib import ExitStack
from time import monotonic, perf_counter
from typing import TYPE_CHECKING

from diagnostic_msgs.msg import DiagnosticStatus
from rclpy.lifecycle import LifecycleNode
from sensor_msgs.msg import CompressedImage, Image

from fer_ros.config import PipelineConfig
from fer_ros.pipeline import EmotionPipeline
from fer_ros.ros.convert import ConversionError, stamp_s, to_rgb
from fer_ros.ros.diagnostics import Monitor
from fer_ros.ros.frame_slot import Worker
from fer_ros.ros.identities import Identities
from fer_ros.ros.image_input import ImageInput
from fer_ros.ros.outputs import Outputs
from fer_ros.ros.params import NodeConfig
from fer_ros.ros.process import one_line
from fer_ros.types import Frame, FrameEmotions

if TYPE_CHECKING:
    from fer_ros.ros.head_pose import HeadPoses

_REPEAT_S = 10.0  # a warning about the same is not given more often
_BACK_S = 1.0  # time that runs back by less is one frame that overtook another


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
        self._monitor = Monitor()
        self._told_s: dict[str, float] = {}

    @abstractmethod
    def close(self) -> None:
        """Unsubscribes and lets the work in hand be done."""

    @abstractmethod
    def report(self) -> DiagnosticStatus:
        """How it goes. Raises what ended the worker's thread, if anything did."""

    def _lose(self, what: str, error: Exception) -> None:
        """A bad image costs itself and nothing else."""
        self._warn("loss", f"{what} is lost: {one_line(error)}")
        self._monitor.failed(one_line(error))

    def _note(self, result: FrameEmotions, source: str) -> None:
        try:
            self._outputs.note(result, source)
        except OSError as error:
            self._warn("log", f"log_path {self.config.log_path!r}: {error.strerror}")

    def _warn(self, about: str, text: str) -> None:
        """Not again about the same for a while. (rclpy's throttle goes by the line of code.)"""
        now_s = monotonic()
        if now_s - self._told_s.get(about, -math.inf) >= _REPEAT_S:
            self._told_s[about] = now_s
            self._logger.warning(text)


class CameraSession(Session):
    """The images of a camera."""

    def __init__(
        self,
        node: LifecycleNode,
        config: NodeConfig,
        pipeline: EmotionPipeline,
        outputs: Outputs,
        identities: Identities,
    ) -> None:
        super().__init__(node, config, pipeline.config, outputs)
        self._pipeline = pipeline
        self._identities = identities
        self._newest_s = -math.inf
        self._forget()
        self._worker: Worker[Image | CompressedImage] = Worker(self._handle, "emotions")
        with ExitStack() as undo:
            undo.callback(self._worker.stop)  # or its thread would outlive a failed activation
            self._input = ImageInput(node, config, self._take)
            undo.callback(self._input.close)
            self._poses = _make_poses(node, self._input.topic) if config.publish_tf else None
            undo.pop_all()
        self._logger.info(f"active, waiting for images on {self._input.topic}")

    def close(self) -> None:
        """Unsubscribes, lets the frame in hand be done, and tells that nobody is there."""
        self._input.close()
        self._worker.stop()
        self._outputs.forget()
        if self._poses:
            self._poses.close()

    def report(self) -> DiagnosticStatus:
        """STALE without images; after that nobody is there."""
        self._worker.check()
        silence_s = self.config.image_timeout_s
        if 0 < silence_s <= self._monitor.silent_s():
            self._outputs.forget()
            self._warn(
                "silence",
                f"no image on {self._input.topic} for {silence_s:g} s: {self._input.why_silent()}",
            )
        return self._monitor.report(self._worker.slot.dropped, silence_s)

    def _take(self, message: Image | CompressedImage) -> None:
        self._monitor.received()
        self._worker.slot.put(message)

    def _handle(self, message: Image | CompressedImage) -> None:
        """One image, in the worker's thread."""
        begin = perf_counter()
        try:
            frame = Frame(to_rgb(message), stamp_s(message.header))
            converted = perf_counter()
            result = self._read(frame)
        except (ConversionError, RuntimeError) as error:  # PyTorch's, as when a GPU is full
            self._lose(f"image on {self._input.topic}", error)
            return
        analysed = perf_counter()
        self._outputs.publish(result, message.header)
        present = self._identities.present
        self._outputs.publish_humans(result, present, frame.image_rgb, message.header)
        if self._poses:
            self._poses.publish(result, message.header, frame.image_rgb.shape[:2])
        published = perf_counter()
        self._outputs.draw(result, frame.image_rgb, message.header)
        drawn = perf_counter()
        self._note(result, self._input.topic)
        latency_ms = {
            "convert": (converted - begin) * 1000,
            **result.latency_ms,
            "publish": (published - analysed) * 1000,
            "draw": (drawn - published) * 1000,
            "total": (drawn - begin) * 1000,
        }
        self._monitor.processed(result, latency_ms)

    def _read(self, frame: Frame) -> FrameEmotions:
        if self.settings is not self._pipeline.config:
            self._pipeline.reconfigure(self.settings)
        self._watch_time(frame.stamp_s)
        max_missed_s = self._pipeline.config.tracker.max_missed_s
        return self._identities.update(self._pipeline(frame), max_missed_s)

    def _watch_time(self, stamp_s: float) -> None:
        if stamp_s == 0:
            self._warn(
                "stamp", "images without a stamp: faces are followed by it; see the camera's driver"
            )
        if stamp_s < self._newest_s - _BACK_S:
            back_s = self._newest_s - stamp_s
            self._logger.info(f"the stamps ran back by {back_s:.1f} s: all faces are new")
            self._forget()
            self._newest_s = stamp_s
        self._newest_s = max(self._newest_s, stamp_s)

    def _forget(self) -> None:
        self._pipeline.reset()
        self._identities.forget()


def _make_poses(node: LifecycleNode, image_topic: str) -> "HeadPoses":
    from fer_ros.ros.head_pose import HeadPoses  # brings tf2_msgs, which not all have

    return HeadPoses(node, image_topic)
