"""The client library of behavior nodes: faces as objects, and debounced events."""

import os
import signal
import subprocess
import sys

import numpy as np
import pytest
from hri_msgs.msg import FacialActionUnits
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

from fer_ros.emotions import EMOTIONS
from fer_ros.ros.client.emotion_listener import (
    EmotionListener,
    FaceCallbacks,
    FaceEventTracker,
    ObservedFace,
    to_observed_face,
)
from fer_ros.ros.convert import to_detection_array
from fer_ros.ros.node import EmotionNode
from fer_ros.types import FaceEmotion

ANN, BOB = "f1", "f2"


def face(id: str, emotion: str | None, at_s: float) -> ObservedFace:
    shares = {emotion: 0.9} if emotion else {}
    return ObservedFace(id, emotion, shares, np.array([1, 2, 3, 4], np.float32), at_s)


class EventLog:
    """Events as text."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def appear(self, face: ObservedFace) -> None:
        self.lines.append(f"{face.id} appears {face.emotion}")

    def change(self, face: ObservedFace, before: str | None) -> None:
        self.lines.append(f"{face.id} {before} to {face.emotion}")

    def gone(self, face: ObservedFace) -> None:
        self.lines.append(f"{face.id} gone {face.age_s:.3g}")

    @property
    def callbacks(self) -> FaceCallbacks:
        return FaceCallbacks(self.appear, self.change, self.gone)


# Images, by their stamps in seconds, emotions, and the events (hold 0.5 s, gone after 1 s).
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
        ["f1 appears anger", "f1 gone 0.5"],
    ),
)


@pytest.mark.parametrize(("images", "expected_events"), HISTORIES)
def test_events(images, expected_events):
    diary = EventLog()
    tracker = FaceEventTracker(diary.callbacks, debounce_s=0.5, lost_timeout_s=1.0)
    for at_s, shown in images:
        tracker.update(at_s, [face(id, emotion, at_s) for id, emotion in shown.items()])
    assert diary.lines == expected_events


def test_images_without_a_stamp_take_the_time_of_arrival():
    diary = EventLog()
    tracker = FaceEventTracker(diary.callbacks, debounce_s=0.5, lost_timeout_s=1.0)
    for arrival_s in (100.0, 100.3, 100.6, 100.9):
        tracker.update(0.0, [face(ANN, "anger", 0.0)], arrival_s)
    tracker.update(0.0, [], 102.0)
    assert diary.lines == ["f1 appears anger", "f1 gone 0.9"]


def test_without_debouncing_events_are_immediate():
    diary = EventLog()
    tracker = FaceEventTracker(diary.callbacks, debounce_s=0.0, lost_timeout_s=1.0)
    for at_s, emotion in enumerate(["anger", "fear"]):
        tracker.update(at_s / 10, [face(ANN, emotion, at_s / 10)])
    assert diary.lines == ["f1 appears anger", "f1 anger to fear"]


def test_present_faces_are_listed():
    tracker = FaceEventTracker(FaceCallbacks(), debounce_s=0.5, lost_timeout_s=1.0)
    assert tracker.faces == []
    for at_s, emotion in ((0, "anger"), (0.5, "anger"), (0.75, "fear")):
        (aged,) = tracker.update(at_s, [face(ANN, emotion, at_s)])
        assert (aged.emotion, aged.age_s) == (emotion, at_s)
    (there,) = tracker.faces
    assert (there.id, there.emotion, there.stamp_s, there.age_s) == (ANN, "anger", 0.75, 0.75)
    assert there.confidence == 0.0  # it is not among the probabilities that this test gave
    tracker.clear()
    assert tracker.faces == []


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
        is_readable=True,
        rejection_reason="",
    )
    (detection,) = to_detection_array([published], header_at(7)).detections
    seen = to_observed_face(detection, 7.0)
    assert (seen.id, seen.emotion, seen.stamp_s) == ("f00001", "fear", 7.0)
    assert seen.confidence == pytest.approx(0.65)
    assert set(seen.probabilities) == set(EMOTIONS)
    assert seen.box_xyxy.tolist() == [10, 20, 40, 60]


def test_a_face_that_cannot_be_read():
    seen = to_observed_face(Detection2D(id="f00001"), 7.0)
    assert (seen.emotion, seen.probabilities, seen.confidence) == (None, {}, 0.0)


def test_a_node_gets_events_of_a_face_that_appears_and_leaves():
    with graph() as nodes:
        emotion_node = nodes.node(EmotionNode, quick_pipeline())
        emotion_node.start()
        diary, received = EventLog(), []
        listener = EmotionListener(
            nodes.node(Node, "behavior"),
            on_faces=received.append,
            on_appear=diary.appear,
            on_change=diary.change,
            on_gone=diary.gone,
        )
        camera = nodes.node(Node, "camera").create_publisher(Image, "image", 10)
        nodes.until(camera.get_subscription_count, "the emotion node")
        emotions = "/emotion_node/emotions"
        nodes.until(lambda: emotion_node.count_subscribers(emotions), "the listener")
        for number, image in enumerate([BRIGHT] * 10 + [DARK] * 11):
            camera.publish(image_at(100 + number / 10, image))
            nodes.until(lambda number=number: len(received) > number, "the emotions of an image")
            if number == 9:
                (there,) = listener.faces
        assert listener.faces == []
    assert (there.emotion, there.box_xyxy.tolist()) == ("happiness", [50, 30, 110, 90])
    assert [line.split()[1:] for line in diary.lines] == [["appears", "happiness"], ["gone", "0.8"]]


def test_a_silent_node_removes_all_faces():
    with graph() as nodes:
        diary = EventLog()
        listener = EmotionListener(
            nodes.node(Node, "behavior"),
            on_appear=diary.appear,
            on_gone=diary.gone,
            debounce_s=0.0,
            stream_timeout_s=0.2,
        )
        publisher = nodes.node(Node, "emotion_node").create_publisher(
            Detection2DArray, "~/emotions", 10
        )
        nodes.until(publisher.get_subscription_count, "the listener")
        publisher.publish(Detection2DArray(header=header_at(1), detections=[Detection2D(id=ANN)]))
        nodes.until(lambda: len(diary.lines) == 2, "the face appears and is gone")
        assert listener.faces == []
    assert diary.lines == ["f1 appears None", "f1 gone 0"]


def test_a_closed_listener_is_unsubscribed():
    with graph() as nodes:
        behavior, received = nodes.node(Node, "behavior"), []
        before = (len([*behavior.subscriptions]), len([*behavior.timers]))
        listener = EmotionListener(behavior, on_faces=received.append, action_units=True)
        publisher = nodes.node(Node, "emotion_node").create_publisher(
            Detection2DArray, "~/emotions", 10
        )
        nodes.until(publisher.get_subscription_count, "the listener")
        publisher.publish(Detection2DArray(header=header_at(1), detections=[Detection2D(id=ANN)]))
        nodes.until(lambda: received, "a face")
        listener.close()
        nodes.until(lambda: not publisher.get_subscription_count(), "it is unsubscribed")
        assert (len([*behavior.subscriptions]), len([*behavior.timers])) == before


def test_the_example_greets_responds_and_says_goodbye(tmp_path):
    happy = ObjectHypothesisWithPose(hypothesis=ObjectHypothesis(class_id="happiness", score=0.9))
    unread, smiling = Detection2D(id=ANN), Detection2D(id=ANN, results=[happy])
    log = tmp_path / "greet.log"
    with graph() as nodes:
        publisher = nodes.node(Node, "emotion_node").create_publisher(
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
        nodes.until(publisher.get_subscription_count, "the example")
        for at_s, faces in (
            (10, [unread]),
            (11, [unread]),
            (12, [smiling]),
            (14, [smiling]),
            (16, []),
        ):
            publisher.publish(Detection2DArray(header=header_at(at_s), detections=faces))
        nodes.until(lambda: "Goodbye" in log.read_text(), "the example says goodbye")
        greeter.send_signal(signal.SIGINT)
        assert greeter.wait(LIMIT_S) == 0
    output = [line.split("[greeter]: ")[1] for line in log.read_text().splitlines()]
    assert output == [
        "Hello f1, I see no emotion yet.",
        "That was a good one!",
        "Goodbye f1, after 4 s.",
    ]


def test_action_units_give_eyes_mouth_and_speech(monkeypatch):
    with graph() as nodes:
        received = []
        EmotionListener(nodes.node(Node, "behavior"), on_faces=received.append, action_units=True)
        publisher = nodes.node(Node, "emotion_node")
        emotions = publisher.create_publisher(Detection2DArray, "~/emotions", 10)
        facs = publisher.create_publisher(FacialActionUnits, "/humans/faces/f1/facs", 10)
        nodes.until(emotions.get_subscription_count, "the listener")

        def show(at_s):
            count = len(received)
            message = Detection2DArray(header=header_at(at_s), detections=[Detection2D(id=ANN)])
            emotions.publish(message)
            nodes.until(lambda: len(received) > count, "a face")
            return received[-1][0]

        face = show(10.0)
        assert (face.eyes_closed, face.mouth_open, face.speaking) == (None, None, None)
        nodes.until(facs.get_subscription_count, "the listener subscribes to action units")
        message = FacialActionUnits(header=header_at(10.1))
        message.intensity[43], message.intensity[26] = 0.9, 0.1
        facs.publish(message)
        stamps = iter(range(2, 10**6))
        nodes.until(lambda: show(10 + next(stamps) / 100).eyes_closed, "the eyes are closed")
        face = received[-1][0]
        assert (face.mouth_open, face.speaking) == (False, False)
        with monkeypatch.context() as patch:
            patch.setattr("fer_ros.ros.client.emotion_listener.MAX_GAP_S", 0.0)
            face = show(10 + next(stamps) / 100)
        assert (face.eyes_closed, face.mouth_open, face.speaking) == (None, None, None)
        emotions.publish(Detection2DArray(header=header_at(11.9 + next(stamps) / 100)))
        nodes.until(lambda: not facs.get_subscription_count(), "the face is gone")
