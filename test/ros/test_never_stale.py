"""Results belong to the image of their stamp, over DDS, however slow the network is."""

import threading
from types import SimpleNamespace

import pytest
from hri_msgs.msg import Expression
from rclpy.node import Node
from rclpy.qos import QoSProfile
from ros_tools import LIMIT_S, Listener, graph_of_a_test, image_at
from scripted import (
    FPS,
    SECONDS,
    ScriptedClassifier,
    ScriptedDetector,
    random_walkers,
    render,
    visible_boxes,
)
from sensor_msgs.msg import Image
from vision_msgs.msg import Detection2DArray

from fer_ros.multi_camera import MultiCameraPipeline
from fer_ros.ros.convert import stamp_s
from fer_ros.ros.node import EmotionNode
from fer_ros.ros.output.hri_publishers import HRI_EXPRESSIONS

WALKERS = random_walkers(4)
DETECTION_INTERVALS = 9  # so many frames the network stands still
MISSED = (
    2  # frames of the camera meanwhile: who crosses another one in a longer gap may be mixed up
)
FRAMES = round(SECONDS * FPS) // DETECTION_INTERVALS * DETECTION_INTERVALS
IDS = [f"f{number:05d}" for number in range(1, 21)]


ros = graph_of_a_test


class BlockingClassifier(ScriptedClassifier):
    """A network that can be blocked."""

    manifest = SimpleNamespace(name="fake", sha256="0" * 64)
    reason, fallback = "made up", ""
    provider, precision = "CPUExecutionProvider", "fp32"

    def __init__(self):
        super().__init__()
        self.runs, self.begun = threading.Event(), threading.Event()
        self.runs.set()

    def warm_up(self):
        return 0.0


class SlowDetector(ScriptedDetector):
    """Every frame waits here for the network, also one without a face."""

    def __init__(self, reader):
        self._reader = reader

    def detect(self, image_rgb):
        self._reader.begun.set()
        assert self._reader.runs.wait(LIMIT_S)
        return super().detect(image_rgb)


class Rig:
    """An active node, a camera of the scene, and a subscriber to all topics."""

    def __init__(self, ros):
        self.ros, self.reader, self.shown = ros, BlockingClassifier(), 0
        self.node = ros.node(EmotionNode, self._make, tracker__min_hits=1, deterministic_ids=True)
        client_node = ros.node(Node, "client")
        self.camera = client_node.create_publisher(Image, "image", QoSProfile(depth=50))
        listener = Listener(client_node)
        self.emotions = listener.listen(Detection2DArray, "emotion_node/emotions", 200)
        self.expressions = {
            face: listener.listen(Expression, f"/humans/faces/{face}/expression", 200)
            for face in IDS
        }
        self.node.start()
        ros.until(self.camera.get_subscription_count, "the node subscribes")
        ros.until(
            lambda: client_node.count_publishers("emotion_node/emotions"), "it offers emotions"
        )

    def _make(self, cameras, config):
        return MultiCameraPipeline(cameras, config, SlowDetector(self.reader), self.reader)

    def show(self, frame):
        """Until the node has it."""
        self.camera.publish(image_at(1 + frame / FPS, render(WALKERS, frame / FPS)))
        self.shown += 1
        monitor = self.node._processor._cameras[""].statistics
        self.ros.until(lambda: monitor._received == self.shown, f"frame {frame} arrives")

    def answered(self, frames):
        self.ros.until(lambda: len(self.emotions) == len(frames), f"the results to {frames}")

    def play(self):
        """The frames that must have a result: all but those that newer ones have replaced."""
        frames, frame = [], 0
        while frame < FRAMES:
            frames.append(frame)
            if frame % DETECTION_INTERVALS == 0:
                frame = self._stall(frame)
                frames.append(frame)
            else:
                self.show(frame)
            self.answered(frames)
            frame += 1
        return frames

    def _stall(self, frame):
        """The newest frame when the network goes on."""
        self.reader.begun.clear()
        self.reader.runs.clear()
        self.show(frame)
        self.ros.until(self.reader.begun.is_set, f"frame {frame} is in work")
        for later in range(frame + 1, frame + 1 + MISSED):
            self.show(later)
        self.reader.runs.set()
        return frame + MISSED


def test_every_result_belongs_to_its_image(ros):
    rig = Rig(ros)
    expected = rig.play()
    stamps_s = [stamp_s(result.header) for result in rig.emotions]
    assert stamps_s == pytest.approx([1 + frame / FPS for frame in expected])
    number_of = {}
    for frame, result in zip(expected, rig.emotions, strict=True):
        there = {box: number for number, box in visible_boxes(render(WALKERS, frame / FPS)).items()}
        for face in result.detections:
            number = there.pop(box_of(face))
            assert face.results[0].hypothesis.class_id == WALKERS[number].emotion
            assert number_of.setdefault(face.id, number) == number
        assert there == {}
    assert len({*number_of.values()}) == len(WALKERS)
    check_expressions(rig, number_of)


def box_of(face):
    center, half = face.bbox.center.position, (face.bbox.size_x / 2, face.bbox.size_y / 2)
    left, top = center.x - half[0], center.y - half[1]
    return tuple(round(edge) for edge in (left, top, center.x + half[0], center.y + half[1]))


def check_expressions(rig, number_of):
    """Each face's own, and under no stamp of an image in which it is not."""
    seen_at = {
        (face.id, stamp_s(result.header)) for result in rig.emotions for face in result.detections
    }
    received = {face: messages for face, messages in rig.expressions.items() if messages}
    assert len(received) > 1
    for face, messages in received.items():
        shown = HRI_EXPRESSIONS.get(WALKERS[number_of[face]].emotion)  # contempt has no word
        assert not shown or {message.expression for message in messages} == {shown}
        assert {(face, stamp_s(message.header)) for message in messages} <= seen_at
