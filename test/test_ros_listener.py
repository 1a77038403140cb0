"""What behaviour nodes hear: faces as objects, and events that do not flicker."""

import os
import signal
import subprocess
import sys

import numpy as np
import pytest
from rclpy.node import Node
from ros_tools import BRIGHT, DARK, LIMIT_S, graph, header_at, image_at, quick_pipeline
from sensor_msgs.msg import Image
from tree import ROOT
from vision_msgs.msg import (
    Detection2D,
    Detection2DArray,
    ObjectHypothesis,
    ObjectHypothesisWithPose,
)

from fer_ros.labels import EMOTIONS
from fer_ros.ros.convert import to_detections
from fer_ros.ros.listener import Callbacks, Company, EmotionListener, SeenFace, to_seen
from fer_ros.ros.node import EmotionNode
from fer_ros.types import FaceEmotion

ANN, BOB = "f1", "f2"


def face(id: str, emotion: str | None, at_s: float) -> SeenFace:
    shares = {emotion: 0.9} if emotion else {}
    return SeenFace(id, emotion, shares, np.array([1, 2, 3, 4], np.float32), at_s)


class Diary:
    """What was told, in words."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def appear(self, face: SeenFace) -> None:
        self.lines.append(f"{face.id} appears {face.emotion}")

    def change(self, face: SeenFace, before: str | None) -> None:
        self.lines.append(f"{face.id} {before} to {face.emotion}")

    def gone(self, face: SeenFace) -> None:
        self.lines.append(f"{face.id} gone {face.age_s:g}")

    @property
    def callbacks(self) -> Callbacks:
        return Callbacks(self.appear, self.change, self.gone)


# Images, by their stamps in seconds, who shows what, and what is told (hold 0.5 s, gone after 1 s).
HISTORIES = (
    ([], []),
    ([(0, {})], []),
    ([(0, {ANN: "anger"}), (0.4, {ANN: "anger"})], []),
    ([(0, {ANN: "anger"}), (0.4, {ANN: "anger"}), (1.5, {})], []),  # never appeared, never gone
    ([(0, {ANN: "anger"}), (0.5, {ANN: "anger"})], ["f1 appears anger"]),
    ([(0, {ANN: None}), (0.5, {ANN: None})], ["f1 appears None"]),
    (
        [(0, {ANN: None}), (0.5, {ANN: None}), (1, {ANN: "fear"}), (1.5, {ANN: "fear"})],
        ["f1 appears None", "f1 None to fear"],
    ),
    (  # the emotion is younger than the face
        [(0, {ANN: "anger"}), (0.25, {ANN: "fear"}), (0.5, {ANN: "fear"}), (0.75, {ANN: "fear"})],
        ["f1 appears None", "f1 None to fear"],
    ),
    (
        [(0, {ANN: "anger"}), (1, {ANN: "anger"}), (1.25, {ANN: "fear"}), (1.75, {ANN: "fear"})],
        ["f1 appears anger", "f1 anger to fear"],
    ),
    (  # a flicker
        [(0, {ANN: "anger"}), (1, {ANN: "anger"}), (1.25, {ANN: "fear"}), (2, {ANN: "anger"})],
        ["f1 appears anger"],
    ),
    (  # turned away for a moment, and for good
        [(0, {ANN: "anger"}), (1, {ANN: "anger"}), (1.75, {}), (1.9, {ANN: None}), (4, {})],
        ["f1 appears anger", "f1 gone 1.9"],
    ),
    (
        [
            (0, {ANN: "anger", BOB: "fear"}),
            (0.5, {BOB: "fear", ANN: "anger"}),
            (1.5, {BOB: "fear"}),
        ],
        ["f2 appears fear", "f1 appears anger", "f1 gone 0.5"],
    ),
    (  # a frame that another one overtook, and a bag that begins again
        [(9, {ANN: "anger"}), (9.5, {ANN: "anger"}), (9.25, {ANN: "anger"}), (0, {ANN: "anger"})],
        ["f1 appears anger", "f1 gone 0.25"],
    ),
)


@pytest.mark.parametrize(("images", "told"), HISTORIES)
def test_events(images, told):
    diary = Diary()
    company = Company(diary.callbacks, hold_s=0.5, gone_s=1.0)
    for at_s, shown in images:
        company.update(at_s, [face(id, emotion, at_s) for id, emotion in shown.items()])
    assert diary.lines == told


def test_without_a_hold_everything_is_told_at_once():
    diary = Diary()
    company = Company(diary.callbacks, hold_s=0.0, gone_s=1.0)
    for at_s, emotion in enumerate(["anger", "fear"]):
        company.update(at_s / 10, [face(ANN, emotion, at_s / 10)])
    assert diary.lines == ["f1 appears anger", "f1 anger to fear"]


def test_who_is_there():
    company = Company(Callbacks(), hold_s=0.5, gone_s=1.0)
    assert company.faces == []
    for at_s, emotion in ((0, "anger"), (0.5, "anger"), (0.75, "fear")):
        (aged,) = company.update(at_s, [face(ANN, emotion, at_s)])
        assert (aged.emotion, aged.age_s) == (emotion, at_s)
    (there,) = company.faces
    assert (there.id, there.emotion, there.stamp_s, there.age_s) == (ANN, "anger", 0.75, 0.75)
    assert there.score == 0.0  # it is not among the probabilities that this test gave
    company.leave()
    assert company.faces == []


def test_a_detection_is_the_face_that_was_published():
    probabilities = np.full(8, 0.05, np.float32)
    probabilities[EMOTIONS.index("fear")] = 0.65
    published = FaceEmotion(
        id="f00001",
        box_xyxy=np.array([10, 20, 40, 60], np.float32),
        score=0.9,
        points_xy=np.zeros((68, 2), np.float32),
        probabilities=probabilities,
        raw_probabilities=probabilities,
        emotion="fear",
        usable=True,
        why="",
    )
    (detection,) = to_detections([published], header_at(7)).detections
    seen = to_seen(detection, 7.0)
    assert (seen.id, seen.emotion, seen.stamp_s) == ("f00001", "fear", 7.0)
    assert seen.score == pytest.approx(0.65)
    assert set(seen.probabilities) == set(EMOTIONS)
    assert seen.box_xyxy.tolist() == [10, 20, 40, 60]


def test_a_face_that_cannot_be_read():
    seen = to_seen(Detection2D(id="f00001"), 7.0)
    assert (seen.emotion, seen.probabilities, seen.score) == (None, {}, 0.0)


def test_a_node_hears_of_a_face_that_comes_and_goes():
    with graph() as nodes:
        emotion_node = nodes.node(EmotionNode, quick_pipeline())
        emotion_node.start()
        diary, heard = Diary(), []
        listener = EmotionListener(
            nodes.node(Node, "behaviour"),
            on_faces=heard.append,
            on_appear=diary.appear,
            on_change=diary.change,
            on_gone=diary.gone,
        )
        camera = nodes.node(Node, "camera").create_publisher(Image, "image", 10)
        nodes.until(camera.get_subscription_count, "the emotion node")
        emotions = "/emotion_node/emotions"
        nodes.until(lambda: emotion_node.count_subscribers(emotions), "the listener")
        for number, picture in enumerate([BRIGHT] * 10 + [DARK] * 11):
            camera.publish(image_at(100 + number / 10, picture))
            nodes.until(lambda number=number: len(heard) > number, "the emotions of an image")
            if number == 9:
                (there,) = listener.faces
        assert listener.faces == []
    assert (there.emotion, there.box_xyxy.tolist()) == ("happiness", [50, 30, 110, 90])
    assert [line.split()[1:] for line in diary.lines] == [["appears", "happiness"], ["gone", "0.8"]]


def test_a_node_that_falls_silent_leaves_nobody_behind():
    with graph() as nodes:
        diary = Diary()
        listener = EmotionListener(
            nodes.node(Node, "behaviour"),
            on_appear=diary.appear,
            on_gone=diary.gone,
            hold_s=0.0,
            silence_s=0.2,
        )
        speaker = nodes.node(Node, "emotion_node").create_publisher(
            Detection2DArray, "~/emotions", 10
        )
        nodes.until(speaker.get_subscription_count, "the listener")
        speaker.publish(Detection2DArray(header=header_at(1), detections=[Detection2D(id=ANN)]))
        nodes.until(lambda: len(diary.lines) == 2, "the face appears and is gone")
        assert listener.faces == []
    assert diary.lines == ["f1 appears None", "f1 gone 0"]


def test_the_example_greets_answers_and_parts(tmp_path):
    happy = ObjectHypothesisWithPose(hypothesis=ObjectHypothesis(class_id="happiness", score=0.9))
    unread, smiling = Detection2D(id=ANN), Detection2D(id=ANN, results=[happy])
    log = tmp_path / "greet.log"
    with graph() as nodes:
        speaker = nodes.node(Node, "emotion_node").create_publisher(
            Detection2DArray, "~/emotions", 10
        )
        with log.open("w") as file:
            greeter = subprocess.Popen(
                [sys.executable, ROOT / "examples/greet.py"],
                env=os.environ | {"ROS_DOMAIN_ID": str(nodes.domain)},
                stdout=file,
                stderr=subprocess.STDOUT,
            )
        nodes.processes.append(greeter)
        nodes.until(speaker.get_subscription_count, "the example")
        for at_s, faces in ((0, [unread]), (1, [unread]), (2, [smiling]), (4, [smiling]), (6, [])):
            speaker.publish(Detection2DArray(header=header_at(at_s), detections=faces))
        nodes.until(lambda: "Goodbye" in log.read_text(), "the example says goodbye")
        greeter.send_signal(signal.SIGINT)
        assert greeter.wait(LIMIT_S) == 0
    said = [line.split("[greeter]: ")[1] for line in log.read_text().splitlines()]
    assert said == [
        "Hello f1, you look thoughtful.",
        "That was a good one!",
        "Goodbye f1. That was 4 s well spent.",
    ]
