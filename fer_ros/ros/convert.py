"""Conversion between ROS messages and the types of the library.

Common image encodings are decoded without cv_bridge, which fails where it was built against another
NumPy version. It is used for all other encodings, if it is installed.
"""

import sys
from collections.abc import Mapping

import cv2
import numpy as np
from builtin_interfaces.msg import Time
from numpy.typing import NDArray
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header
from vision_msgs.msg import (
    Detection2D,
    Detection2DArray,
    LabelInfo,
    ObjectHypothesis,
    ObjectHypothesisWithPose,
    VisionClass,
)

from fer_ros.emotions import EMOTIONS
from fer_ros.io.errors import single_line
from fer_ros.io.image_decoding import (
    ConversionError,
    UnknownEncodingError,
    WarningCallback,
    decode_compressed,
    decode_raw,
    encode_jpeg,
    ignore_warning,
)
from fer_ros.message_fields import bounding_box, sorted_hypotheses
from fer_ros.types import FaceEmotion

_DEFAULT_NAMES = {emotion: emotion for emotion in EMOTIONS}
# cv_bridge raises its own TypeError, NumPy's errors for inconsistent messages, and any of these
# where it was built for another NumPy.
_CV_BRIDGE_ERRORS = (
    *(TypeError, ValueError, LookupError, AttributeError, ImportError, RuntimeError, SystemError),
    cv2.error,
)


def to_rgb(
    message: Image | CompressedImage, warn: WarningCallback = ignore_warning
) -> NDArray[np.uint8]:
    """Image (H, W, 3), RGB; it may share the memory of the message.

    ``warn`` takes one line where the bit depth of the image was inferred. Raises ConversionError
    when the message is inconsistent or its encoding is unknown.
    """
    if isinstance(message, CompressedImage):
        return decode_compressed(message, warn)
    try:
        return decode_raw(message, warn)
    except UnknownEncodingError as error:
        return _decode_with_cv_bridge(message, error)


def _decode_with_cv_bridge(message: Image, unknown: UnknownEncodingError) -> NDArray[np.uint8]:
    try:
        from cv_bridge import CvBridge
    except ImportError:
        raise unknown from None
    try:
        return np.asarray(CvBridge().imgmsg_to_cv2(message, "rgb8"), np.uint8)
    except _CV_BRIDGE_ERRORS as error:
        reason = single_line(error)
        raise ConversionError(f"cv_bridge on encoding {message.encoding!r}: {reason}") from None


def to_image(image_rgb: NDArray[np.uint8], header: Header) -> Image:
    """Message with encoding ``rgb8`` of an image (H, W, 3)."""
    height, width = image_rgb.shape[:2]
    message = Image(header=header, height=height, width=width, encoding="rgb8", step=3 * width)
    message.is_bigendian = sys.byteorder == "big"
    # Assigning to message.data would copy byte by byte.
    message.data.frombytes(np.ascontiguousarray(image_rgb).data)
    return message


def to_compressed(image_rgb: NDArray[np.uint8], header: Header) -> CompressedImage:
    """JPEG message of an image (H, W, 3)."""
    message = CompressedImage(header=header, format="rgb8; jpeg compressed bgr8")
    message.data.frombytes(encode_jpeg(image_rgb).data)
    return message


def stamp_s(header: Header) -> float:
    """Stamp of a header in seconds."""
    return float(header.stamp.sec + header.stamp.nanosec * 1e-9)


def to_time(stamp_s: float) -> Time:
    """Message of a stamp in seconds."""
    nanoseconds = round(stamp_s * 1e9)
    return Time(sec=nanoseconds // 10**9, nanosec=nanoseconds % 10**9)


def to_detection_array(
    faces: list[FaceEmotion], header: Header, names: Mapping[str, str] = _DEFAULT_NAMES
) -> Detection2DArray:
    """Message with one detection per face: id, box in pixels, and hypotheses of all emotions.

    The first hypothesis is the label, after hysteresis; the others follow by decreasing
    probability. A face that is not readable has no hypotheses. ``names`` maps emotions to
    published names.
    """
    return Detection2DArray(
        header=header, detections=[_to_detection(face, header, names) for face in faces]
    )


def _to_detection(face: FaceEmotion, header: Header, names: Mapping[str, str]) -> Detection2D:
    detection = Detection2D(header=header, id=face.id)
    box = bounding_box(face)
    detection.bbox.center.position.x = box.center_x
    detection.bbox.center.position.y = box.center_y
    detection.bbox.size_x = box.size_x
    detection.bbox.size_y = box.size_y
    detection.results = [
        ObjectHypothesisWithPose(
            hypothesis=ObjectHypothesis(class_id=names[emotion], score=probability)
        )
        for emotion, probability in sorted_hypotheses(face)
    ]
    return detection


def to_label_info(header: Header, names: Mapping[str, str] = _DEFAULT_NAMES) -> LabelInfo:
    """Message with the names and numbers of the eight emotions; the threshold is 0."""
    classes = [
        VisionClass(class_id=number, class_name=names[emotion])
        for number, emotion in enumerate(EMOTIONS)
    ]
    return LabelInfo(header=header, class_map=classes, threshold=0.0)
