"""The demo monitor: printed emotions, images and diagnostics."""

import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.node import Node
from ros_tools import BRIGHT, graph_of_a_test, header_at, image_at
from sensor_msgs.msg import Image
from vision_msgs.msg import (
    Detection2D,
    Detection2DArray,
    ObjectHypothesis,
    ObjectHypothesisWithPose,
)

from fer_ros.ros.tools.demo_monitor import ContactSheet, DemoMonitor

SHEET = (3 * 360, 4 * 480, 3)


def image(shade: int, height: int = 36, width: int = 48) -> np.ndarray:
    return np.full((height, width, 3), shade, np.uint8)


def shades(sheet: ContactSheet) -> list[int]:
    """The shade in the middle of each of the twelve cells."""
    sheet = sheet.render()
    assert (sheet.shape, sheet.dtype) == (SHEET, np.uint8)
    return [int(sheet[180 + 360 * row, 240 + 480 * column, 0]) for row, column in np.ndindex(3, 4)]


@pytest.mark.parametrize("count", [0, 1, 5, 12])
def test_few_images_are_all_kept_in_order(count):
    sheet = ContactSheet()
    for number in range(count):
        sheet.add(image(10 + number))
    assert shades(sheet) == [*range(10, 10 + count), *[0] * (12 - count)]


@pytest.mark.parametrize("count", [13, 48, 49, 50, 200, 1999])
def test_many_images_are_kept_evenly(count):
    """From the first to nearly the last, and none far from its neighbors."""
    sheet = ContactSheet()
    for number in range(count):
        sheet.add(image(1 + number * 250 // count))
    kept_shades = np.array(shades(sheet))
    steps = np.diff(kept_shades)
    assert kept_shades[0] == 1
    assert kept_shades[-1] >= 251 * (1 - 1 / 12) - 1
    assert steps.min() > 0
    assert steps.max() <= 2 * 250 / 11 + 1
    assert len(sheet._cells) <= 48


@pytest.mark.parametrize(
    ("size", "filled"),
    [
        ((1, 1), 360 * 360),
        ((480, 640), 480 * 360),
        ((2000, 10), 2 * 360),
        ((10, 2000), 480 * 2),
        ((1080, 1920), 480 * 270),
    ],
)
def test_images_of_any_shape_are_shown_complete(size, filled):
    sheet = ContactSheet()
    sheet.add(image(255, *size))
    assert np.count_nonzero(sheet.render()[..., 0] > 128) == filled


ros = graph_of_a_test


def detection(name: str, *emotions: tuple[str, float]) -> Detection2D:
    results = [
        ObjectHypothesisWithPose(hypothesis=ObjectHypothesis(class_id=emotion, score=score))
        for emotion, score in emotions
    ]
    return Detection2D(id=name, results=results)


def test_each_face_is_printed_once_a_second(ros, capsys):
    monitor, node = ros.node(DemoMonitor), ros.node(Node, "emotion_node")
    publisher = node.create_publisher(Detection2DArray, "~/emotions", 10)
    ros.until(publisher.get_subscription_count, "the observer")
    happy = detection("f00001", ("happiness", 0.876), ("neutral", 0.1))
    for stamp_s, faces in (
        (7.0, []),
        (7.5, [happy]),
        (7.9, [happy]),
        (8.6, [happy, detection("f00002")]),
    ):
        publisher.publish(Detection2DArray(header=header_at(stamp_s), detections=faces))
    ros.until(lambda: monitor.num_messages == 4, "all messages")
    assert monitor.num_readable_faces == 3
    assert capsys.readouterr().out.splitlines() == [
        "   0 s  f00001  happiness  88%",
        "   1 s  f00001  happiness  88%",
        "   1 s  f00002  not readable",
    ]


def test_the_monitor_collects_images_diagnostics_and_errors(ros):
    monitor, node = ros.node(DemoMonitor), ros.node(Node, "emotion_node")
    images = node.create_publisher(Image, "~/debug_image", 10)
    reports = node.create_publisher(DiagnosticArray, "/diagnostics", 10)
    ros.until(images.get_subscription_count, "the observer of images")
    ros.until(reports.get_subscription_count, "the observer of reports")
    images.publish(image_at(1.0, BRIGHT))
    ros.until(lambda: monitor.contact_sheet.render().any(), "the image")
    assert (monitor.diagnostics, monitor.error) == ({}, "")
    for level, text in ((DiagnosticStatus.OK, "fine"), (DiagnosticStatus.ERROR, "no model")):
        values = [KeyValue(key="key", value=text)]
        status = DiagnosticStatus(level=level, message=text, values=values)
        reports.publish(DiagnosticArray(status=[status]))
        ros.until(lambda text=text: monitor.diagnostics == {"key": text}, "the figures")
        assert monitor.error == ("no model" if level == DiagnosticStatus.ERROR else "")
