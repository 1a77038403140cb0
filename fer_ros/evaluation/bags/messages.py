"""Serialize and deserialize ROS messages without ROS.

The definitions stored in a bag are not needed: the messages used here are the same in every
ROS 2 distribution.
"""

import struct
from functools import cache
from typing import Any

from rosbags.serde import SerdeError
from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore

IMAGE = "sensor_msgs/msg/Image"
COMPRESSED = "sensor_msgs/msg/CompressedImage"
STRING = "std_msgs/msg/String"
DETECTIONS = "vision_msgs/msg/Detection2DArray"
LABEL_INFO = "vision_msgs/msg/LabelInfo"
ACTION_UNITS = "hri_msgs/msg/FacialActionUnits"
EXPRESSION = "hri_msgs/msg/Expression"
IDS = "hri_msgs/msg/IdsList"
REGION = "hri_msgs/msg/NormalizedRegionOfInterest2D"
LANDMARKS = "hri_msgs/msg/FacialLandmarks"
POINT = "hri_msgs/msg/NormalizedPointOfInterest2D"

BYTES_ERRORS = (SerdeError, struct.error, ValueError, TypeError, IndexError, KeyError)
"""What ``from_bytes`` raises when the bytes are another message."""

_HEADER = "std_msgs/Header header\n"
_DEFINITIONS = {
    "vision_msgs/msg/Point2D": "float64 x\nfloat64 y",
    "vision_msgs/msg/Pose2D": "vision_msgs/Point2D position\nfloat64 theta",
    "vision_msgs/msg/BoundingBox2D": "vision_msgs/Pose2D center\nfloat64 size_x\nfloat64 size_y",
    "vision_msgs/msg/ObjectHypothesis": "string class_id\nfloat64 score",
    "vision_msgs/msg/ObjectHypothesisWithPose": (
        "vision_msgs/ObjectHypothesis hypothesis\ngeometry_msgs/PoseWithCovariance pose"
    ),
    "vision_msgs/msg/Detection2D": (
        _HEADER + "vision_msgs/ObjectHypothesisWithPose[] results\n"
        "vision_msgs/BoundingBox2D bbox\nstring id"
    ),
    DETECTIONS: _HEADER + "vision_msgs/Detection2D[] detections",
    "vision_msgs/msg/VisionClass": "uint16 class_id\nstring class_name",
    LABEL_INFO: _HEADER + "vision_msgs/VisionClass[] class_map\nfloat32 threshold",
    ACTION_UNITS: _HEADER + "float32[99] intensity\nfloat32[99] confidence",
    EXPRESSION: (
        _HEADER + "string expression\nfloat32 valence\nfloat32 arousal\nfloat32 confidence"
    ),
    IDS: _HEADER + "string[] ids",
    REGION: _HEADER + "float32 xmin\nfloat32 ymin\nfloat32 xmax\nfloat32 ymax\nfloat32 c",
    POINT: "float32 x\nfloat32 y\nfloat32 c",
    LANDMARKS: (
        _HEADER + "hri_msgs/NormalizedPointOfInterest2D[70] landmarks\nuint32 height\nuint32 width"
    ),
}


@cache
def typestore() -> Typestore:
    """Message definitions of ROS 2 Humble, vision_msgs and hri_msgs."""
    store = get_typestore(Stores.ROS2_HUMBLE)
    for name, definition in _DEFINITIONS.items():
        store.register(get_types_from_msg(definition, name))
    return store


def make(name: str, *fields: Any) -> Any:
    """Create a message of this type from its fields in order."""
    return typestore().types[name](*fields)


def make_header(stamp_ns: int, frame_id: str) -> Any:
    """Create a ``std_msgs/Header``."""
    stamp = make("builtin_interfaces/msg/Time", stamp_ns // 10**9, stamp_ns % 10**9)
    return make("std_msgs/msg/Header", stamp, frame_id)


def to_bytes(name: str, message: Any) -> memoryview:
    """Serialize a message of this type as CDR."""
    return typestore().serialize_cdr(message, name)


def from_bytes(name: str, data: bytes) -> Any:
    """Deserialize CDR. Raises one of BYTES_ERRORS when the bytes are no such message."""
    return typestore().deserialize_cdr(data, name)


def header_stamp_ns(data: bytes) -> int:
    """Stamp of a serialized message that begins with a header. Raises struct.error."""
    order = "<" if len(data) > 1 and data[1] & 1 else ">"
    seconds, nanoseconds = struct.unpack_from(f"{order}iI", data, 4)
    return int(seconds * 10**9 + nanoseconds)


def stamp_ns(header: Any) -> int:
    """Stamp of a ``std_msgs/Header``."""
    return int(header.stamp.sec * 10**9 + header.stamp.nanosec)
