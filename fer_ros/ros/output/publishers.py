"""Publishers of results: topics, and an optional JSON lines file."""

import json
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from numpy import uint8
from numpy.typing import NDArray
from rclpy.lifecycle import LifecycleNode
from sensor_msgs.msg import Image
from std_msgs.msg import Header
from vision_msgs.msg import Detection2DArray, LabelInfo

from fer_ros.io.serialization import frame_record
from fer_ros.ros.convert import to_detection_array, to_image, to_label_info
from fer_ros.ros.parameters import NodeConfig, camera_topic, label_names
from fer_ros.ros.privacy import PrivacyNotice, is_installed
from fer_ros.ros.qos import LATCHED
from fer_ros.types import FrameResult
from fer_ros.visualization import draw

if TYPE_CHECKING:
    from fer_ros.ros.output.hri_publishers import HriFacePublishers


class ResultPublishers:
    """Publishers of a configured node; results are sent only while the node is active.

    Raises OSError when the file ``results_log_path`` cannot be opened; "" means no file.
    """

    def __init__(self, node: LifecycleNode, config: NodeConfig) -> None:
        self.config = config
        self._node = node
        self._label_names = label_names(config.label_map)
        self._log = _open_log(config.results_log_path) if config.results_log_path else None
        with ExitStack() as undo:
            undo.callback(self._close_log)
            self._cameras = {
                camera: undo.enter_context(
                    closing(_CameraPublishers(node, camera, self._label_names))
                )
                for camera in config.cameras
            }
            self._privacy_notice = PrivacyNotice(node, config) if is_installed() else None
            if self._privacy_notice:
                undo.callback(self._privacy_notice.close)
            self._hri = self._create_hri() if config.input_source == "camera" else None
            undo.pop_all()

    def reconfigure(self, config: NodeConfig) -> None:
        """Use these settings from the next image on."""
        self.config = config
        if self._privacy_notice:
            self._privacy_notice.publish(config)

    def publish(self, camera: str, result: FrameResult, header: Header) -> None:
        """Publish the emotions of one image under its header."""
        emotions = to_detection_array(result.faces, header, self._label_names)
        self._cameras[camera].emotions.publish(emotions)

    def publish_hri(
        self,
        camera: str,
        result: FrameResult,
        active_ids: list[str],
        image_rgb: NDArray[uint8],
        header: Header,
    ) -> None:
        """Publish the REP-155 topics; ``active_ids`` are the faces that are not lost."""
        if self._hri and self.config.publish_humans:
            with_images = self.config.publish_images
            self._hri.publish(camera, result, active_ids, image_rgb, header, with_images)
        else:
            self.clear(camera)

    def clear(self, camera: str) -> None:
        """Report that the camera shows no face any more."""
        if self._hri:
            self._hri.clear(camera)

    def other_hri_publishers(self) -> list[str]:
        """Full names of other nodes that publish the same REP-155 list of faces."""
        return self._hri.other_publishers() if self._hri else []

    def publish_debug_image(
        self, camera: str, result: FrameResult, image_rgb: NDArray[uint8], header: Header
    ) -> None:
        """Publish the annotated image (H, W, 3) if it has subscribers."""
        publishers = self._cameras[camera]
        if not publishers.debug_image.get_subscription_count():
            return
        if self.config.publish_images:
            publishers.debug_image.publish(to_image(draw(image_rgb, result.faces), header))
        elif not publishers.images_disabled_warned:
            publishers.images_disabled_warned = True
            self._node.get_logger().warning(
                f"{publishers.debug_image.topic_name} has subscribers, but publish_images is "
                "false; to see images, restart the node with publish_images:=true"
            )

    def log_result(self, result: FrameResult, image_topic: str) -> None:
        """Append one line to the results file, if there is one. Raises OSError (disk full)."""
        if self._log:
            record = frame_record(image_topic, result.stamp_s, result.faces)
            self._log.write(json.dumps(record) + "\n")

    def close(self) -> None:
        """Destroy the publishers and close the file."""
        for publishers in self._cameras.values():
            publishers.close()
        if self._hri:
            self._hri.close()
        if self._privacy_notice:
            self._privacy_notice.close()
        self._close_log()

    def _create_hri(self) -> "HriFacePublishers | None":
        try:
            from fer_ros.ros.output.hri_publishers import HriFacePublishers, expression_names
        except ModuleNotFoundError as error:
            if str(error.name).partition(".")[0] != "hri_msgs":
                raise
            self._node.get_logger().info(
                f"hri_msgs is not installed: no topics below {self.config.hri_namespace}"
            )
            return None
        names = expression_names(self._label_names)
        return HriFacePublishers(self._node, self.config.hri_namespace, names)

    def _close_log(self) -> None:
        if self._log:
            with suppress(OSError):  # a full disk was reported when the lines were written
                self._log.close()


class _CameraPublishers:
    """Publishers of one camera."""

    def __init__(self, node: LifecycleNode, camera: str, names: dict[str, str]) -> None:
        self._node = node
        self.images_disabled_warned = False
        prefix = "~/" + camera_topic(camera, "")
        self.emotions = node.create_lifecycle_publisher(Detection2DArray, f"{prefix}emotions", 10)
        self.debug_image = node.create_lifecycle_publisher(Image, f"{prefix}debug_image", 1)
        self._labels = node.create_publisher(LabelInfo, f"{prefix}emotions/labels", LATCHED)
        now = Header(stamp=node.get_clock().now().to_msg())
        self._labels.publish(to_label_info(now, names))

    def close(self) -> None:
        self._node.destroy_lifecycle_publisher(self.emotions)
        self._node.destroy_lifecycle_publisher(self.debug_image)
        self._node.destroy_publisher(self._labels)


def _open_log(path: str) -> TextIO:
    try:  # line buffered: lines survive when the process is killed
        return Path(path).open("a", buffering=1, encoding="utf-8")
    except OSError as error:
        raise OSError(f"parameter results_log_path: {path}: {error.strerror}") from None
