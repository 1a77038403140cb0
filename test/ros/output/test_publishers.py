"""Where results go: the latched labels, the debug image, the file of JSON lines."""

import json

import pytest
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile
from ros_tools import BRIGHT, DARK, Listener, graph_of_a_test, image_at, quick_pipeline
from sensor_msgs.msg import Image
from vision_msgs.msg import Detection2DArray, LabelInfo

from fer_ros.emotions import EMOTIONS
from fer_ros.ros.convert import to_rgb
from fer_ros.ros.node import EmotionNode

LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
DEBUG = "emotion_node/debug_image"


ros = graph_of_a_test


class Rig:
    """An active node that reports a face at once, and a publisher of images."""

    def __init__(self, ros, **parameters):
        self.ros = ros
        self.node = ros.node(EmotionNode, quick_pipeline(), tracker__min_hits=1, **parameters)
        self.node.start()
        self.client_node = ros.node(Node, "client")
        self.camera = self.client_node.create_publisher(Image, "image", 10)
        self.emotions = Listener(self.client_node).listen(Detection2DArray, "emotion_node/emotions")
        ros.until(self.camera.get_subscription_count, "the node subscribes")
        ros.until(
            lambda: self.client_node.count_publishers("emotion_node/emotions"), "it offers emotions"
        )

    def show(self, stamp_s, image=BRIGHT):
        before = len(self.emotions)
        self.camera.publish(image_at(stamp_s, image))
        self.ros.until(lambda: len(self.emotions) > before, "the emotions of an image")

    def until_processed(self, count):
        """Waits for all that the node does with so many images: the emotions come first."""
        statistics = self.node._processor._cameras[""].statistics
        self.ros.until(lambda: statistics._processed == count, f"{count} processed images")


def test_labels_are_latched_for_late_subscribers(ros):
    rig = Rig(ros)
    rig.show(1.0)
    received = Listener(rig.client_node).listen(LabelInfo, "emotion_node/emotions/labels", LATCHED)
    ros.until(lambda: received, "the labels")
    assert tuple(entry.class_name for entry in received[0].class_map) == EMOTIONS
    assert [entry.class_id for entry in received[0].class_map] == list(range(8))


@pytest.fixture
def drawn(monkeypatch):
    """The images that were drawn on."""
    images = []

    def spy(image_rgb, faces):
        images.append(image_rgb)
        return image_rgb // 2

    monkeypatch.setattr("fer_ros.ros.output.publishers.draw", spy)
    return images


def test_nothing_is_drawn_without_a_subscriber(ros, drawn):
    rig = Rig(ros, publish_images=True)
    rig.show(1.0)
    rig.show(2.0)
    rig.until_processed(2)
    assert drawn == []


def test_the_debug_image_is_drawn_for_subscribers(ros, drawn):
    rig = Rig(ros, publish_images=True)
    received = []
    watching = rig.client_node.create_subscription(Image, DEBUG, received.append, 10)
    (publisher,) = [
        publisher for publisher in rig.node.publishers if publisher.topic_name == f"/{DEBUG}"
    ]
    ros.until(publisher.get_subscription_count, "a subscriber")
    rig.show(1.0)
    ros.until(lambda: received, "the debug image")
    assert received[0].header == rig.emotions[0].header
    assert (to_rgb(received[0]) == BRIGHT // 2).all()
    rig.client_node.destroy_subscription(watching)
    ros.until(lambda: not publisher.get_subscription_count(), "no subscriber")
    rig.show(2.0)
    rig.until_processed(2)
    assert len(drawn) == 1


def test_without_a_log_path_nothing_is_written(ros, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rig = Rig(ros)
    rig.show(1.0)
    rig.until_processed(1)
    assert list(tmp_path.iterdir()) == []


def test_the_log_has_one_line_per_image_without_pixels(ros, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "log.jsonl"
    path.write_text('{"of": "yesterday"}\n')
    rig = Rig(ros, results_log_path=str(path))
    rig.show(1.25)
    rig.show(2.5, DARK)
    rig.node.trigger_deactivate()
    # While the node still has the file open: it is written line by line.
    before, *records = [json.loads(line) for line in path.read_text().splitlines()]
    assert before == {"of": "yesterday"}
    assert [record["stamp_s"] for record in records] == [1.25, 2.5]
    assert {record["source"] for record in records} == {"/image"}
    assert [len(record["faces"]) for record in records] == [1, 0]
    assert path.stat().st_size < BRIGHT.nbytes / 4
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_costs_only_the_log_lines(ros, capfd):
    rig = Rig(ros, results_log_path="/dev/full")
    rig.show(1.0)
    rig.show(2.0)
    for step in ("deactivate", "cleanup", "configure", "activate"):
        assert getattr(rig.node, f"trigger_{step}")().name == "SUCCESS", step
    warnings = [line for line in capfd.readouterr().err.splitlines() if "[WARN]" in line]
    assert warnings
    assert all("results_log_path '/dev/full': No space left on device" in line for line in warnings)
