"""Recordings as images in the order of their stamps."""

import numpy as np
import pytest
from bag_tools import FIRST_NS, TOPIC, at, jpeg_bag, jpeg_image, raw_bag, raw_image, write_bag
from rosbags.rosbag2 import CompressionMode

from fer_ros.decode import ConversionError
from fer_ros.evaluation.bags import Bag, BagError
from fer_ros.evaluation.messages import COMPRESSED, IMAGE, STRING, make

MODES = [
    (storage, mode)
    for storage in ("sqlite3", "mcap")
    for mode in CompressionMode
    if (storage, mode) != ("sqlite3", CompressionMode.STORAGE)
]


def shade(value: int) -> np.ndarray:
    return np.full((24, 32, 3), value, np.uint8)


def noise(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (240, 320, 3), np.uint8)


def stamps_s(path, topic=TOPIC) -> tuple[list[float], list[str]]:
    with Bag(path) as bag:
        read = [(image.stamp_ns - FIRST_NS) / 1e9 for image in bag.images(topic)]
        return read, bag.troubles


def test_no_image_at_all(tmp_path):
    path = write_bag(tmp_path / "bag", [("/word", STRING, 0, make(STRING, "hello"))])
    with Bag(path) as bag, pytest.raises(BagError, match="no topic /camera; its image topics: non"):
        bag.image_topic("/camera")


@pytest.mark.parametrize(("storage", "mode"), MODES)
@pytest.mark.parametrize("write", [raw_bag, jpeg_bag])
def test_every_storage_and_compression(tmp_path, write, storage, mode):
    images = [(k / 10, shade(20 * k)) for k in range(5)]
    path = write(tmp_path / "bag", images, storage=storage, compression=mode)
    with Bag(path) as bag:
        assert (bag.image_topic(None), bag.count(TOPIC)) == (TOPIC, 5)
        read = list(bag.images(TOPIC))
        assert (bag.troubles, bag.notes) == ([], [])
    assert [image.stamp_ns for image in read] == [at(stamp_s) for stamp_s, _ in images]
    for image, (_, wanted) in zip(read, images, strict=True):
        image_rgb, frame = image.decode()
        assert frame == "eye"
        assert np.abs(image_rgb.astype(int) - wanted).max() <= 2


@pytest.mark.parametrize(
    ("stamps", "wanted", "trouble"),
    [
        ([], [], ""),
        ([0.0, 0.2, 0.1, 0.3], [0.0, 0.1, 0.2, 0.3], ""),
        ([0.0, 0.0, 0.1], [0.0, 0.0, 0.1], ""),
        ([0.0, 1.0, 2.0, 3.0, 0.5, 4.0], [0.0, 1.0, 2.0, 3.0, 4.0], "first by 1.500 s; 1 images"),
    ],
)
def test_images_come_in_the_order_of_their_stamps(tmp_path, stamps, wanted, trouble):
    rows = [
        (TOPIC, IMAGE, recorded, raw_image(stamp_s, shade(0)))
        for recorded, stamp_s in enumerate(stamps)
    ]
    path = write_bag(tmp_path / "bag", [("/x", STRING, 0, make(STRING, "")), *rows])
    if not rows:
        with Bag(path) as bag, pytest.raises(BagError, match="which image topic"):
            bag.image_topic(None)
        return
    read, troubles = stamps_s(path)
    assert read == pytest.approx(wanted)
    assert len(troubles) == bool(trouble)
    assert trouble in "".join(troubles)


def test_without_stamps_the_time_of_recording_counts(tmp_path):
    message = raw_image(0, shade(0))
    message.header.stamp.sec = message.header.stamp.nanosec = 0
    path = write_bag(tmp_path / "bag", [(TOPIC, IMAGE, k, message) for k in (0, 1, 2)])
    with Bag(path) as bag:
        assert [image.stamp_ns for image in bag.images(TOPIC)] == [at(0), at(1), at(2)]
        assert [note.split(": ")[1] for note in bag.notes] == [
            "images without a stamp have the time of their recording"
        ]


@pytest.mark.parametrize(
    ("wanted", "says"),
    [
        (None, "which image topic? Name one with --image-topic: /a, /b/compressed"),
        ("/nothing", "no topic /nothing; its image topics: /a, /b/compressed"),
        ("/word", "topic /word is of type std_msgs/msg/String, not of images; its image topics"),
    ],
)
def test_topics_that_hold_no_images(tmp_path, wanted, says):
    rows = [
        ("/word", STRING, 0, make(STRING, "")),
        ("/a", IMAGE, 0, raw_image(0, shade(0))),
        ("/b/compressed", COMPRESSED, 0, jpeg_image(0, shade(0))),
    ]
    with Bag(write_bag(tmp_path / "bag", rows)) as bag:
        with pytest.raises(BagError) as caught:
            bag.image_topic(wanted)
        assert says in str(caught.value)
        assert bag.image_topic("/a") == "/a"


def test_an_image_that_cannot_be_decoded(tmp_path):
    rows = [(TOPIC, IMAGE, 0, raw_image(0, shade(0), encoding="h264"))]
    with Bag(write_bag(tmp_path / "bag", rows)) as bag:
        (image,) = bag.images(TOPIC)
    with pytest.raises(ConversionError, match="unknown encoding 'h264'"):
        image.decode()
    with pytest.raises(ConversionError, match="sensor_msgs/msg/Image of 9 bytes"):
        image._replace(data=image.data[:9]).decode()


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        (None, None, "no such bag"),
        ("note.txt", b"hello", "metadata.yaml is missing"),
        ("bag.mcap", b"", "not a bag that can be read"),
        ("bag.db3", b"no database", "not a bag that can be read"),
        ("metadata.yaml", b"a: [", "not a bag that can be read"),
        ("metadata.yaml", b"rosbag2_bagfile_information: 3", "not a bag that can be read"),
    ],
)
def test_what_is_no_bag_is_one_line(tmp_path, name, content, says):
    path = tmp_path / "bag"
    if name:
        path.mkdir()
        (path / name).write_bytes(content)
    with pytest.raises(BagError) as caught, Bag(path):
        pass
    assert str(caught.value).startswith(f"{path}: ")
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("storage", ["sqlite3", "mcap"])
def test_without_metadata_the_files_are_read(tmp_path, storage):
    path = raw_bag(tmp_path / "bag", [(k / 10, shade(k)) for k in range(3)], storage=storage)
    (path / "metadata.yaml").unlink()
    with Bag(path) as bag:
        assert len(list(bag.images(bag.image_topic(None)))) == 3
        assert (bag.troubles, len(bag.notes)) == ([], 1)
        assert "metadata.yaml is missing; read without it" in bag.notes[0]
    (file,) = path.iterdir()
    assert stamps_s(file) == ([0.0, 0.1, 0.2], [])


@pytest.mark.parametrize("metadata", [True, False])
@pytest.mark.parametrize("storage", ["sqlite3", "mcap"])
def test_a_truncated_bag_is_read_as_far_as_it_goes(tmp_path, storage, metadata):
    images = [(k / 10, noise(k)) for k in range(20)]
    path = raw_bag(tmp_path / "bag", images, storage=storage)
    (file,) = [each for each in path.iterdir() if each.name != "metadata.yaml"]
    data = file.read_bytes()
    file.write_bytes(data[: len(data) * 6 // 10])
    if not metadata:
        (path / "metadata.yaml").unlink()
    read, troubles = stamps_s(path)
    assert read == pytest.approx([k / 10 for k in range(len(read))])
    assert troubles
    assert all(trouble.startswith(str(path)) and "\n" not in trouble for trouble in troubles)
    assert 8 <= len(read) <= 12
