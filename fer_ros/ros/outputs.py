"""Where results go: topics, and a file of JSON lines where one is asked for."""

import json
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from numpy import uint8
from numpy.typing import NDArray
from rclpy.lifecycle import LifecycleNode
from rclpy.qos import DurabilityPolicy, QoSProfile
from sensor_msgs.msg import Image
from std_msgs.msg import Header
from vision_msgs.msg import Detection2DArray, LabelInfo

from fer_ros.draw import draw
from fer_ros.records import to_record
from fer_ros.ros.convert import to_detections, to_image, to_label_info
from fer_ros.ros.params import NodeConfig, below, label_names
from fer_ros.ros.privacy import PrivacyNotice, is_installed
from fer_ros.types import FrameEmotions

if TYPE_CHECKING:
    from fer_ros.ros.humans import Humans

_LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)


class Outputs:
    """The publishers of a configured node; those of results speak while the node is active.

    Raises OSError when the file ``log_path`` cannot be
    opened; "" means no file.
    """

    def __init__(self, node: LifecycleNode, config: NodeConfig) -> None:
        self.config = config
        self._node = node
        self._names = label_names(config.label_map)
        self._log = _open(config.log_path) if config.log_path else None
        with ExitStack() as undo:
            undo.callback(self._close_log)
            self._topics = {
                camera: undo.enter_context(closing(_Topics(node, camera, self._names)))
                for camera in config.cameras
            }
            self._notice = PrivacyNotice(node, config) if is_installed() else None
            if self._notice:
                undo.callback(self._notice.close)
            self._humans = self._make_humans() if config.source == "camera" else None
            undo.pop_all()

    def reconfigure(self, config: NodeConfig) -> None:
        """Goes on with these settings, from the next image on."""
        self.config = config
        if self._notice:
            self._notice.publish(config)

    def publish(self, camera: str, result: FrameEmotions, header: Header) -> None:
        """The emotions of one frame, under the header of its image."""
        emotions = to_detections(result.faces, header, self._names)
        self._topics[camera].emotions.publish(emotions)

    def publish_humans(
        self,
        camera: str,
        result: FrameEmotions,
        present: list[str],
        image_rgb: NDArray[uint8],
        header: Header,
    ) -> None:
        """The faces as REP-155 has them; ``present`` has the ids of those that are not gone."""
        if self._humans and self.config.publish_humans:
            with_pictures = not self.config.privacy
            self._humans.publish(camera, result, present, image_rgb, header, with_pictures)
        else:
            self.forget(camera)

    def forget(self, camera: str) -> None:
        """Nobody is there any more."""
        if self._humans:
            self._humans.forget(camera)

    def draw(
        self, camera: str, result: FrameEmotions, image_rgb: NDArray[uint8], header: Header
    ) -> None:
        """The annotated image (H, W, 3), for those who watch; costs nothing when nobody does."""
        topics = self._topics[camera]
        if not topics.debug_image.get_subscription_count():
            return
        if not self.config.privacy:
            topics.debug_image.publish(to_image(draw(image_rgb, result.faces), header))
        elif not topics.told_privacy:
            topics.told_privacy = True
            self._node.get_logger().warning(
                f"{topics.debug_image.topic_name} is watched, but the parameter privacy keeps "
                "pictures back; to see them, start the node with privacy:=false"
            )

    def note(self, result: FrameEmotions, source: str) -> None:
        """One line in the file, if there is one. Raises OSError, as when the disk is full."""
        if self._log:
            record = to_record(source, result.stamp_s, result.faces)
            self._log.write(json.dumps(record) + "\n")

    def close(self) -> None:
        """Takes the topics down and closes the file."""
        for topics in self._topics.values():
            topics.close()
        if self._humans:
            self._humans.close()
        if self._notice:
            self._notice.close()
        self._close_log()

    def _make_humans(self) -> "Humans | None":
        try:
            from fer_ros.ros.humans import Humans, hri_words
        except ModuleNotFoundError as error:
            if str(error.name).partition(".")[0] != "hri_msgs":
                raise
            self._node.get_logger().info(
                f"hri_msgs is not installed: nothing below {self.config.humans_prefix}"
            )
            return None
        return Humans(self._node, self.config.humans_prefix, hri_words(self._names))

    def _close_log(self) -> None:
        if self._log:
            with suppress(OSError):  # a full disk was told when the lines were written
                self._log.close()


class _Topics:
    """The topics of one camera."""

    def __init__(self, node: LifecycleNode, camera: str, names: dict[str, str]) -> None:
        self._node = node
        self.told_privacy = False
        own = "~/" + below(camera, "")
        self.emotions = node.create_lifecycle_publisher(Detection2DArray, f"{own}emotions", 10)
        self.debug_image = node.create_lifecycle_publisher(Image, f"{own}debug_image", 1)
        self._labels = node.create_publisher(LabelInfo, f"{own}emotions/labels", _LATCHED)
        now = Header(stamp=node.get_clock().now().to_msg())
        self._labels.publish(to_label_info(now, names))

    def close(self) -> None:
        self._node.destroy_lifecycle_publisher(self.emotions)
        self._node.destroy_lifecycle_publisher(self.debug_image)
        self._node.destroy_publisher(self._labels)


def _open(log_path: str) -> TextIO:
    try:  # line by line: what was seen is in the file even when the process is killed
        return Path(log_path).open("a", buffering=1, encoding="utf-8")
    except OSError as error:
        raise OSError(f"parameter log_path: {log_path}: {error.strerror}") from None
