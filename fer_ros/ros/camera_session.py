"""The work of an active node with cameras: images in, emotions out."""

import math
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from time import perf_counter
from typing import TYPE_CHECKING, TypeAlias

from diagnostic_msgs.msg import DiagnosticStatus
from numpy import uint8
from numpy.typing import NDArray
from rclpy.lifecycle import LifecycleNode
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header

from fer_ros.cameras import CamerasPipeline
from fer_ros.ros.convert import ConversionError, stamp_s, to_rgb
from fer_ros.ros.diagnostics import Monitor
from fer_ros.ros.frame_slot import Worker
from fer_ros.ros.identities import Identities
from fer_ros.ros.image_input import ImageInput
from fer_ros.ros.outputs import Outputs
from fer_ros.ros.params import NodeConfig
from fer_ros.ros.session import Session
from fer_ros.types import Frame, FrameEmotions

if TYPE_CHECKING:
    from fer_ros.ros.head_pose import HeadPoses

_BACK_S = 1.0  # time that runs back by less is one frame that overtook another

_Message: TypeAlias = "Image | CompressedImage"


class CameraSession(Session):
    """The newest image of every camera, all that wait together."""

    def __init__(
        self,
        node: LifecycleNode,
        config: NodeConfig,
        pipeline: CamerasPipeline,
        outputs: Outputs,
        identities: Mapping[str, Identities],
    ) -> None:
        super().__init__(node, config, pipeline.config, outputs)
        self._pipeline = pipeline
        self._worker: Worker[_Message] = Worker(self._handle, "emotions")
        self._cameras: dict[str, _Camera] = {}
        with ExitStack() as undo:
            undo.callback(self._worker.stop)  # or its thread would outlive a failed activation
            for name, ids in identities.items():
                self._cameras[name] = _Camera(node, config, name, ids, self._worker.slot.put)
                undo.callback(self._cameras[name].close)
                self._forget(self._cameras[name])
            undo.pop_all()
        topics = ", ".join(camera.input.topic for camera in self._cameras.values())
        self._logger.info(f"active, waiting for images on {topics}")

    def close(self) -> None:
        """Unsubscribes, lets the frames in hand be done, and tells that nobody is there."""
        self._worker.stop()
        for name, camera in self._cameras.items():
            camera.close()
            self._outputs.forget(name)

    def report(self) -> dict[str, DiagnosticStatus]:
        """STALE without images; after that nobody is there."""
        self._worker.check()
        return {name: self._report_of(camera) for name, camera in self._cameras.items()}

    def _report_of(self, camera: "_Camera") -> DiagnosticStatus:
        silence_s = self.config.image_timeout_s
        if 0 < silence_s <= camera.monitor.silent_s():
            self._outputs.forget(camera.name)
            topic, why = camera.input.topic, camera.input.why_silent()
            self._warn(("silence", topic), f"no image on {topic} for {silence_s:g} s: {why}")
        return camera.monitor.report(silence_s)

    def _handle(self, messages: dict[str, _Message]) -> None:
        """One image of each of these cameras, in the worker's thread."""
        begin = perf_counter()
        if self.settings is not self._pipeline.config:
            self._pipeline.reconfigure(self.settings)
        frames = self._convert(messages)
        converted_ms = _since_ms(begin)
        for name, result in self._pipeline(frames).items():
            camera = self._cameras[name]
            if isinstance(result, RuntimeError):  # PyTorch's, as when a GPU is full
                self._lose(f"image on {camera.input.topic}", result, camera.monitor)
                continue
            max_missed_s = self._pipeline.config.tracker.max_missed_s
            named = camera.identities.update(result, max_missed_s)
            spent_ms = self._publish(camera, named, frames[name].image_rgb, messages[name].header)
            latency_ms = {"convert": converted_ms, **result.latency_ms, **spent_ms}
            camera.monitor.processed(named, latency_ms | {"total": _since_ms(begin)})

    def _convert(self, messages: dict[str, _Message]) -> dict[str, Frame]:
        """The images that are of use, by camera."""
        frames = {}
        for name, message in messages.items():
            camera = self._cameras[name]
            try:
                frames[name] = Frame(to_rgb(message), stamp_s(message.header))
            except ConversionError as error:
                self._lose(f"image on {camera.input.topic}", error, camera.monitor)
                continue
            self._watch_time(camera, frames[name].stamp_s)
        return frames

    def _publish(
        self, camera: "_Camera", result: FrameEmotions, image_rgb: NDArray[uint8], header: Header
    ) -> dict[str, float]:
        """Tells all that is known of an image, and gives the milliseconds that it took."""
        begin = perf_counter()
        present = camera.identities.present
        self._outputs.publish(camera.name, result, header)
        self._outputs.publish_humans(camera.name, result, present, image_rgb, header)
        if camera.poses:
            camera.poses.publish(result, header, image_rgb.shape[:2])
        published_ms = _since_ms(begin)
        drawing = perf_counter()
        self._outputs.draw(camera.name, result, image_rgb, header)
        self._note(result, camera.input.topic)
        return {"publish": published_ms, "draw": _since_ms(drawing)}

    def _watch_time(self, camera: "_Camera", stamp_s: float) -> None:
        topic = camera.input.topic
        if stamp_s == 0:
            text = "images without a stamp: faces are followed by it; see the camera's driver"
            self._warn(("stamp", topic), f"{topic}: {text}")
        if stamp_s < camera.newest_s - _BACK_S:
            back_s = camera.newest_s - stamp_s
            self._logger.info(f"{topic}: the stamps ran back by {back_s:.1f} s: all faces are new")
            self._forget(camera)
        camera.newest_s = max(camera.newest_s, stamp_s)

    def _forget(self, camera: "_Camera") -> None:
        camera.newest_s = -math.inf
        camera.identities.forget()
        self._pipeline.reset(camera.name)


class _Camera:
    """What each camera has of its own; ``on_image(name, message)`` says if it replaces another."""

    def __init__(
        self,
        node: LifecycleNode,
        config: NodeConfig,
        name: str,
        identities: Identities,
        on_image: Callable[[str, _Message], bool],
    ) -> None:
        self.name = name
        self.identities = identities
        self.monitor = Monitor()
        self.newest_s = -math.inf
        self._on_image = on_image
        self.input = ImageInput(node, config, name, self._take)
        with ExitStack() as undo:
            undo.callback(self.input.close)
            self.poses = _make_poses(node, name, self.input.topic) if config.publish_tf else None
            undo.pop_all()

    def close(self) -> None:
        """Takes the topics down."""
        self.input.close()
        if self.poses:
            self.poses.close()

    def _take(self, message: _Message) -> None:
        self.monitor.received()
        if self._on_image(self.name, message):
            self.monitor.dropped()


def _make_poses(node: LifecycleNode, camera: str, image_topic: str) -> "HeadPoses":
    from fer_ros.ros.head_pose import HeadPoses  # brings tf2_msgs, which not all have

    return HeadPoses(node, camera, image_topic)


def _since_ms(begin: float) -> float:
    """Milliseconds since a moment of ``perf_counter``."""
    return (perf_counter() - begin) * 1000
