"""The work of an active node: images in, results out, and what there is to say about it."""

import math
from contextlib import ExitStack
from time import monotonic, perf_counter

from diagnostic_msgs.msg import DiagnosticStatus
from rclpy.lifecycle import LifecycleNode
from sensor_msgs.msg import CompressedImage, Image

from fer_ros.pipeline import EmotionPipeline
from fer_ros.ros.convert import ConversionError, stamp_s, to_rgb
from fer_ros.ros.diagnostics import Monitor
from fer_ros.ros.frame_slot import Worker
from fer_ros.ros.image_input import ImageInput
from fer_ros.ros.outputs import Outputs
from fer_ros.ros.params import NodeConfig
from fer_ros.ros.process import one_line
from fer_ros.types import Frame, FrameEmotions

_REPEAT_S = 10.0  # a warning about the same is not given more often
_BACK_S = 1.0  # time that runs back by less is one frame that overtook another


class Session:
    """From activation to deactivation; figures count from its birth."""

    def __init__(
        self, node: LifecycleNode, config: NodeConfig, pipeline: EmotionPipeline, outputs: Outputs
    ) -> None:
        self._logger = node.get_logger()
        self._config = config
        self._pipeline = pipeline
        self._outputs = outputs
        self._newest_s = -math.inf
        self._monitor = Monitor()
        pipeline.reset()
        self._told_s: dict[str, float] = {}
        self._worker: Worker[Image | CompressedImage] = Worker(self._handle, "emotions")
        with ExitStack() as undo:
            undo.callback(self._worker.stop)  # or its thread would outlive a failed activation
            self._input = ImageInput(node, config, self._take)
            undo.pop_all()
        self._logger.info(f"active, waiting for images on {self._input.topic}")

    def close(self) -> None:
        """Unsubscribes and lets the frame in hand be done."""
        self._input.close()
        self._worker.stop()

    def report(self) -> DiagnosticStatus:
        """How it goes. Raises what ended the worker's thread, if anything did."""
        self._worker.check()
        silence_s = self._config.image_timeout_s
        if 0 < silence_s <= self._monitor.silent_s():
            self._warn(
                "silence",
                f"no image on {self._input.topic} for {silence_s:g} s: {self._input.why_silent()}",
            )
        return self._monitor.report(self._worker.slot.dropped, silence_s)

    def _take(self, message: Image | CompressedImage) -> None:
        self._monitor.received()
        self._worker.slot.put(message)

    def _handle(self, message: Image | CompressedImage) -> None:
        """One image, in the worker's thread. A bad one costs itself and nothing else."""
        begin = perf_counter()
        try:
            frame = Frame(to_rgb(message), stamp_s(message.header))
            converted = perf_counter()
            self._watch_time(frame.stamp_s)
            result = self._pipeline(frame)
        except (ConversionError, RuntimeError) as error:  # PyTorch's, as when a GPU is full
            self._warn("loss", f"image on {self._input.topic} is lost: {one_line(error)}")
            self._monitor.failed(one_line(error))
            return
        analysed = perf_counter()
        self._outputs.publish(result, message.header)
        published = perf_counter()
        self._outputs.draw(result, frame.image_rgb, message.header)
        drawn = perf_counter()
        self._note(result)
        latency_ms = {
            "convert": (converted - begin) * 1000,
            **result.latency_ms,
            "publish": (published - analysed) * 1000,
            "draw": (drawn - published) * 1000,
            "total": (drawn - begin) * 1000,
        }
        self._monitor.processed(result, latency_ms)

    def _note(self, result: FrameEmotions) -> None:
        try:
            self._outputs.note(result, self._input.topic)
        except OSError as error:
            self._warn("log", f"log_path {self._config.log_path!r}: {error.strerror}")

    def _watch_time(self, stamp_s: float) -> None:
        if stamp_s == 0:
            self._warn(
                "stamp", "images without a stamp: faces are followed by it; see the camera's driver"
            )
        if stamp_s < self._newest_s - _BACK_S:
            back_s = self._newest_s - stamp_s
            self._logger.info(f"the stamps ran back by {back_s:.1f} s: all faces are new")
            self._pipeline.reset()
            self._newest_s = stamp_s
        self._newest_s = max(self._newest_s, stamp_s)

    def _warn(self, about: str, text: str) -> None:
        """Not again about the same for a while. (rclpy's throttle goes by the line of code.)"""
        now_s = monotonic()
        if now_s - self._told_s.get(about, -math.inf) >= _REPEAT_S:
            self._told_s[about] = now_s
            self._logger.warning(text)
