"""Labels from files and topics, and the faces they mean."""

import math

import numpy as np
import pytest
from bag_tools import at, detection, write_bag

from fer_ros.emotions import EMOTIONS
from fer_ros.evaluation.bags.messages import DETECTIONS, EXPRESSION, STRING, make, make_header
from fer_ros.evaluation.bags.reader import Bag
from fer_ros.evaluation.ground_truth import (
    ImageTime,
    Label,
    LabelClock,
    LabelError,
    LabelMatcher,
    labels_for_bag,
    topic_labels,
)

HAPPY, SAD = EMOTIONS.index("happiness"), EMOTIONS.index("sadness")
FIRST_S = at(0) * 1e-9


def test_labels_of_one_bag():
    labels = [Label(0, 1, SAD), Label(0, 1, SAD, bag="day"), Label(0, 1, SAD, bag="night")]
    assert labels_for_bag(labels, "day") == labels[:2]


def since_first(labels: list[Label], clock: LabelClock) -> list[tuple]:
    """Fields of labels, their times relative to FIRST_S. All must have this clock."""
    assert {label.clock for label in labels} == {clock}
    return [
        (
            round(label.start_s - FIRST_S, 3),
            round(label.end_s - FIRST_S, 3),
            label.emotion,
            label.face,
            label.box_xyxy,
        )
        for label in labels
    ]


def test_string_labels_hold_until_the_next_message(tmp_path):
    messages = [(0, "happy"), (2, ""), (3, "sad")]
    rows = [("/truth", STRING, stamp_s, make(STRING, word)) for stamp_s, word in messages]
    with Bag(write_bag(tmp_path / "bag", rows)) as bag:
        assert since_first(topic_labels(bag, "/truth"), LabelClock.RECEIVED) == [
            (0, 2, HAPPY, "largest", None),
            (3, float("inf"), SAD, "largest", None),
        ]


@pytest.mark.parametrize(
    ("topic", "face"), [("/humans/faces/f00003/expression", "f00003"), ("/expression", "largest")]
)
def test_expressions_are_of_the_face_in_the_topic(tmp_path, topic, face):
    messages = [
        make(EXPRESSION, make_header(at(k), ""), word, 0.0, 0.0, 1.0)
        for k, word in enumerate(["", "happy"])
    ]
    rows = [(topic, EXPRESSION, 0, message) for message in messages]
    with Bag(write_bag(tmp_path / "bag", rows)) as bag:
        assert since_first(topic_labels(bag, topic), LabelClock.STAMP) == [
            (0.99, 1.01, HAPPY, face, None)
        ]


def test_detections_are_of_the_face_at_their_place(tmp_path):
    header = make_header(at(0), "eye")
    faces = [
        detection(header, {"sadness": 0.9, "neutral": 0.1}, (10, 20, 30, 60), "ann"),
        detection(header, {}, (0, 0, 9, 9), "bob"),
    ]
    rows = [("/truth", DETECTIONS, 0, make(DETECTIONS, make_header(at(5), ""), faces))]
    with Bag(write_bag(tmp_path / "bag", rows)) as bag:
        assert since_first(topic_labels(bag, "/truth"), LabelClock.STAMP) == [
            (4.99, 5.01, SAD, "ann", (10, 20, 30, 60))
        ]


@pytest.mark.parametrize(
    ("topic", "message"),
    [
        ("/nothing", "labels from /nothing: expected a topic of std_msgs/msg/String, .* no such"),
        ("/header", "its type is std_msgs/msg/Header"),
        ("/word", "labels from /word: unknown emotion 'glad'"),
    ],
)
def test_topics_without_labels_are_reported_in_one_line(tmp_path, topic, message):
    rows = [
        ("/word", STRING, 0, make(STRING, "glad")),
        ("/header", "std_msgs/msg/Header", 0, make_header(0, "")),
    ]
    with Bag(write_bag(tmp_path / "bag", rows)) as bag, pytest.raises(LabelError, match=message):
        topic_labels(bag, topic)


def at_s(relative_s: float) -> ImageTime:
    """An image of a robot whose camera has another clock than the recorder."""
    return ImageTime(relative_s, relative_s + 12, relative_s + 1000)


BOXES = np.array([[0, 0, 10, 10], [20, 0, 50, 40], [21, 1, 31, 11]], float)
IDS = ["f1", "f2", "f3"]


@pytest.mark.parametrize(
    ("label", "ids", "index"),
    [
        (Label(0, 1, SAD), [], None),
        (Label(0, 1, SAD), IDS, 1),
        (Label(0, 1, SAD, "f3"), IDS, 2),
        (Label(0, 1, SAD, "f9"), IDS, None),
        (Label(0, 1, SAD, "ann", (5, 5, 5, 5)), IDS, 0),
        (Label(0, 1, SAD, "ann", (25, 6, 25, 6)), IDS, 2),
        (Label(0, 1, SAD, "ann", (15, 5, 15, 5)), IDS, None),
        (Label(0, 1, SAD, "ann", (22, 2, 50, 40)), IDS, 1),
        (Label(0, 1, SAD, "ann", (100, 2, 150, 40)), IDS, None),
    ],
)
def test_labels_match_the_intended_face(label, ids, index):
    boxes = BOXES[: len(ids)]
    assert LabelMatcher([label]).match(at_s(0.5), ids, boxes) == [(label, index)]


def test_labels_hold_from_their_start_until_before_their_end():
    labels = [Label(2, 3, SAD), Label(0, 1, HAPPY), Label(2.5, 3, HAPPY, "f1")]
    matcher = LabelMatcher(labels)
    matches = [
        [(label.emotion, index) for label, index in matcher.match(at_s(stamp_s), IDS, BOXES)]
        for stamp_s in (0, 0.99, 1, 2, 2.5, 3)
    ]
    assert matches == [[(HAPPY, 1)], [(HAPPY, 1)], [], [(SAD, 1)], [(SAD, 1), (HAPPY, 0)], []]


def test_of_two_labels_for_a_face_the_later_one_holds():
    matcher = LabelMatcher([Label(0, 9, SAD), Label(1, 2, HAPPY)])
    assert [label.emotion for label, _ in matcher.match(at_s(1), IDS, BOXES)] == [HAPPY]


def test_a_label_within_another_one_interrupts_it():
    matcher = LabelMatcher([Label(0, 9, SAD), Label(1, 2, HAPPY)])
    seen = [matcher.match(at_s(stamp_s), IDS, BOXES) for stamp_s in (0, 1, 2, 8, 9)]
    emotions = [[label.emotion for label, _ in matches] for matches in seen]
    assert emotions == [[SAD], [HAPPY], [SAD], [SAD], []]


def test_labels_that_hold_until_the_next_one_are_forgotten():
    """A topic with a label for each image would otherwise slow down its end."""
    matcher = LabelMatcher([Label(start_s, math.inf, SAD) for start_s in range(100)])
    for stamp_s in range(100):
        matcher.match(at_s(stamp_s), IDS, BOXES)
    assert len(matcher._active) == 1


def test_no_face_has_two_labels():
    labels = [Label(0, 1, SAD, "ann", (5, 5, 5, 5)), Label(0, 1, HAPPY, "bob", (6, 6, 6, 6))]
    assert [index for _, index in LabelMatcher(labels).match(at_s(0), IDS, BOXES)] == [0, None]


@pytest.mark.parametrize(
    ("clock", "offset_s"),
    [(LabelClock.RELATIVE, 0), (LabelClock.STAMP, 12), (LabelClock.RECEIVED, 1000)],
)
def test_times_count_in_the_clock_of_their_source(clock, offset_s):
    """However large or small they are."""
    matcher = LabelMatcher([Label(offset_s + 1, offset_s + 2, SAD, clock=clock)])
    held = [len(matcher.match(at_s(stamp_s), IDS, BOXES)) for stamp_s in (0, 1, 1.9, 2, 12)]
    assert held == [0, 1, 1, 0, 0]


def test_times_of_receipt_may_decrease_slightly():
    """Messages overtake each other; images come in the order of their stamps."""
    labels = [
        Label(0, 1, SAD, clock=LabelClock.RECEIVED),
        Label(1, 2, HAPPY, clock=LabelClock.RECEIVED),
    ]
    matcher = LabelMatcher(labels)
    held = [
        [label.emotion for label, _ in matcher.match(ImageTime(k, k, received_s), IDS, BOXES)]
        for k, received_s in enumerate([0.8, 1.05, 0.95, 1.1])
    ]
    assert held == [[SAD], [HAPPY], [SAD], [HAPPY]]


def test_labels_that_hold_for_no_frame():
    labels = [Label(5, 6, SAD), Label(0.2, 0.3, HAPPY), Label(0, 1, SAD)]
    matcher = LabelMatcher(labels)
    assert len(matcher.unused) == 3
    for stamp_s in (0, 0.5, 1):
        matcher.match(at_s(stamp_s), [], np.zeros((0, 4)))
    assert matcher.unused == [labels[1], labels[0]]


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (STRING, make(STRING, "")),
        (EXPRESSION, make(EXPRESSION, make_header(0, ""), "", 0.0, 0.0, 1.0)),
        (DETECTIONS, make(DETECTIONS, make_header(0, ""), [])),
    ],
)
def test_topics_of_messages_without_labels_are_reported(tmp_path, kind, message):
    path = write_bag(tmp_path / "bag", [("/truth", kind, 0, message)])
    with Bag(path) as bag, pytest.raises(LabelError, match="its messages hold no labels"):
        topic_labels(bag, "/truth")
