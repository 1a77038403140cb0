"""Processing of the face images of another detector (REP-155): images in, expressions out."""

import math
from collections import defaultdict
from contextlib import ExitStack
from time import monotonic, time

import cv2
from diagnostic_msgs.msg import DiagnosticStatus
from hri_msgs.msg import Expression
from rclpy.lifecycle import LifecycleNode
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from fer_ros.crop_pipeline import FaceCrop, FaceCropPipeline
from fer_ros.ros.convert import ConversionError, stamp_s, to_rgb
from fer_ros.ros.diagnostics import FrameStatistics
from fer_ros.ros.input.hri_face_subscriber import HriFaceSubscriber
from fer_ros.ros.input.latest_frame_buffer import FrameWorker
from fer_ros.ros.output.hri_publishers import HriFaceTopics, expression_names, to_expression
from fer_ros.ros.output.publishers import ResultPublishers
from fer_ros.ros.parameters import NodeConfig, label_names
from fer_ros.ros.processing.base import Processor, ReceivedImage
from fer_ros.stage_timer import StageTimer
from fer_ros.types import FaceEmotion, Frame, FrameResult

_Results = list[tuple[ReceivedImage, FaceEmotion]]


class FaceCropProcessor(Processor):
    """Processes the latest image of every face; pending images of all faces are one batch.

    Each face gets its ``expression`` under the header of its image. Faces of one image are
    published together on ``~/emotions``.
    """

    def __init__(
        self,
        node: LifecycleNode,
        node_config: NodeConfig,
        pipeline: FaceCropPipeline,
        publishers: ResultPublishers,
    ) -> None:
        super().__init__(node, node_config, pipeline.config, publishers)
        self._pipeline = pipeline
        self._activated_s = monotonic()
        self._has_faces_since_s = math.inf
        self._statistics = FrameStatistics()
        self._expression_names = expression_names(label_names(node_config.label_map))
        self._topics = HriFaceTopics(node, node_config.hri_namespace, {"expression": Expression})
        pipeline.reset()
        self._worker: FrameWorker[ReceivedImage] = FrameWorker(self._process, "expressions")
        with ExitStack() as undo:
            undo.callback(self._worker.stop)  # its thread must not outlive a failed activation
            self._input = HriFaceSubscriber(node, node_config, self._on_ids, self._on_face_image)
            undo.pop_all()
        self._logger.info(f"active, waiting for faces on {self._input.topic}")

    def close(self) -> None:
        """Unsubscribe, wait for the images in progress, and destroy the expression topics."""
        self._input.close()
        self._worker.stop()
        self._topics.set_active_ids(())

    def report(self) -> dict[str, DiagnosticStatus]:
        """Status; WARN without a publisher of faces, or without images of the faces that it lists.

        An empty list of faces is normal.
        """
        self._worker.check()
        self._input.refresh()
        status = self._statistics.report(timeout_s=0)
        error = self._input_error()
        if error:
            status.level, status.message = DiagnosticStatus.WARN, error
            self._warn("timeout", error)
        return {"": status}

    def _input_error(self) -> str:
        """What has been missing for ``image_timeout_s``; "" if nothing."""
        timeout_s, now_s = self.node_config.image_timeout_s, monotonic()
        if not 0 < timeout_s <= now_s - self._activated_s:
            return ""
        if not self._input.has_publisher():
            self._input.clear()
            self._set_ids([])
            return f"no publisher on {self._input.topic}: is the face detector running?"
        missing_s = min(self._statistics.silent_s(), now_s - self._has_faces_since_s)
        if missing_s >= timeout_s:
            return f"no image of the faces on {self._input.topic} for {missing_s:.0f} s"
        return ""

    def _on_ids(self, ids: list[str], header: Header) -> None:
        self._set_ids(ids)
        if not ids:  # no image follows that would say so
            self._publishers.publish("", FrameResult(stamp_s(header), [], {}), header)

    def _set_ids(self, ids: list[str]) -> None:
        self._topics.set_active_ids(ids)
        if not ids:
            self._has_faces_since_s = math.inf
        elif self._has_faces_since_s == math.inf:
            self._has_faces_since_s = monotonic()

    def _on_face_image(self, id: str, message: Image) -> None:
        self._statistics.received()
        if self._worker.buffer.put(id, ReceivedImage(message, time())):
            self._statistics.dropped()

    def _process(self, received: dict[str, ReceivedImage]) -> None:
        """Process all pending face images, in the worker thread."""
        timer = StageTimer()
        crops = self._convert(received)
        if not crops:
            return
        timer.mark("convert")
        if self.pipeline_config is not self._pipeline.config:
            self._pipeline.reconfigure(self.pipeline_config)
        try:
            faces, stages_ms = self._pipeline(crops)
        except (RuntimeError, cv2.error) as error:  # from PyTorch, such as a full GPU
            self._fail_frame(f"a batch of {len(crops)} face images", error, self._statistics)
            return
        timer.mark("pipeline")
        self._publish([(received[face.id], face) for face in faces])
        timer.mark("publish")
        latency_ms = {
            "convert": timer.latency_ms["convert"],
            **stages_ms,
            "publish": timer.latency_ms["publish"],
            "total": timer.total_ms(),
        }
        newest_s = max(crop.frame.stamp_s for crop in crops)
        self._statistics.processed(FrameResult(newest_s, faces, latency_ms), latency_ms)

    def _convert(self, received: dict[str, ReceivedImage]) -> list[FaceCrop]:
        crops = []
        for id, item in received.items():
            try:
                image_rgb = to_rgb(item.message, self._warn_once(self._input.topic))
            except ConversionError as error:
                self._fail_frame(f"the image of face {id}", error, self._statistics)
                continue
            stamp = stamp_s(item.message.header)
            crops.append(FaceCrop(id, Frame(image_rgb, stamp, item.arrival_s)))
        return crops

    def _publish(self, results: _Results) -> None:
        images: dict[tuple[int, int, str], _Results] = defaultdict(list)
        for received, face in results:
            header = received.message.header
            expression = to_expression(face, header, self._expression_names)
            if expression and self.node_config.publish_humans:
                self._topics.publish(face.id, "expression", expression)
            images[header.stamp.sec, header.stamp.nanosec, header.frame_id].append((received, face))
        for of_one_image in images.values():
            header = of_one_image[0][0].message.header
            result = FrameResult(stamp_s(header), [face for _, face in of_one_image], {})
            self._publishers.publish("", result, header)
            self._log_result(result, self._input.topic)
