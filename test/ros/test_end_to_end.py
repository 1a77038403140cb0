"""The whole pipeline over DDS: a camera process, an emotion process, and this one, which listens.

The face of the sample is where ``synthetic_face`` says; while all of it is in the image it
smiles.
"""

from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest
from rclpy.node import Node
from ros_tools import Listener, graph
from sensor_msgs.msg import CompressedImage, Image
from vision_msgs.msg import Detection2DArray

from fer_ros.io.synthetic import COUNT, FPS, synthetic_face
from fer_ros.ros.convert import stamp_s

START_S = 120.0  # importing and loading, on a machine that does other things as well
SHOW_S = 60.0
FLIGHTS = ((0.5, 4.5), (5.5, 9.5))  # seconds in which the portrait is there
CLOSE = 2  # frames, in which the face moves by less than its width

KINDS = {"raw": (Image, "image"), "compressed": (CompressedImage, "image/compressed")}


class PublishedFrames:
    """The published frames and their results."""

    def __init__(self, images: list, replies: list[Detection2DArray]) -> None:
        self.headers = [message.header for message in images]
        self.replies = replies
        self.image_numbers, _ = self._frame_numbers(images)
        self.numbers, self.off_beat = self._frame_numbers(replies)

    def _frame_numbers(self, messages: list) -> tuple[list[int], float]:
        """Frames of the sample that messages are about, and how far stamps lie between two.

        Counted from the last one: it is unknown whether this process had found the camera when it
        showed the first.
        """
        last_s = stamp_s(self.headers[-1])
        ages = [(last_s - stamp_s(message.header)) * FPS for message in messages]
        numbers = [COUNT - 1 - round(age) for age in ages]
        return numbers, max(abs(age - round(age)) for age in ages)

    def faces(self, begin_s: float, end_s: float):
        """Number and detection of each face that was found between two times."""
        for number, result in zip(self.numbers, self.replies, strict=True):
            if begin_s <= number / FPS < end_s:
                yield from ((number, face) for face in result.detections)


def film(folder: Path, transport: str) -> PublishedFrames:
    kind, topic = KINDS[transport]
    with graph() as ros:
        listener = Listener(ros.node(Node, "listener"))
        replies = listener.listen(Detection2DArray, "/emotion_node/emotions", 100)
        images = listener.listen(kind, topic, COUNT)
        watched = ("-p", "wait_for_subscriber:=true")
        common = ("--ros-args", "-p", f"image_transport:={transport}")
        node = ros.process("fer_ros.entry_points", folder / "node.log", "emotion_node", *common)
        ros.until(lambda: is_active(folder / "node.log", node), "the node is active", START_S)
        camera = ros.process(
            "fer_ros.entry_points", folder / "camera.log", "media_publisher", *common, *watched
        )
        ros.until(lambda: camera.poll() is not None, "the camera has ended", SHOW_S)
        last = images[-1].header
        ros.until(lambda: replies and replies[-1].header == last, "the last result")
        return PublishedFrames(images, replies)


def is_whole(number: int) -> bool:
    """All of the face is in this frame of the sample."""
    where = synthetic_face(number)
    return where is not None and where.visible == 1.0


def is_active(log: Path, node) -> bool:
    output = log.read_text()
    assert node.poll() is None, output
    return "active, waiting for images" in output


@pytest.fixture(scope="module", params=KINDS)
def shown(request, tmp_path_factory) -> PublishedFrames:
    return film(tmp_path_factory.mktemp(request.param), request.param)


def test_every_result_has_the_header_of_an_image(shown):
    sent = dict(zip(shown.image_numbers, shown.headers, strict=True))
    received = [result.header for result in shown.replies]
    pairs = [
        (header, sent[number])
        for number, header in zip(shown.numbers, received, strict=True)
        if number in sent  # this process may have missed an image that the node had
    ]
    assert len(pairs) / len(received) > 0.5
    assert [pair for pair in pairs if pair[0] != pair[1]] == []
    assert shown.off_beat < 1e-3
    assert {message.frame_id for message in received} == {"camera"}
    assert shown.numbers == sorted(set(shown.numbers))
    assert len(received) > COUNT / 10  # the others were dropped for newer ones


def test_frames_without_a_face_have_none(shown):
    for number, result in zip(shown.numbers, shown.replies, strict=True):
        around = [synthetic_face(min(COUNT - 1, max(0, number + step))) for step in (-1, 0, 1)]
        if not any(around):
            assert result.detections == [], number


@pytest.mark.parametrize("flight", FLIGHTS)
def test_a_face_keeps_its_id_across_the_image(shown, flight):
    """From image to image; a busy machine skips so many that it sees another face at times."""
    seen = [(number, face.id) for number, face in shown.faces(*flight) if is_whole(number)]
    assert seen, "no face was seen"
    close = [pair for pair in pairwise(seen) if pair[1][0] - pair[0][0] <= CLOSE]
    assert [pair for pair in close if pair[0][1] != pair[1][1]] == []


def test_the_second_pass_is_another_face(shown):
    first, second = ({face.id for _, face in shown.faces(*flight)} for flight in FLIGHTS)
    assert first
    assert second
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
