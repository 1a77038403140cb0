"""Between ROS messages and the library's types.

The usual image encodings are decoded without cv_bridge, which breaks wherever its NumPy is not the
one that is installed. It is asked for the unusual ones only.
"""

import sys
from collections.abc import Mapping

import cv2
import numpy as np
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

from fer_ros.decode import ConversionError, UnknownEncodingError, decompress, to_jpeg
from fer_ros.decode import to_rgb as decode
from fer_ros.errors import one_line
from fer_ros.labels import EMOTIONS
from fer_ros.records import ranked
from fer_ros.types import FaceEmotion

_OWN_NAMES = {emotion: emotion for emotion in EMOTIONS}


def to_rgb(message: Image | CompressedImage) -> NDArray[np.uint8]:
    """The picture (H, W, 3), RGB; it may share the memory of the message.

    Of 16 bits per sample the upper eight are kept. ``8UC3`` is taken for BGR. Raises
    ConversionError when the message contradicts itself or its encoding is unknown.
    """
    if isinstance(message, CompressedImage):
        return decompress(message)
    try:
        return decode(message)
    except UnknownEncodingError as error:
        return _ask_cv_bridge(message, error)


def _ask_cv_bridge(message: Image, unknown: UnknownEncodingError) -> NDArray[np.uint8]:
    try:
        from cv_bridge import CvBridge, CvBridgeError
    except ImportError:
        raise unknown from None
    try:
        return np.asarray(CvBridge().imgmsg_to_cv2(message, "rgb8"), np.uint8)
    except (CvBridgeError, cv2.error) as error:
        reason = one_line(error)
        raise ConversionError(f"cv_bridge on encoding {message.encoding!r}: {reason}") from None


def to_image(image_rgb: NDArray[np.uint8], header: Header) -> Image:
    """An ``rgb8`` message of the picture (H, W, 3)."""
    height, width = image_rgb.shape[:2]
    message = Image(header=header, height=height, width=width, encoding="rgb8", step=3 * width)
    message.is_bigendian = sys.byteorder == "big"
    # Assigning to data would walk through it byte by byte.
    message.data.frombytes(np.ascontiguousarray(image_rgb).data)
    return message


def to_compressed(image_rgb: NDArray[np.uint8], header: Header) -> CompressedImage:
    """A JPEG message of the picture (H, W, 3)."""
    message = CompressedImage(header=header, format="rgb8; jpeg compressed bgr8")
    message.data.frombytes(to_jpeg(image_rgb).data)
    return message


def stamp_s(header: Header) -> float:
    """Seconds of a header's stamp."""
    return float(header.stamp.sec + header.stamp.nanosec * 1e-9)


def to_detections(
    faces: list[FaceEmotion], header: Header, names: Mapping[str, str] = _OWN_NAMES
) -> Detection2DArray:
    """One detection per face, with id, box in pixels and all eight emotions, best first.

    The first is the face's stable label, which a close second does not replace at once; the others
    follow by their probabilities. A face that cannot be read has no hypotheses. ``names`` has what
    each emotion is called.
    """
    return Detection2DArray(
        header=header, detections=[_to_detection(face, header, names) for face in faces]
    )


def _to_detection(face: FaceEmotion, header: Header, names: Mapping[str, str]) -> Detection2D:
    detection = Detection2D(header=header, id=face.id)
    left, top, right, bottom = (float(edge) for edge in face.box_xyxy)
    detection.bbox.center.position.x = (left + right) / 2
    detection.bbox.center.position.y = (top + bottom) / 2
    detection.bbox.size_x = right - left
    detection.bbox.size_y = bottom - top
    detection.results = [
        ObjectHypothesisWithPose(hypothesis=ObjectHypothesis(class_id=names[emotion], score=share))
        for emotion, share in ranked(face)
    ]
    return detection


def to_label_info(header: Header, names: Mapping[str, str] = _OWN_NAMES) -> LabelInfo:
    """The eight emotions with their numbers; every probability is reported, so no threshold."""
    classes = [
        VisionClass(class_id=number, class_name=names[emotion])
        for number, emotion in enumerate(EMOTIONS)
    ]
    return LabelInfo(header=header, class_map=classes, threshold=0.0)
