"""Heads as frames of TF: ``face_<id>`` below the frame of the image."""

from time import monotonic

import numpy as np
from geometry_msgs.msg import Quaternion, Transform, TransformStamped, Vector3
from rclpy.node import Node
from sensor_msgs.msg import CameraInfo
from std_msgs.msg import Header
from tf2_msgs.msg import TFMessage

from fer_ros.pose import Camera, HeadPose, head_pose
from fer_ros.ros.params import below, image_qos
from fer_ros.types import FaceEmotion, FrameEmotions

_OWN_NAME = "camera_info"
_DEPTH = 100  # of /tf, as everybody has it
_PATIENCE_S = 1.0  # the first image may be here before its calibration is


class HeadPoses:
    """Publishes where heads are, once the calibration of the camera has come.

    It comes on ``camera_info`` beside the topic of the images, as image_transport has it, unless
    that name, below that of the camera if it has one, is remapped. Why there is nothing to publish
    is told once.
    """

    def __init__(self, node: Node, camera: str, image_topic: str) -> None:
        self._node = node
        self._born_s = monotonic()
        self._told: set[str] = set()
        self._info: CameraInfo | None = None
        self._transforms = node.create_publisher(TFMessage, "/tf", _DEPTH)
        self._subscription = node.create_subscription(
            CameraInfo, info_topic(node, camera, image_topic), self._hear, image_qos("sensor_data")
        )

    def close(self) -> None:
        """Takes the topics down."""
        self._node.destroy_subscription(self._subscription)
        self._node.destroy_publisher(self._transforms)

    def publish(self, result: FrameEmotions, header: Header, size_hw: tuple[int, ...]) -> None:
        """The heads of the faces of one image that can be read."""
        try:
            camera = self._camera(header, size_hw)
        except ValueError as error:
            self._tell(str(error))
            return
        if camera is None:
            return
        found = [
            to_transform(face, pose, header)
            for face in result.faces
            if face.usable and (pose := head_pose(face.points_xy, camera))
        ]
        if found:
            self._transforms.publish(TFMessage(transforms=found))

    def _hear(self, message: CameraInfo) -> None:
        self._info = message

    def _camera(self, header: Header, size_hw: tuple[int, ...]) -> Camera | None:
        """The calibration for images of this size (H, W); None while it may still come."""
        topic, info = self._subscription.topic_name, self._info
        if not header.frame_id:
            raise ValueError("the images have no frame_id")
        if info is None:
            if monotonic() - self._born_s < _PATIENCE_S:
                return None
            raise ValueError(f"no calibration on {topic}")
        height, width = image_size(info)
        if (height, width) != size_hw:
            seen = f"{size_hw[1]} x {size_hw[0]}"
            raise ValueError(f"{topic} is of {width} x {height} pixels, the images have {seen}")
        try:
            return to_camera(info)
        except ValueError as error:
            raise ValueError(f"{topic}: {error}") from None

    def _tell(self, why: str) -> None:
        if why not in self._told:
            self._told.add(why)
            self._node.get_logger().warning(f"no heads in TF: {why}")


def info_topic(node: Node, camera: str, image_topic: str) -> str:
    """Where the calibration of the images on this topic is published."""
    own_name = below(camera, _OWN_NAME)
    remapped = node.resolve_topic_name(own_name)
    if remapped != node.resolve_topic_name(own_name, only_expand=True):
        return remapped
    above = image_topic.removesuffix("/compressed").rpartition("/")[0]
    return f"{above}/{_OWN_NAME}"


def image_size(info: CameraInfo) -> tuple[int, int]:
    """Height and width of the images: the region that the camera sends, in pixels after binning."""
    binning_x, binning_y = _binning(info)
    height, width = info.roi.height or info.height, info.roi.width or info.width
    return height // binning_y, width // binning_x


def to_camera(info: CameraInfo) -> Camera:
    """The calibration of a message, for pixels of its images.

    ``k`` and ``roi`` are those of the full image, as the comments in the message have it; they are
    applied as by PinholeCameraModel of image_geometry. Raises ValueError, one line, when the
    calibration is of no use.
    """
    matrix = np.array(info.k, np.float64).reshape(3, 3)
    matrix[:2, 2] -= info.roi.x_offset, info.roi.y_offset
    matrix[:2] /= np.array(_binning(info))[:, None]
    return Camera(matrix, np.array(info.d, np.float64), info.distortion_model)


def _binning(info: CameraInfo) -> tuple[int, int]:
    """Pixels of the sensor behind one of the image; 0 means 1."""
    return info.binning_x or 1, info.binning_y or 1


def to_transform(face: FaceEmotion, pose: HeadPose, header: Header) -> TransformStamped:
    """The frame of a face below that of its image."""
    x, y, z = pose.position_m.tolist()
    qx, qy, qz, qw = pose.quaternion_xyzw.tolist()
    return TransformStamped(
        header=header,
        child_frame_id=f"face_{face.id}",
        transform=Transform(
            translation=Vector3(x=x, y=y, z=z), rotation=Quaternion(x=qx, y=qy, z=qz, w=qw)
        ),
    )
