"""Faults around a running node, over real DDS: what it does then, and that it goes on after it."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.node import Node
from rclpy.qos import QoSProfile
from ros_tools import (
    BRIGHT,
    Eye,
    Listener,
    diagnostics_often,
    graph_of_a_test,
    header_at,
    image_at,
    quick_pipeline,
)
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import Image
from vision_msgs.msg import Detection2DArray

from fer_ros.cameras import CamerasPipeline
from fer_ros.model import build_model
from fer_ros.model.checkpoint import save_model
from fer_ros.model.network import FaceNetwork
from fer_ros.ros.node import EmotionNode
from fer_ros.weights import CARD_FILE, InputSpec

START_S = 120.0  # importing and loading, on a machine that does other things as well
EXIT_S = 2.0
HOUR_S = 3600.0
EMOTIONS = "emotion_node/emotions"


reports_often = diagnostics_often
ros = graph_of_a_test


class Camera:
    """A node that publishes images which the emotion node answers."""

    def __init__(self, ros, name="camera"):
        self.ros, self.node = ros, ros.node(Node, name)
        self.publisher = self.node.create_publisher(Image, "image", QoSProfile(depth=50))
        self.answers = Listener(self.node).listen(Detection2DArray, EMOTIONS, 100)
        ros.until(self.publisher.get_subscription_count, "the node subscribes", START_S)
        ros.until(lambda: self.node.count_publishers(EMOTIONS), "the node offers emotions")

    def show(self, stamp_s, picture=BRIGHT):
        """The answer to an image."""
        message = image_at(stamp_s, picture)
        self.publisher.publish(message)
        self.ros.until(lambda: self.answer_to(message), f"the answer to {stamp_s} s")
        return self.answer_to(message)

    def answer_to(self, message):
        return next((each for each in self.answers if each.header == message.header), None)


def active_node(ros, before=lambda _: None, **parameters):
    node = ros.node(EmotionNode, quick_pipeline(before), tracker__min_hits=1, **parameters)
    node.start()
    return node


def listen_to_reports(ros):
    return Listener(ros.node(Node, "monitor")).listen(DiagnosticArray, "/diagnostics")


def test_a_camera_dies_and_another_one_takes_over(ros):
    active_node(ros, image_timeout_s=0.2)
    reports = listen_to_reports(ros)
    first = Camera(ros)
    face = first.show(1.0).detections[0].id
    ros.remove(first.node)
    reports.clear()
    ros.until(lambda: any(is_stale(each) for each in reports), "the silence is told")
    second = Camera(ros, "camera_again")
    again = second.show(10.0).detections[0].id
    assert again != face  # nobody knows who stands there after the pause
    reports.clear()
    second.show(10.1)
    ros.until(lambda: reports and figures(reports[-1])["processed"] == "3", "its figures")


def is_stale(report):
    return report.status[0].level == DiagnosticStatus.STALE


def figures(report):
    return {each.key: each.value for each in report.status[0].values}


def test_two_cameras_on_one_topic(ros):
    """Every image has its own answer, whoever sent it, and each picture its own faces."""
    active_node(ros)
    cameras = [Camera(ros, "left"), Camera(ros, "right")]
    for number in range(6):
        for side, camera in enumerate(cameras):
            picture = BRIGHT if side == 0 else np.zeros_like(BRIGHT)
            answer = camera.show(1.0 + number / 10 + side / 20, picture)
            assert len(answer.detections) == 1 - side


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
    ros.until(lambda: camera.answer_to(last), "the answer to the newest image")
    assert len(camera.answers) < 100
    stamps = [each.header.stamp.sec + each.header.stamp.nanosec * 1e-9 for each in camera.answers]
    assert stamps == sorted(stamps)
    assert node.trigger_deactivate() == TransitionCallbackReturn.SUCCESS
    count = len(camera.answers)
    ros.until(lambda: not camera.publisher.get_subscription_count(), "the node unsubscribes")
    assert len(camera.answers) == count  # none was left in a queue


@pytest.mark.parametrize("jump_s", [HOUR_S, -HOUR_S])
def test_the_clock_jumps_by_an_hour(ros, jump_s):
    active_node(ros)
    camera = Camera(ros)
    before = [camera.show(5000.0 + k / 10).detections[0].id for k in range(3)]
    after = [camera.show(5000.3 + jump_s + k / 10).detections[0].id for k in range(3)]
    assert len({*before}) == len({*after}) == 1
    assert {*before} & {*after} == set()


def test_a_simulation_that_starts_again(ros):
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
        answers = [camera.show(begin_s + 0.1 + k / 10) for k in range(3)]
        faces.append({answer.detections[0].id for answer in answers})
    assert [len(each) for each in faces] == [1, 1]
    assert faces[0] != faces[1]


def test_a_subscriber_that_never_reads(ros):
    """Reliable, and with a queue that is full at once: it holds up nobody."""
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


def tear_card(folder):
    path = folder / CARD_FILE
    path.write_bytes(path.read_bytes()[:20])


@pytest.mark.parametrize("spoil", [remove_weights, damage_weights, tear_card])
def test_a_model_is_spoiled_under_the_node(ros, capfd, tmp_path, spoil):
    """It goes on with what it has; configure says in one line what is wrong until it is mended."""
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
    return CamerasPipeline(cameras, config, Eye(lambda _: None))


def test_a_device_that_is_full_for_a_while(ros, capfd):
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
            lambda n=number: any(figures(each)["failed"] == str(n + 1) for each in reports),
            "the loss is told",
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
def test_a_signal_while_a_frame_is_in_work(ros, tmp_path, number):
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
    variables = {"ROS_DOMAIN_ID": str(ros.domain), "PYTHONPATH": str(Path(__file__).parent)}
    with log.open("w") as file:
        command = [sys.executable, "-c", BUSY]
        process = subprocess.Popen(command, env=os.environ | variables, stdout=file, stderr=file)
    ros.processes.append(process)
    return process
