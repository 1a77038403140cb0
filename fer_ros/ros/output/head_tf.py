"""Head poses as TF frames ``face_<id>``, children of the camera's frame."""

import re
from time import monotonic

import numpy as np
from geometry_msgs.msg import Quaternion, Transform, TransformStamped, Vector3
from rclpy.node import Node
from sensor_msgs.msg import CameraInfo
from std_msgs.msg import Header
from tf2_msgs.msg import TFMessage

from fer_ros.head_pose import CameraIntrinsics, HeadPose, estimate_head_pose
from fer_ros.ros.convert import to_time
from fer_ros.ros.parameters import camera_topic, image_qos
from fer_ros.types import FaceEmotion, FrameResult

_CAMERA_INFO = "camera_info"
_TF_DEPTH = 100  # the default of tf2_ros
_CAMERA_INFO_TIMEOUT_S = 1.0  # the first image may arrive before its calibration
# image_proc: .../image_rect_color; other drivers: .../rect/image
_RECTIFIED = re.compile(r"(?:^|[/_])rect(?:ified)?(?:_[^/]*)?$|(?:^|/)rect(?:ified)?/")


class HeadTransformBroadcaster:
    """Publishes head poses once the calibration of the camera has arrived.

    The calibration is expected on ``camera_info`` next to the image topic, as image_transport
    defines it, unless the name ``camera_info`` (below the name of the camera) is remapped. The
    reason why no pose can be published is logged once.
    """

    def __init__(self, node: Node, camera: str, image_topic: str) -> None:
        self._node = node
        self._created_s = monotonic()
        self._warned: set[str] = set()
        self._info: CameraInfo | None = None
        self._is_rectified = is_rectified(image_topic)
        self._publisher = node.create_publisher(TFMessage, "/tf", _TF_DEPTH)
        self._image_topic = image_topic
        topic = camera_info_topic(node, camera, image_topic)
        self._subscription = node.create_subscription(
            CameraInfo, topic, self._on_camera_info, image_qos("sensor_data")
        )

    def close(self) -> None:
        """Destroy publisher and subscription."""
        self._node.destroy_subscription(self._subscription)
        self._node.destroy_publisher(self._publisher)

    def publish(self, result: FrameResult, header: Header, size_hw: tuple[int, ...]) -> None:
        """Publish the poses of the readable faces of one image of ``size_hw`` pixels.

        Images without a stamp give poses at the estimated one: TF ignores a repeated stamp.
        """
        try:
            camera = self._intrinsics(header, size_hw)
        except ValueError as error:
            self._warn_once(str(error))
            return
        if camera is None:
            return
        if result.stamp_is_estimated:
            header = Header(stamp=to_time(result.stamp_s), frame_id=header.frame_id)
        transforms = [
            to_transform(face, pose, header)
            for face in result.faces
            if face.is_readable and (pose := estimate_head_pose(face.points_xy, camera))
        ]
        if transforms:
            self._publisher.publish(TFMessage(transforms=transforms))

    def _on_camera_info(self, message: CameraInfo) -> None:
        self._info = message

    def _intrinsics(self, header: Header, size_hw: tuple[int, ...]) -> CameraIntrinsics | None:
        """Calibration for images of this size (H, W); None while it may still arrive."""
        topic, info = self._subscription.topic_name, self._info
        if not header.frame_id:
            raise ValueError(
                f"{self._image_topic}: header.frame_id is empty; set frame_id in the camera driver"
            )
        if info is None:
            if monotonic() - self._created_s < _CAMERA_INFO_TIMEOUT_S:
                return None
            raise ValueError(
                f"no calibration received on {topic}; is camera_info published or remapped?"
            )
        height, width = image_size(info)
        if (height, width) != size_hw:
            raise ValueError(
                f"{topic} is for {width} x {height} pixels, the images have "
                f"{size_hw[1]} x {size_hw[0]}; calibrate the camera at this size"
            )
        try:
            return to_intrinsics(info, self._is_rectified)
        except ValueError as error:
            raise ValueError(f"{topic}: {error}") from None

    def _warn_once(self, reason: str) -> None:
        if reason not in self._warned:
            self._warned.add(reason)
            self._node.get_logger().warning(f"No head poses are published: {reason}.")


def camera_info_topic(node: Node, camera: str, image_topic: str) -> str:
    """Topic with the calibration of the images on ``image_topic``."""
    own_name = camera_topic(camera, _CAMERA_INFO)
    remapped = node.resolve_topic_name(own_name)
    if remapped != node.resolve_topic_name(own_name, only_expand=True):
        return remapped
    image_namespace = image_topic.removesuffix("/compressed").rpartition("/")[0]
    return f"{image_namespace}/{_CAMERA_INFO}"


def is_rectified(image_topic: str) -> bool:
    """Whether the images are rectified, by the name or a folder of their topic (image_rect...)."""
    return _RECTIFIED.search(image_topic.removesuffix("/compressed")) is not None


def image_size(info: CameraInfo) -> tuple[int, int]:
    """Height and width of the images in pixels: the region of interest after binning."""
    binning_x, binning_y = _binning(info)
    height, width = info.roi.height or info.height, info.roi.width or info.width
    return height // binning_y, width // binning_x


def to_intrinsics(info: CameraInfo, is_rectified: bool = False) -> CameraIntrinsics:
    """Calibration of a message for pixels of its images.

    Rectified images have the projection matrix ``p`` and no distortion. ``k``, ``p`` and ``roi``
    refer to the full image; they are applied as in PinholeCameraModel of image_geometry. Raises
    ValueError, one line, when the calibration cannot be used.
    """
    if is_rectified:
        matrix = np.array(info.p, np.float64).reshape(3, 4)[:, :3]
    else:
        matrix = np.array(info.k, np.float64).reshape(3, 3)
    matrix[:2, 2] -= info.roi.x_offset, info.roi.y_offset
    matrix[:2] /= np.array(_binning(info))[:, None]
    distortion = [] if is_rectified else info.d
    return CameraIntrinsics(matrix, np.array(distortion, np.float64), info.distortion_model)


def _binning(info: CameraInfo) -> tuple[int, int]:
    """Sensor pixels per image pixel, horizontally and vertically; 0 means 1."""
    return info.binning_x or 1, info.binning_y or 1


def to_transform(face: FaceEmotion, pose: HeadPose, header: Header) -> TransformStamped:
    """Transform from the frame of the image to the frame of a face."""
    x, y, z = pose.position_m.tolist()
    qx, qy, qz, qw = pose.quaternion_xyzw.tolist()
    return TransformStamped(
        header=header,
        child_frame_id=f"face_{face.id}",
        transform=Transform(
            translation=Vector3(x=x, y=y, z=z), rotation=Quaternion(x=qx, y=qy, z=qz, w=qw)
        ),
    )
