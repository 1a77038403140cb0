"""Faults around a running node, over DDS: its behavior during and after them."""

import os
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.node import Node
from rclpy.qos import QoSProfile
from ros_tools import (
    BRIGHT,
    FakeDetector,
    Listener,
    diagnostics_often,
    graph_of_a_test,
    header_at,
    image_at,
    quick_pipeline,
)
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import Image
from tree import ROOT
from vision_msgs.msg import Detection2DArray

from fer_ros.inference.model_store import MANIFEST_FILE, InputSpec
from fer_ros.models import build_model
from fer_ros.models.checkpoint import save_model
from fer_ros.models.wrapper import FaceNetwork
from fer_ros.multi_camera import MultiCameraPipeline
from fer_ros.ros.node import EmotionNode

START_S = 120.0  # importing and loading, on a machine that does other things as well
EXIT_S = 2.0
HOUR_S = 3600.0
EMOTIONS = "emotion_node/emotions"


reports_often = diagnostics_often
ros = graph_of_a_test


class Camera:
    """A node that publishes images and receives their results."""

    def __init__(self, ros, name="camera"):
        self.ros, self.node = ros, ros.node(Node, name)
        self.publisher = self.node.create_publisher(Image, "image", QoSProfile(depth=50))
        self.results = Listener(self.node).listen(Detection2DArray, EMOTIONS, 100)
        ros.until(self.publisher.get_subscription_count, "the node subscribes", START_S)
        ros.until(lambda: self.node.count_publishers(EMOTIONS), "the node offers emotions")

    def show(self, stamp_s, image=BRIGHT):
        """The result of an image."""
        message = image_at(stamp_s, image)
        self.publisher.publish(message)
        self.ros.until(lambda: self.answer_to(message), f"the result to {stamp_s} s")
        return self.answer_to(message)

    def answer_to(self, message):
        return next((result for result in self.results if result.header == message.header), None)


def active_node(ros, before=lambda _: None, **parameters):
    node = ros.node(EmotionNode, quick_pipeline(before), tracker__min_hits=1, **parameters)
    node.start()
    return node


def listen_to_reports(ros):
    return Listener(ros.node(Node, "monitor")).listen(DiagnosticArray, "/diagnostics")


def test_a_crashed_camera_is_replaced_by_another(ros):
    active_node(ros, image_timeout_s=0.2)
    reports = listen_to_reports(ros)
    first = Camera(ros)
    face = first.show(1.0).detections[0].id
    ros.remove(first.node)
    reports.clear()
    ros.until(lambda: any(is_stale(report) for report in reports), "the stale report")
    second = Camera(ros, "camera_again")
    again = second.show(10.0).detections[0].id
    assert again != face  # after the pause it may be another person
    reports.clear()
    second.show(10.1)
    ros.until(lambda: reports and figures(reports[-1])["processed"] == "3", "its figures")


def is_stale(report):
    return report.status[0].level == DiagnosticStatus.STALE


def figures(report):
    return {value.key: value.value for value in report.status[0].values}


def test_two_cameras_on_one_topic(ros):
    """Every image has its own result, and each image its own faces."""
    active_node(ros)
    cameras = [Camera(ros, "left"), Camera(ros, "right")]
    for number in range(6):
        for side, camera in enumerate(cameras):
            image = BRIGHT if side == 0 else np.zeros_like(BRIGHT)
            result = camera.show(1.0 + number / 10 + side / 20, image)
            assert len(result.detections) == 1 - side


def test_an_image_of_4k(ros):
    seen = []
    active_node(ros, lambda image_rgb: seen.append(image_rgb.shape))
    camera = Camera(ros)
    camera.show(1.0)
    camera.show(1.1, np.full((2160, 3840, 3), 200, np.uint8))
    camera.show(1.2)
    assert seen == [(120, 160, 3), (2160, 3840, 3), (120, 160, 3)]


def test_a_flood_of_images_leaves_the_newest(ros):
    """200 images per second on a network that needs 50 ms: nothing queues."""
    busy = threading.Event()
    node = active_node(ros, lambda _: busy.wait(0.05))
    camera = Camera(ros)
    begin_s = time.monotonic()
    for number in range(400):
        camera.publisher.publish(image_at(1.0 + number / 200, BRIGHT))
        while time.monotonic() < begin_s + number / 200:
            ros.executor.spin_once(timeout_sec=0.001)
    last = image_at(1.0 + 399 / 200, BRIGHT)
    ros.until(lambda: camera.answer_to(last), "the result to the newest image")
    assert len(camera.results) < 100
    stamps = [
        result.header.stamp.sec + result.header.stamp.nanosec * 1e-9 for result in camera.results
    ]
    assert stamps == sorted(stamps)
    assert node.trigger_deactivate() == TransitionCallbackReturn.SUCCESS
    count = len(camera.results)
    ros.until(lambda: not camera.publisher.get_subscription_count(), "the node unsubscribes")
    assert len(camera.results) == count  # none was left in a queue


@pytest.mark.parametrize("jump_s", [HOUR_S, -HOUR_S])
def test_the_clock_jumps_by_an_hour(ros, jump_s):
    active_node(ros)
    camera = Camera(ros)
    before = [camera.show(5000.0 + k / 10).detections[0].id for k in range(3)]
    after = [camera.show(5000.3 + jump_s + k / 10).detections[0].id for k in range(3)]
    assert len({*before}) == len({*after}) == 1
    assert {*before} & {*after} == set()


def test_a_restarted_simulation_continues(ros):
    """`use_sim_time`: the clock and the images go back to zero, and the reports with them."""
    active_node(ros, use_sim_time=True)
    reports = listen_to_reports(ros)
    camera = Camera(ros)
    clock = camera.node.create_publisher(Clock, "/clock", 10)
    ros.until(clock.get_subscription_count, "the node follows the clock")
    faces = []
    for begin_s in (100.0, 0.0):
        now = header_at(begin_s).stamp
        clock.publish(Clock(clock=now))
        ros.until(lambda now=now: reports and reports[-1].header.stamp == now, "a report of then")
        results = [camera.show(begin_s + 0.1 + k / 10) for k in range(3)]
        faces.append({result.detections[0].id for result in results})
    assert [len(face) for face in faces] == [1, 1]
    assert faces[0] != faces[1]


def test_a_subscriber_that_never_reads(ros):
    """Reliable, and with a queue that is full at once: it does not block."""
    sleeper = Node("sleeper", context=ros.context)  # no executor has it
    sleeper.create_subscription(Detection2DArray, EMOTIONS, lambda _: None, QoSProfile(depth=1))
    active_node(ros)
    camera = Camera(ros)
    ros.until(lambda: camera.node.count_subscribers(EMOTIONS) == 2, "both subscribe")
    for number in range(50):
        camera.show(1.0 + number / 10)
    sleeper.destroy_node()


def remove_weights(folder):
    (folder / "weights.safetensors").unlink()


def damage_weights(folder):
    path = folder / "weights.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def truncate_manifest(folder):
    path = folder / MANIFEST_FILE
    path.write_bytes(path.read_bytes()[:20])


@pytest.mark.parametrize("spoil", [remove_weights, damage_weights, truncate_manifest])
def test_a_model_damaged_under_the_node_is_reported(ros, capfd, tmp_path, spoil):
    """It goes on with what it has; configure says in one line what is wrong until it is fixed."""
    folder = tmp_path / "mine"
    save_model(FaceNetwork(build_model("vgg13"), InputSpec(size_px=64)), folder, "vgg13")
    model = {"classifier__model": str(folder), "classifier__backend": "torch"}
    node = ros.node(EmotionNode, with_network, tracker__min_hits=1, **model)
    node.start()
    camera = Camera(ros)
    kept = {path: path.read_bytes() for path in folder.iterdir()}
    spoil(folder)
    camera.show(1.0)
    node.trigger_deactivate()
    node.trigger_cleanup()
    for _ in range(2):
        capfd.readouterr()
        assert node.trigger_configure() == TransitionCallbackReturn.FAILURE
        (error,) = [line for line in capfd.readouterr().err.splitlines() if "[ERROR]" in line]
        assert f"cannot be configured: {folder}/" in error
    for path, content in kept.items():
        path.write_bytes(content)
    node.start()
    ros.until(camera.publisher.get_subscription_count, "the node subscribes")
    camera.show(2.0)


def with_network(cameras, config):
    return MultiCameraPipeline(cameras, config, FakeDetector(lambda _: None))


def test_a_temporarily_full_device_recovers(ros, capfd):
    """The images of that time are lost and counted, those after it are answered."""
    full = threading.Event()

    def allocate(_):
        if full.is_set():
            raise RuntimeError("CUDA out of memory.\nTried to allocate 2.00 GiB")

    active_node(ros, allocate)
    reports = listen_to_reports(ros)
    camera = Camera(ros)
    camera.show(1.0)
    full.set()
    for number in range(3):
        camera.publisher.publish(image_at(1.1 + number / 10, BRIGHT))
        ros.until(
            lambda n=number: any(figures(report)["failed"] == str(n + 1) for report in reports),
            "a report of the loss",
        )
    full.clear()
    camera.show(1.5)
    warnings = [line for line in capfd.readouterr().err.splitlines() if "[WARN]" in line]
    assert len([line for line in warnings if "CUDA out of memory. Tried" in line]) == 1


# The process of a node that works on each frame for half a second.
BUSY = """
import functools, sys, threading
from ros_tools import quick_pipeline
from fer_ros.ros import node
def work(image_rgb):
    print("a frame is in work", flush=True)
    threading.Event().wait(0.5)
node.EmotionNode = functools.partial(node.EmotionNode, quick_pipeline(work))
sys.exit(node.main())
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_during_a_frame_ends_the_node(ros, tmp_path, number):
    """The process ends within 2 s and without a trace."""
    log = tmp_path / "log"
    process = busy_process(ros, log)
    camera = Camera(ros)
    message = image_at(1.0, BRIGHT)

    def is_in_work() -> bool:
        camera.publisher.publish(message)
        return "a frame is in work" in log.read_text()

    ros.until(is_in_work, "a frame is in work", START_S)
    process.send_signal(number)
    ros.until(lambda: process.poll() is not None, "the process has ended", EXIT_S)
    assert process.returncode == 0
    assert "Traceback" not in log.read_text()


def busy_process(ros, log):
    variables = {"ROS_DOMAIN_ID": str(ros.domain), "PYTHONPATH": str(ROOT / "test")}
    with log.open("w") as file:
        command = [sys.executable, "-c", BUSY]
        process = subprocess.Popen(command, env=os.environ | variables, stdout=file, stderr=file)
    ros.processes.append(process)
    return process
