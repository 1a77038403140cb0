"""The work of an active node beside another detector: its faces in, their expressions out."""

from collections import defaultdict
from contextlib import ExitStack
from time import monotonic, perf_counter

from diagnostic_msgs.msg import DiagnosticStatus
from hri_msgs.msg import Expression
from rclpy.lifecycle import LifecycleNode
from sensor_msgs.msg import Image

from fer_ros.crops import CropPipeline, FaceCrop
from fer_ros.ros.convert import ConversionError, stamp_s, to_rgb
from fer_ros.ros.diagnostics import Monitor
from fer_ros.ros.faces_input import FacesInput
from fer_ros.ros.frame_slot import Worker
from fer_ros.ros.humans import FaceTopics, hri_words, to_expression
from fer_ros.ros.outputs import Outputs
from fer_ros.ros.params import NodeConfig, label_names
from fer_ros.ros.session import Session
from fer_ros.types import FaceEmotion, Frame, FrameEmotions

_Read = list[tuple[Image, FaceEmotion]]


class CropSession(Session):
    """The newest picture of every face, all that wait together.

    Each gets its ``expression`` under its own header, and those of one image an array in
    ``~/emotions``.
    """

    def __init__(
        self, node: LifecycleNode, config: NodeConfig, pipeline: CropPipeline, outputs: Outputs
    ) -> None:
        super().__init__(node, config, pipeline.config, outputs)
        self._pipeline = pipeline
        self._born_s = monotonic()
        self._monitor = Monitor()
        self._words = hri_words(label_names(config.label_map))
        self._topics = FaceTopics(node, config.humans_prefix, {"expression": Expression})
        pipeline.reset()
        self._worker: Worker[Image] = Worker(self._handle, "expressions")
        with ExitStack() as undo:
            undo.callback(self._worker.stop)  # or its thread would outlive a failed activation
            self._input = FacesInput(node, config, self._topics.keep, self._take)
            undo.pop_all()
        self._logger.info(f"active, waiting for faces on {self._input.topic}")

    def close(self) -> None:
        """Unsubscribes, lets the pictures in hand be done, and takes the expressions down."""
        self._input.close()
        self._worker.stop()
        self._topics.keep(())

    def report(self) -> dict[str, DiagnosticStatus]:
        """WARN when nobody publishes faces; that none are there is no fault."""
        self._worker.check()
        self._input.look()
        status = self._monitor.report(silence_s=0)
        silence_s = self.config.image_timeout_s
        if 0 < silence_s <= monotonic() - self._born_s and self._input.is_alone():
            status.level = DiagnosticStatus.WARN
            status.message = f"no publisher on {self._input.topic}: does the face detector run?"
            self._warn("silence", status.message)
        return {"": status}

    def _take(self, id: str, message: Image) -> None:
        self._monitor.received()
        if self._worker.slot.put(id, message):
            self._monitor.dropped()

    def _handle(self, messages: dict[str, Image]) -> None:
        """All pictures that wait, in the worker's thread."""
        begin = perf_counter()
        crops = self._convert(messages)
        converted = perf_counter()
        if not crops:
            return
        if self.settings is not self._pipeline.config:
            self._pipeline.reconfigure(self.settings)
        try:
            faces, stages_ms = self._pipeline(crops)
        except RuntimeError as error:  # PyTorch's, as when a GPU is full
            self._lose(f"the pictures of {len(crops)} faces", error, self._monitor)
            return
        analysed = perf_counter()
        read = [(messages[face.id], face) for face in faces]
        self._publish(read)
        done = perf_counter()
        latency_ms = {
            "convert": (converted - begin) * 1000,
            **stages_ms,
            "publish": (done - analysed) * 1000,
            "total": (done - begin) * 1000,
        }
        newest_s = max(crop.picture.stamp_s for crop in crops)
        self._monitor.processed(FrameEmotions(newest_s, faces, latency_ms), latency_ms)

    def _convert(self, messages: dict[str, Image]) -> list[FaceCrop]:
        crops = (self._to_crop(id, message) for id, message in messages.items())
        return [crop for crop in crops if crop]

    def _to_crop(self, id: str, message: Image) -> FaceCrop | None:
        try:
            return FaceCrop(id, Frame(to_rgb(message), stamp_s(message.header)))
        except ConversionError as error:
            self._lose(f"the picture of face {id}", error, self._monitor)
            return None

    def _publish(self, read: _Read) -> None:
        images: dict[tuple[int, int, str], _Read] = defaultdict(list)
        for message, face in read:
            header = message.header
            expression = to_expression(face, header, self._words)
            if expression and self.config.publish_humans:
                self._topics.publish(face.id, "expression", expression)
            images[header.stamp.sec, header.stamp.nanosec, header.frame_id].append((message, face))
        for together in images.values():
            header = together[0][0].header
            result = FrameEmotions(stamp_s(header), [face for _, face in together], {})
            self._outputs.publish("", result, header)
            self._note(result, self._input.topic)
