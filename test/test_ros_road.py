"""The whole road over real DDS: a camera process, an emotion process, and this one, which listens.

The face of the sample is where ``sample_face`` says; while all of it is in the picture it smiles.
"""

from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest
from rclpy.node import Node
from ros_tools import Listener, graph
from sensor_msgs.msg import CompressedImage, Image
from vision_msgs.msg import Detection2DArray

from fer_ros.ros.convert import stamp_s
from fer_ros.sample import COUNT, FPS, sample_face

START_S = 120.0  # importing and loading, on a machine that does other things as well
SHOW_S = 60.0
FLIGHTS = ((0.5, 4.5), (5.5, 9.5))  # seconds in which the portrait is there
CLOSE = 2  # frames, in which the face moves by less than its width

KINDS = {"raw": (Image, "image"), "compressed": (CompressedImage, "image/compressed")}


class Film:
    """What was shown and what was answered."""

    def __init__(self, images: list, answers: list[Detection2DArray]) -> None:
        self.headers = [message.header for message in images]
        self.answers = answers
        # The frame of the sample that an answer is about. Counted from the last one: nobody knows
        # whether this process had found the camera when it showed the first.
        last_s = stamp_s(images[-1].header)
        ages = [(last_s - stamp_s(answer.header)) * FPS for answer in answers]
        self.numbers = [COUNT - 1 - round(age) for age in ages]
        self.off_beat = max(abs(age - round(age)) for age in ages)

    def faces(self, begin_s: float, end_s: float):
        """Number and detection of each face that was found between two moments."""
        for number, answer in zip(self.numbers, self.answers, strict=True):
            if begin_s <= number / FPS < end_s:
                yield from ((number, face) for face in answer.detections)


def film(folder: Path, transport: str) -> Film:
    kind, topic = KINDS[transport]
    with graph() as ros:
        listener = Listener(ros.node(Node, "listener"))
        answers = listener.listen(Detection2DArray, "/emotion_node/emotions", 100)
        images = listener.listen(kind, topic, COUNT)
        watched = ("-p", "wait_for_subscriber:=true")
        common = ("--ros-args", "-p", f"image_transport:={transport}")
        node = ros.process("fer_ros.ros.node", folder / "node.log", *common)
        ros.until(lambda: is_active(folder / "node.log", node), "the node is active", START_S)
        camera = ros.process("fer_ros.ros.camera", folder / "camera.log", *common, *watched)
        ros.until(lambda: camera.poll() is not None, "the camera has ended", SHOW_S)
        last = images[-1].header
        ros.until(lambda: answers and answers[-1].header == last, "the last answer")
        return Film(images, answers)


def is_whole(number: int) -> bool:
    """All of the face is in this frame of the sample."""
    where = sample_face(number)
    return where is not None and where.visible == 1.0


def is_active(log: Path, node) -> bool:
    said = log.read_text()
    assert node.poll() is None, said
    return "active, waiting for images" in said


@pytest.fixture(scope="module", params=KINDS)
def shown(request, tmp_path_factory) -> Film:
    return film(tmp_path_factory.mktemp(request.param), request.param)


def test_every_answer_has_the_header_of_an_image(shown):
    known = {(each.stamp.sec, each.stamp.nanosec): each for each in shown.headers}
    heard = [answer.header for answer in shown.answers]
    same = [known.get((each.stamp.sec, each.stamp.nanosec)) == each for each in heard]
    assert sum(same) / len(same) > 0.5  # this process may have missed an image that the node had
    assert shown.off_beat < 1e-3
    assert {each.frame_id for each in heard} == {"camera"}
    assert shown.numbers == sorted(set(shown.numbers))
    assert len(heard) > COUNT / 10  # the others were dropped for newer ones


def test_nobody_is_seen_where_nobody_is(shown):
    for number, answer in zip(shown.numbers, shown.answers, strict=True):
        around = [sample_face(min(COUNT - 1, max(0, number + each))) for each in (-1, 0, 1)]
        if not any(around):
            assert answer.detections == [], number


@pytest.mark.parametrize("flight", FLIGHTS)
def test_a_face_keeps_its_id_while_it_flies_through(shown, flight):
    """From image to image; a busy machine skips so many that it sees another face at times."""
    seen = [(number, face.id) for number, face in shown.faces(*flight) if is_whole(number)]
    assert seen, "no face was seen"
    close = [pair for pair in pairwise(seen) if pair[1][0] - pair[0][0] <= CLOSE]
    assert [pair for pair in close if pair[0][1] != pair[1][1]] == []


def test_the_second_flight_is_another_face(shown):
    first, second = ({face.id for _, face in shown.faces(*flight)} for flight in FLIGHTS)
    assert not first & second


def test_the_face_smiles(shown):
    """On most images that show all of it, and by far."""
    seen = Counter(
        face.results[0].hypothesis.class_id
        for number, face in shown.faces(0.0, COUNT / FPS)
        if face.results and is_whole(number)
    )
    assert seen.total() > 0
    assert seen["happiness"] / seen.total() > 0.8, seen
