"""Processing of camera images in the active node: image messages in, emotions out."""

import math
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import TYPE_CHECKING

from diagnostic_msgs.msg import DiagnosticStatus
from rclpy.lifecycle import LifecycleNode

from fer_ros.multi_camera import MultiCameraPipeline
from fer_ros.ros.convert import ConversionError, stamp_s, to_rgb
from fer_ros.ros.diagnostics import FrameStatistics, to_key_values
from fer_ros.ros.input.image_subscriber import ImageSubscriber
from fer_ros.ros.input.latest_frame_buffer import FrameWorker
from fer_ros.ros.output.publishers import ResultPublishers
from fer_ros.ros.parameters import NodeConfig
from fer_ros.ros.processing.base import ImageMessage, Processor, ReceivedImage
from fer_ros.stage_timer import StageTimer
from fer_ros.stream_clock import MAX_GAP_S, StreamEvent
from fer_ros.types import Frame, FrameFailure, FrameResult

if TYPE_CHECKING:
    from fer_ros.ros.output.head_tf import HeadTransformBroadcaster


class ImageProcessor(Processor):
    """Processes the latest image of every camera; pending images of all cameras are one batch."""

    def __init__(
        self,
        node: LifecycleNode,
        node_config: NodeConfig,
        pipeline: MultiCameraPipeline,
        publishers: ResultPublishers,
    ) -> None:
        super().__init__(node, node_config, pipeline.config, publishers)
        self._pipeline = pipeline
        self._worker: FrameWorker[ReceivedImage] = FrameWorker(self._process, "emotions")
        self._cameras: dict[str, _Camera] = {}
        with ExitStack() as undo:
            undo.callback(self._worker.stop)  # its thread must not outlive a failed activation
            for name in node_config.cameras:
                self._cameras[name] = _Camera(node, node_config, name, self._worker.buffer.put)
                undo.callback(self._cameras[name].close)
                pipeline.reset(name)
            undo.pop_all()
        topics = ", ".join(camera.input.topic for camera in self._cameras.values())
        self._logger.info(f"active, waiting for images on {topics}")

    def close(self) -> None:
        """Unsubscribe, wait for the images in progress, and report that no face is present."""
        self._worker.stop()
        for name, camera in self._cameras.items():
            camera.close()
            self._publishers.clear(name)

    def report(self) -> dict[str, DiagnosticStatus]:
        """Status of each camera. No face is present without images, or while none is processed."""
        self._worker.check()
        other_nodes = self._publishers.other_hri_publishers()
        if other_nodes:
            self._warn(
                ("other_hri_publishers", *other_nodes),
                f"{', '.join(other_nodes)} publishes the same list of tracked faces; set "
                "hri_namespace to keep the faces of two robots apart",
                period_s=math.inf,
            )
        return {name: self._report_camera(camera) for name, camera in self._cameras.items()}

    def _report_camera(self, camera: "_Camera") -> DiagnosticStatus:
        for name in camera.input.new_publishers():
            self._logger.info(f"publisher of {camera.input.topic}: {name}")
        statistics, timeout_s = camera.statistics, self.node_config.image_timeout_s
        has_no_images = 0 < timeout_s <= statistics.silent_s()
        if has_no_images or max(statistics.failing_s(), statistics.waiting_s()) > MAX_GAP_S:
            self._publishers.clear(camera.name)
        if has_no_images:
            topic, diagnosis = camera.input.topic, camera.input.diagnose_no_images()
            self._warn(("timeout", topic), f"no image on {topic} for {timeout_s:g} s: {diagnosis}")
        status = statistics.report(timeout_s)
        plan = self._pipeline.detection_plan(camera.name)
        status.values = [*to_key_values({"detection_plan": plan}), *status.values]
        return status

    def _process(self, received: dict[str, ReceivedImage]) -> None:
        """Process one image of each of these cameras, in the worker thread."""
        timer = StageTimer()
        if self.pipeline_config is not self._pipeline.config:
            self._pipeline.reconfigure(self.pipeline_config)
        frames = self._convert(received)
        timer.mark("convert")
        for name, result in self._pipeline(frames).items():
            camera = self._cameras[name]
            if isinstance(result, FrameFailure):
                self._fail_frame(f"image on {camera.input.topic}", result.error, camera.statistics)
                continue
            self._report_time(camera, result)
            publish_ms = self._publish(camera, result, frames[name], received[name].message)
            latency_ms = timer.latency_ms | result.latency_ms | publish_ms
            camera.statistics.processed(result, latency_ms | {"total": timer.total_ms()})

    def _convert(self, received: dict[str, ReceivedImage]) -> dict[str, Frame]:
        """Frames of the messages that can be decoded, by camera."""
        frames = {}
        for name, item in received.items():
            camera = self._cameras[name]
            try:
                image_rgb = to_rgb(item.message, self._warn_once(camera.input.topic))
            except ConversionError as error:
                self._fail_frame(f"image on {camera.input.topic}", error, camera.statistics)
                continue
            frames[name] = Frame(image_rgb, stamp_s(item.message.header), item.arrival_s)
        return frames

    def _publish(
        self, camera: "_Camera", result: FrameResult, frame: Frame, message: ImageMessage
    ) -> dict[str, float]:
        """Publish all results of one image; return the milliseconds of both stages."""
        timer, header = StageTimer(), message.header
        active_ids = self._pipeline.live_ids(camera.name)
        self._publishers.publish(camera.name, result, header)
        self._publishers.publish_hri(camera.name, result, active_ids, frame.image_rgb, header)
        if camera.head_tf:
            camera.head_tf.publish(result, header, frame.image_rgb.shape[:2])
        timer.mark("publish")
        self._publishers.publish_debug_image(camera.name, result, frame.image_rgb, header)
        self._log_result(result, camera.input.topic)
        timer.mark("draw")
        return timer.latency_ms

    def _report_time(self, camera: "_Camera", result: FrameResult) -> None:
        """Report missing and irregular stamps."""
        topic = camera.input.topic
        if result.stamp_is_estimated:
            self._warn(
                ("zero_stamp", topic),
                f"{topic}: header.stamp is zero; using the time of arrival. Check the camera "
                "driver.",
                period_s=math.inf,
            )
        if result.stream_event is StreamEvent.BACKWARD_JUMP:
            self._logger.info(f"{topic}: the stamps jumped back; all faces get new ids")
        elif result.stream_event is StreamEvent.GAP:
            self._warn(("gap", topic), f"{topic}: gap in the stamps; all faces get new ids")


class _Camera:
    """Subscriptions and state of one camera.

    ``on_image(name, received)`` returns whether the image replaced one that was not processed.
    """

    def __init__(
        self,
        node: LifecycleNode,
        config: NodeConfig,
        name: str,
        on_image: Callable[[str, ReceivedImage], bool],
    ) -> None:
        self.name = name
        self.statistics = FrameStatistics()
        self._on_image = on_image
        self.input = ImageSubscriber(node, config, name, self._on_message)
        with ExitStack() as undo:
            undo.callback(self.input.close)
            self.head_tf = (
                _create_head_tf(node, name, self.input.topic) if config.publish_tf else None
            )
            undo.pop_all()

    def close(self) -> None:
        """Destroy the subscriptions and the TF publisher."""
        self.input.close()
        if self.head_tf:
            self.head_tf.close()

    def _on_message(self, message: ImageMessage) -> None:
        self.statistics.received()
        if self._on_image(self.name, ReceivedImage(message, time.time())):
            self.statistics.dropped()


def _create_head_tf(
    node: LifecycleNode, camera: str, image_topic: str
) -> "HeadTransformBroadcaster":
    from fer_ros.ros.output.head_tf import HeadTransformBroadcaster  # needs tf2_msgs

    return HeadTransformBroadcaster(node, camera, image_topic)
