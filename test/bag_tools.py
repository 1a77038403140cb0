"""Recordings for tests."""

import resource
import struct
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from backports import zstd
from conftest import FakeClassifier
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer

from fer_ros.evaluation.bags.messages import (
    COMPRESSED,
    IMAGE,
    make,
    make_header,
    to_bytes,
    typestore,
)
from fer_ros.io.image_decoding import encode_jpeg

FIRST_NS = 1_700_000_000_000_000_000
TOPIC = "/camera/image_raw"
_MCAP_MAGIC = b"\x89MCAP0\r\n"
_MCAP_HEADER = struct.Struct("<BQ")
_MCAP_CHUNK = 6
STORAGE = {"sqlite3": StoragePlugin.SQLITE3, "mcap": StoragePlugin.MCAP}


class NamedClassifier(FakeClassifier):
    """The fake network with the manifest of a real one."""

    manifest = SimpleNamespace(name="fake", sha256="0" * 64)


def at(stamp_s: float) -> int:
    return FIRST_NS + round(stamp_s * 1e9)


def raw_image(stamp_s: float, image_rgb: np.ndarray, encoding: str = "rgb8") -> Any:
    height, width = image_rgb.shape[:2]
    header = make_header(at(stamp_s), "eye")
    data = np.ascontiguousarray(image_rgb).reshape(-1)
    return make(IMAGE, header, height, width, encoding, 0, width * 3, data)


def jpeg_image(stamp_s: float, image_rgb: np.ndarray) -> Any:
    return make(COMPRESSED, make_header(at(stamp_s), "eye"), "jpeg", encode_jpeg(image_rgb))


def detection(
    header: Any, scores: dict[str, float], box_xyxy: tuple[float, ...], identity: str = ""
) -> Any:
    """A face of ``vision_msgs/Detection2D`` with the scores of emotions."""
    left, top, right, bottom = box_xyxy
    center = make("vision_msgs/msg/Point2D", (left + right) / 2, (top + bottom) / 2)
    pose = make("vision_msgs/msg/Pose2D", center, 0.0)
    box = make("vision_msgs/msg/BoundingBox2D", pose, right - left, bottom - top)
    no_pose = make(
        "geometry_msgs/msg/PoseWithCovariance",
        make(
            "geometry_msgs/msg/Pose",
            make("geometry_msgs/msg/Point", 0.0, 0.0, 0.0),
            make("geometry_msgs/msg/Quaternion", 0.0, 0.0, 0.0, 1.0),
        ),
        np.zeros(36),
    )
    results = [
        make(
            "vision_msgs/msg/ObjectHypothesisWithPose",
            make("vision_msgs/msg/ObjectHypothesis", *score),
            no_pose,
        )
        for score in scores.items()
    ]
    return make("vision_msgs/msg/Detection2D", header, results, box, identity)


def write_bag(
    path: Path,
    messages: Iterable[tuple[str, str, float, Any]],
    storage: str = "mcap",
    compression: CompressionMode = CompressionMode.NONE,
) -> Path:
    """A bag of (topic, type, second of recording, message)."""
    writer = Writer(path, version=8, storage_plugin=STORAGE[storage])
    writer.set_compression(compression, CompressionFormat.ZSTD)
    with writer:
        topics: dict[str, Any] = {}
        for topic, kind, recorded_s, message in messages:
            if topic not in topics:
                topics[topic] = writer.add_connection(topic, kind, typestore=typestore())
            writer.write(topics[topic], at(recorded_s), to_bytes(kind, message))
    return path


def raw_bag(path: Path, images: Iterable[tuple[float, np.ndarray]], **options: Any) -> Path:
    """A bag of raw images, recorded when they were taken."""
    rows = ((TOPIC, IMAGE, stamp_s, raw_image(stamp_s, image)) for stamp_s, image in images)
    return write_bag(path, rows, **options)


def jpeg_bag(path: Path, images: Iterable[tuple[float, np.ndarray]], **options: Any) -> Path:
    """A bag of compressed images, recorded when they were taken."""
    rows = ((TOPIC, COMPRESSED, stamp_s, jpeg_image(stamp_s, image)) for stamp_s, image in images)
    return write_bag(path, rows, **options)


def with_checksums(data: bytes) -> bytes:
    """An mcap file whose chunks have a CRC, as those of rosbag2 have and those of rosbags have not.

    See https://mcap.dev/spec: magic bytes; records of a kind (1 byte), a length (8) and a content.
    """
    content, at_byte = bytearray(data), len(_MCAP_MAGIC)
    while at_byte + _MCAP_HEADER.size <= len(data) - len(_MCAP_MAGIC):
        kind, length = _MCAP_HEADER.unpack_from(data, at_byte)
        body = at_byte + _MCAP_HEADER.size
        if kind == _MCAP_CHUNK:
            (size,) = struct.unpack_from("<I", data, body + 28)
            name, records = data[body + 32 :][:size], data[body + 40 + size : body + length]
            crc = zlib.crc32(zstd.decompress(records) if name == b"zstd" else records)
            struct.pack_into("<I", content, body + 24, crc)
        at_byte = body + length
    return bytes(content)


def portrait_bag(path: Path, portrait: np.ndarray, count: int = 12, **options: Any) -> Path:
    """The portrait at 10 images per second."""
    small = np.ascontiguousarray(portrait[::2, ::2])
    return jpeg_bag(path, [(k / 10, small) for k in range(count)], **options)


def write_labels(path: Path, *rows: tuple[float, float, str]) -> Path:
    lines = ["start_s,end_s,emotion", *(f"{start},{end},{name}" for start, end, name in rows)]
    path.write_text("\n".join(lines) + "\n")
    return path


@contextmanager
def small_files(most_bytes: int) -> Iterator[None]:
    """Writing ends there, as on a disk that is full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
