"""Labels from files and topics, and the faces they mean."""

import numpy as np
import pytest
from bag_tools import at, write_bag

from fer_ros.evaluation.bags import Bag
from fer_ros.evaluation.labels import (
    Label,
    LabelError,
    Labeller,
    of_bag,
    read_labels,
    topic_labels,
)
from fer_ros.evaluation.messages import DETECTIONS, EXPRESSION, STRING, make, make_header
from fer_ros.labels import EMOTIONS

HAPPY, SAD = EMOTIONS.index("happiness"), EMOTIONS.index("sadness")
FIRST_S = at(0) * 1e-9


@pytest.mark.parametrize(
    ("name", "text", "wanted"),
    [
        ("a.csv", "", []),
        ("a.yaml", "", []),
        ("a.csv", "start_s,end_s,emotion\n", []),
        ("a.csv", "start_s, end_s, emotion\n0, 1.5, happy\n", [Label(0, 1.5, HAPPY)]),
        (
            "a.csv",
            "start_s,end_s,face,emotion\n0,1,f00002,Sadness\n1,2,,happy\n",
            [Label(0, 1, SAD, "f00002"), Label(1, 2, HAPPY)],
        ),
        ("a.csv", "stamp_s,emotion,bag\n3,sad,day\n", [Label(2.99, 3.01, SAD, bag="day")]),
        (
            "a.yml",
            "- {start_s: 0, end_s: 1, emotion: sad, x: 30, y: 40, face: ann}\n",
            [Label(0, 1, SAD, "ann", (30, 40, 30, 40))],
        ),
        (
            "a.csv",
            "start_s,end_s,emotion,x,y\n0,1,sad,30,40.5\n",
            [Label(0, 1, SAD, "30,40.5", (30, 40.5, 30, 40.5))],
        ),
    ],
)
def test_files(tmp_path, name, text, wanted):
    path = tmp_path / name
    path.write_text(text)
    assert read_labels(path) == wanted


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("a.csv", "start_s,end_s\n0,1\n", "line 2: no emotion; expected one of neutral, happiness"),
        ("a.csv", "start_s,end_s,emotion\n0,1,glad\n", "line 2: unknown emotion 'glad'"),
        ("a.csv", "start_s,end_s,emotion\n0,1,sad\n2,1,sad\n", "line 3: expected start_s before"),
        ("a.csv", "start_s,end_s,emotion\nx,1,sad\n", "line 2: start_s: expected a number, found"),
        ("a.csv", "start_s,end_s,emotion\nnan,1,sad\n", "start_s: expected a finite number"),
        ("a.csv", "start_s,emotion\n0,sad\n", "line 2: end_s is missing"),
        ("a.csv", "start_s,end_s,emotion,x\n0,1,sad,3\n", "line 2: y is missing"),
        ("a.csv", "start,end_s,emotion\n0,1,sad\n", "unknown key 'start'; known: start_s, end_s"),
        ("a.csv", "start_s,end_s,emotion\n0,1,sad,4\n", "line 2: more values than columns"),
        ("a.csv", b"\xff\xfe\x00", "not a CSV file"),
        ("a.yaml", "a: [", "not a YAML file"),
        ("a.yaml", "a: 3", "expected a list of labels"),
        ("a.yaml", "- {start_s: 0, emotion: sad}", "label 1: end_s is missing"),
    ],
)
def test_bad_files_are_one_line(tmp_path, name, text, says):
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(LabelError) as caught:
        read_labels(path)
    assert str(caught.value).startswith(str(path))
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_times_may_be_stamps():
    label = Label(FIRST_S + 1, FIRST_S + 2, SAD)
    since = label.since(FIRST_S)
    assert (since.start_s, since.end_s) == pytest.approx((1, 2), abs=1e-5)
    assert Label(1, 2, SAD).since(FIRST_S) == Label(1, 2, SAD)


def test_labels_of_one_bag():
    labels = [Label(0, 1, SAD), Label(0, 1, SAD, bag="day"), Label(0, 1, SAD, bag="night")]
    assert of_bag(labels, "day") == labels[:2]


def detection(name: str, identity: str, box: tuple[float, ...]):
    left, top, right, bottom = box
    middle = make("vision_msgs/msg/Point2D", (left + right) / 2, (top + bottom) / 2)
    pose = make("vision_msgs/msg/Pose2D", middle, 0.0)
    bbox = make("vision_msgs/msg/BoundingBox2D", pose, right - left, bottom - top)
    geometry = make(
        "geometry_msgs/msg/PoseWithCovariance",
        make(
            "geometry_msgs/msg/Pose",
            make("geometry_msgs/msg/Point", 0.0, 0.0, 0.0),
            make("geometry_msgs/msg/Quaternion", 0.0, 0.0, 0.0, 1.0),
        ),
        np.zeros(36),
    )
    shares = [(name, 0.9), ("neutral", 0.1)]
    results = [
        make(
            "vision_msgs/msg/ObjectHypothesisWithPose",
            make("vision_msgs/msg/ObjectHypothesis", *pair),
            geometry,
        )
        for pair in shares
    ]
    header = make_header(at(0), "eye")
    return make("vision_msgs/msg/Detection2D", header, results if name else [], bbox, identity)


def since(labels: list[Label]) -> list[tuple]:
    moved = [label.since(FIRST_S) for label in labels]
    return [
        (round(each.start_s, 3), round(each.end_s, 3), each.emotion, each.face, each.box_xyxy)
        for each in moved
    ]


def test_words_hold_until_the_next_one(tmp_path):
    said = [(0, "happy"), (2, ""), (3, "sad")]
    rows = [("/truth", STRING, stamp_s, make(STRING, word)) for stamp_s, word in said]
    with Bag(write_bag(tmp_path / "bag", rows)) as bag:
        assert since(topic_labels(bag, "/truth")) == [
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
        assert since(topic_labels(bag, topic)) == [(0.99, 1.01, HAPPY, face, None)]


def test_detections_are_of_the_face_at_their_place(tmp_path):
    faces = [detection("sadness", "ann", (10, 20, 30, 60)), detection("", "bob", (0, 0, 9, 9))]
    rows = [("/truth", DETECTIONS, 0, make(DETECTIONS, make_header(at(5), ""), faces))]
    with Bag(write_bag(tmp_path / "bag", rows)) as bag:
        assert since(topic_labels(bag, "/truth")) == [(4.99, 5.01, SAD, "ann", (10, 20, 30, 60))]


@pytest.mark.parametrize(
    ("topic", "says"),
    [
        ("/nothing", "labels from /nothing: expected a topic of std_msgs/msg/String, .* no such"),
        ("/header", "its type is std_msgs/msg/Header"),
        ("/word", "labels from /word: unknown emotion 'glad'"),
    ],
)
def test_topics_without_labels_are_one_line(tmp_path, topic, says):
    rows = [
        ("/word", STRING, 0, make(STRING, "glad")),
        ("/header", "std_msgs/msg/Header", 0, make_header(0, "")),
    ]
    with Bag(write_bag(tmp_path / "bag", rows)) as bag, pytest.raises(LabelError, match=says):
        topic_labels(bag, topic)


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
def test_the_face_that_a_label_means(label, ids, index):
    boxes = BOXES[: len(ids)]
    assert Labeller([label]).at(0.5, ids, boxes) == [(label, index)]


def test_labels_hold_from_their_start_until_before_their_end():
    labels = [Label(2, 3, SAD), Label(0, 1, HAPPY), Label(2.5, 3, HAPPY, "f1")]
    labeller = Labeller(labels)
    found = [
        [(label.emotion, index) for label, index in labeller.at(stamp_s, IDS, BOXES)]
        for stamp_s in (0, 0.99, 1, 2, 2.5, 3)
    ]
    assert found == [[(HAPPY, 1)], [(HAPPY, 1)], [], [(SAD, 1)], [(SAD, 1), (HAPPY, 0)], []]


def test_of_two_labels_for_a_face_the_later_one_holds():
    labeller = Labeller([Label(0, 9, SAD), Label(1, 2, HAPPY)])
    assert [label.emotion for label, _ in labeller.at(1, IDS, BOXES)] == [HAPPY]


def test_no_face_has_two_labels():
    labels = [Label(0, 1, SAD, "ann", (5, 5, 5, 5)), Label(0, 1, HAPPY, "bob", (6, 6, 6, 6))]
    assert [index for _, index in Labeller(labels).at(0, IDS, BOXES)] == [0, None]
