"""Recordings as images in the order of their stamps."""

import shutil

import numpy as np
import pytest
import yaml
from backports import zstd
from bag_tools import FIRST_NS, TOPIC, at, jpeg_bag, jpeg_image, raw_bag, raw_image, write_bag
from rosbags.rosbag2 import CompressionMode

from fer_ros.evaluation.bags.messages import COMPRESSED, IMAGE, STRING, make
from fer_ros.evaluation.bags.reader import Bag, BagError
from fer_ros.io.image_decoding import ConversionError

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
        return read, bag.errors


def relative_times(path, topic=TOPIC) -> tuple[list[float], list[str], list[str]]:
    """Seconds since the first image, errors and warnings."""
    with Bag(path) as bag:
        times = [image.time_ns for image in bag.images(topic)]
        return [round((time - times[0]) / 1e9, 3) for time in times], bag.errors, bag.warnings


def stamped_bag(path, stamps, period_s=0.1):
    """Images with these stamps, in seconds or None, recorded at a constant rate in wall time."""
    rows = []
    for number, stamp_s in enumerate(stamps):
        message = raw_image(0, shade(number % 200))
        stamp_ns = round((stamp_s or 0) * 1e9)
        message.header.stamp.sec, message.header.stamp.nanosec = divmod(stamp_ns, 10**9)
        rows.append((TOPIC, IMAGE, number * period_s, message))
    return write_bag(path, rows)


STEADY = [round(k / 10, 1) for k in range(30)]


@pytest.mark.parametrize(
    ("stamps", "expected", "errors", "warnings"),
    [
        ([5 + t for t in STEADY], STEADY, [], []),
        (STEADY, STEADY, [], []),  # a simulation that starts at 0
        ([None] * 30, STEADY, [], ["30 images have no header stamp"]),
        (
            [None if k % 7 == 3 else 5 + t for k, t in enumerate(STEADY)],
            STEADY,
            [],
            ["4 images have no header stamp"],
        ),
        ([None] * 3 + [5 + t for t in STEADY[3:]], STEADY, [], ["3 images have no header stamp"]),
        ([5 + t for t in STEADY[:-3]] + [None] * 3, STEADY, [], ["3 images have no header stamp"]),
        (
            [5 + t + 5 * (10 <= k < 18) for k, t in enumerate(STEADY)],
            STEADY[:10] + STEADY[18:],
            ["8 images skipped: their stamps jump ahead and back, first by 5.000 s"],
            [],
        ),
        (
            [5 + t + 600 * (k >= 10) for k, t in enumerate(STEADY)],
            STEADY,
            [],
            ["the clock of the stamps was set 1 times, first by +600.000 s"],
        ),
        (
            [50 + t - 20 * (k >= 10) for k, t in enumerate(STEADY)],
            STEADY,
            [],
            ["the clock of the stamps was set 1 times, first by -20.000 s"],
        ),
        (
            [50 + t - 0.55 * (k >= 10) for k, t in enumerate(STEADY)],
            STEADY,
            [],
            ["the clock of the stamps was set 1 times, first by -0.550 s"],
        ),
        ([50 + t + 30 * (k >= 10) * (k < 28) for k, t in enumerate(STEADY)], None, ["18"], []),
    ],
)
def test_times_where_stamps_are_missing_or_jump(tmp_path, stamps, expected, errors, warnings):
    times, found_errors, found_warnings = relative_times(stamped_bag(tmp_path / "bag", stamps))
    assert times == (STEADY[:10] + STEADY[28:] if expected is None else expected)
    for lines, expected_lines in ((found_errors, errors), (found_warnings, warnings)):
        assert len(lines) == len(expected_lines)
        assert all(part in line for part, line in zip(expected_lines, lines, strict=True))


def test_a_pause_is_not_a_jump(tmp_path):
    rows = [(TOPIC, IMAGE, t, raw_image(t, shade(0))) for t in (0, 0.1, 9, 9.1)]
    assert relative_times(write_bag(tmp_path / "bag", rows)) == ([0, 0.1, 9, 9.1], [], [])


def test_no_image_at_all(tmp_path):
    path = write_bag(tmp_path / "bag", [("/word", STRING, 0, make(STRING, "hello"))])
    with (
        Bag(path) as bag,
        pytest.raises(BagError, match="no image topic; expected one of sensor_msgs/msg/Image or"),
    ):
        bag.image_topic("/camera")


@pytest.mark.parametrize(("storage", "mode"), MODES)
@pytest.mark.parametrize("write", [raw_bag, jpeg_bag])
def test_every_storage_and_compression(tmp_path, write, storage, mode):
    images = [(k / 10, shade(20 * k)) for k in range(5)]
    path = write(tmp_path / "bag", images, storage=storage, compression=mode)
    with Bag(path) as bag:
        assert (bag.image_topic(None), bag.count(TOPIC)) == (TOPIC, 5)
        read = list(bag.images(TOPIC))
        assert (bag.errors, bag.warnings) == ([], [])
    assert [image.stamp_ns for image in read] == [at(stamp_s) for stamp_s, _ in images]
    for image, (_, expected_value) in zip(read, images, strict=True):
        image_rgb, frame = image.decode()
        assert frame == "eye"
        assert np.abs(image_rgb.astype(int) - expected_value).max() <= 2


@pytest.mark.parametrize(
    ("stamps", "expected", "error"),
    [
        ([], [], ""),
        ([0.0, 0.2, 0.1, 0.3], [0.0, 0.1, 0.2, 0.3], ""),
        ([0.0, 0.0, 0.1], [0.0, 0.0, 0.1], ""),
        (
            [0.0, 1.0, 2.0, 3.0, 0.5, 4.0],
            [0.0, 1.0, 2.0, 3.0, 4.0],
            "1 images skipped: their stamps are older",
        ),
    ],
)
def test_images_come_in_the_order_of_their_stamps(tmp_path, stamps, expected, error):
    rows = [
        (TOPIC, IMAGE, recorded, raw_image(stamp_s, shade(0)))
        for recorded, stamp_s in enumerate(stamps)
    ]
    path = write_bag(tmp_path / "bag", [("/x", STRING, 0, make(STRING, "")), *rows])
    if not rows:
        with (
            Bag(path) as bag,
            pytest.raises(BagError, match=r"no image topic; .* found /x \(std_msgs/msg/String\)"),
        ):
            bag.image_topic(None)
        return
    read, errors = stamps_s(path)
    assert read == pytest.approx(expected)
    assert len(errors) == bool(error)
    assert error in "".join(errors)


def test_without_stamps_the_time_of_recording_counts(tmp_path):
    message = raw_image(0, shade(0))
    message.header.stamp.sec = message.header.stamp.nanosec = 0
    path = write_bag(tmp_path / "bag", [(TOPIC, IMAGE, k, message) for k in (0, 1, 2)])
    with Bag(path) as bag:
        assert [image.stamp_ns for image in bag.images(TOPIC)] == [at(0), at(1), at(2)]
        assert [line.split(": ")[-1] for line in bag.warnings] == [
            "3 images have no header stamp; used the time of recording less the usual delay"
        ]


@pytest.mark.parametrize(
    ("requested", "message"),
    [
        (None, "several image topics; name one with --image-topic: /a, /b/compressed"),
        ("/nothing", "no topic /nothing; its image topics: /a, /b/compressed"),
        ("/word", "topic /word is of type std_msgs/msg/String, not of images; its image topics"),
    ],
)
def test_topics_that_hold_no_images(tmp_path, requested, message):
    rows = [
        ("/word", STRING, 0, make(STRING, "")),
        ("/a", IMAGE, 0, raw_image(0, shade(0))),
        ("/b/compressed", COMPRESSED, 0, jpeg_image(0, shade(0))),
    ]
    with Bag(write_bag(tmp_path / "bag", rows)) as bag:
        with pytest.raises(BagError) as caught:
            bag.image_topic(requested)
        assert message in str(caught.value)
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
    ("name", "content", "message"),
    [
        (None, None, "no such bag"),
        ("note.txt", b"hello", "metadata.yaml is missing"),
        ("bag.mcap", b"", "not a bag that can be read"),
        ("bag.db3", b"no database", "not a bag that can be read"),
        ("metadata.yaml", b"a: [", "not a bag that can be read"),
        ("metadata.yaml", b"rosbag2_bagfile_information: 3", "not a bag that can be read"),
    ],
)
def test_a_path_without_a_bag_is_reported_in_one_line(tmp_path, name, content, message):
    path = tmp_path / "bag"
    if name:
        path.mkdir()
        (path / name).write_bytes(content)
    with pytest.raises(BagError) as caught, Bag(path):
        pass
    assert str(caught.value).startswith(f"{path}: ")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("storage", ["sqlite3", "mcap"])
def test_without_metadata_the_files_are_read(tmp_path, storage):
    path = raw_bag(tmp_path / "bag", [(k / 10, shade(k)) for k in range(3)], storage=storage)
    (path / "metadata.yaml").unlink()
    with Bag(path) as bag:
        assert len(list(bag.images(bag.image_topic(None)))) == 3
        assert (bag.errors, len(bag.warnings)) == ([], 1)
        assert "metadata.yaml is missing; its files are read without it" in bag.warnings[0]
    (file,) = path.iterdir()
    assert stamps_s(file) == ([0.0, 0.1, 0.2], [])


@pytest.mark.parametrize("metadata", [True, False])
@pytest.mark.parametrize("storage", ["sqlite3", "mcap"])
def test_a_truncated_bag_is_read_up_to_the_truncation(tmp_path, storage, metadata):
    images = [(k / 10, noise(k)) for k in range(20)]
    path = raw_bag(tmp_path / "bag", images, storage=storage)
    (file,) = [file for file in path.iterdir() if file.name != "metadata.yaml"]
    data = file.read_bytes()
    file.write_bytes(data[: len(data) * 6 // 10])
    if not metadata:
        (path / "metadata.yaml").unlink()
    read, errors = stamps_s(path)
    assert read == pytest.approx([k / 10 for k in range(len(read))])
    assert errors
    assert all(error.startswith(str(path)) and "\n" not in error for error in errors)
    assert 8 <= len(read) <= 12


QOS_STRING = """- history: 3
  depth: 0
  reliability: 1
  durability: 2
  deadline: {sec: 9223372036, nsec: 854775807}
  lifespan: {sec: 9223372036, nsec: 854775807}
  liveliness: 1
  liveliness_lease_duration: {sec: 9223372036, nsec: 854775807}
  avoid_ros_namespace_conventions: false
"""
QOS_LIST = [
    {
        "history": "keep_last",
        "depth": 5,
        "reliability": "reliable",
        "durability": "volatile",
        "deadline": {"sec": 0, "nsec": 0},
        "lifespan": {"sec": 0, "nsec": 0},
        "liveliness": "automatic",
        "liveliness_lease_duration": {"sec": 0, "nsec": 0},
        "avoid_ros_namespace_conventions": False,
    }
]


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
@pytest.mark.parametrize(
    ("version", "qos", "keys"),
    [
        (4, QOS_STRING, ["compression_format", "compression_mode"]),  # Foxy and Galactic
        (5, QOS_STRING, ["compression_format", "compression_mode", "files"]),  # Humble
        (5, "", ["compression_format", "compression_mode", "files"]),  # ros2 bag reindex
        (8, QOS_STRING, ["compression_format", "custom_data", "files", "ros_distro"]),  # Iron
        (9, QOS_LIST, ["compression_format", "custom_data", "files", "ros_distro"]),  # Jazzy
        (9, [], ["custom_data", "files", "ros_distro"]),  # ros2 bag reindex
        (12, [{"history": "a later word"}], ["files"]),
    ],
)
def test_metadata_of_each_distribution(tmp_path, storage, version, qos, keys):
    """The files say what they hold; who wrote or edited the metadata does not matter."""
    path = raw_bag(tmp_path / "bag", [(k / 10, shade(k)) for k in range(4)], storage=storage)
    file = path / "metadata.yaml"
    info = yaml.safe_load(file.read_text())["rosbag2_bagfile_information"]
    for topic in info["topics_with_message_count"]:
        topic["topic_metadata"]["offered_qos_profiles"] = qos
        if version < 8:
            del topic["topic_metadata"]["type_description_hash"]
    optional = {"compression_format", "compression_mode", "files", "custom_data", "ros_distro"}
    info = {key: value for key, value in info.items() if key not in optional - set(keys)}
    file.write_text(yaml.safe_dump({"rosbag2_bagfile_information": {**info, "version": version}}))
    with Bag(path) as bag:
        assert len(list(bag.images(bag.image_topic(None)))) == bag.count(TOPIC) == 4
        assert (bag.errors, bag.warnings) == ([], [])


@pytest.fixture
def split_bag(tmp_path):
    """Three files of four images; the names do not sort as text."""
    folder = tmp_path / "split"
    folder.mkdir()
    names = ["bag_2.mcap", "bag_9.mcap", "bag_10.mcap"]
    for part, name in enumerate(names):
        images = [(part + k / 10, shade(k)) for k in range(4)]
        path = raw_bag(tmp_path / f"part{part}", images)
        shutil.move(path / f"{path.name}.mcap", folder / name)
        info = yaml.safe_load((path / "metadata.yaml").read_text())
    info["rosbag2_bagfile_information"]["relative_file_paths"] = names
    info["rosbag2_bagfile_information"]["topics_with_message_count"][0]["message_count"] = 12
    (folder / "metadata.yaml").write_text(yaml.safe_dump(info))
    return folder


@pytest.mark.parametrize("metadata", [True, False])
def test_a_split_bag_is_read_in_order(split_bag, metadata):
    if not metadata:
        (split_bag / "metadata.yaml").unlink()
    times, errors, warnings = relative_times(split_bag)
    assert times == [part + k / 10 for part in range(3) for k in range(4)]
    assert errors == []
    assert len(warnings) == (not metadata)


def test_a_lost_file_is_an_error_with_a_count(split_bag):
    (split_bag / "bag_9.mcap").unlink()
    times, errors, _ = relative_times(split_bag)
    assert len(times) == 8
    assert "1 of 3 files are missing, the first bag_9.mcap" in errors[0]
    assert "only 8 of 12 messages can be read" in errors[1]


@pytest.mark.parametrize("in_folder", [True, False])
@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
def test_a_compressed_file_is_read(tmp_path, storage, in_folder):
    path = raw_bag(tmp_path / "bag", [(k / 10, shade(k)) for k in range(4)], storage=storage)
    (file,) = (file for file in path.iterdir() if file.name != "metadata.yaml")
    packed = path / f"{file.name}.zstd"
    packed.write_bytes(zstd.compress(file.read_bytes()))
    file.unlink()
    times, errors, _ = relative_times(path if in_folder else packed)
    assert (len(times), errors) == (4, [])
    packed.write_bytes(packed.read_bytes()[:-40])
    with pytest.raises(BagError, match="not a bag that can be read"), Bag(packed):
        pass


@pytest.mark.parametrize("in_folder", [True, False])
def test_a_ros_1_bag_is_reported_with_the_conversion_command(tmp_path, in_folder):
    file = tmp_path / "day.bag"
    file.write_bytes(b"#ROSBAG V2.0\n")
    with pytest.raises(BagError, match=f"rosbags-convert --src {file} --dst {tmp_path}/day"):
        Bag(tmp_path if in_folder else file).__enter__()


def test_messages_that_sqlite_has_not_merged_are_reported(tmp_path):
    path = raw_bag(tmp_path / "bag", [(0, shade(0))], storage="sqlite3")
    (path / "bag.db3-wal").write_bytes(b"x")
    assert "bag.db3-wal: messages that were not written" in relative_times(path)[1][0]


def test_fewer_messages_than_promised_are_reported(tmp_path):
    path = raw_bag(tmp_path / "bag", [(k / 10, shade(k)) for k in range(4)])
    file = path / "metadata.yaml"
    file.write_text(file.read_text().replace("message_count: 4", "message_count: 6"))
    assert "only 4 of 6 messages can be read" in relative_times(path)[1][0]
