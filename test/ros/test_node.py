"""The states of the node, its parameters, and its error messages."""

import threading
from dataclasses import replace
from pathlib import Path

import pytest
from diagnostic_msgs.msg import DiagnosticStatus
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from node_tools import ClientNode, enable
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.node import Node
from rclpy.parameter import Parameter
from ros_tools import (
    BRIGHT,
    diagnostics_often,
    fake_pipeline,
    graph_of_a_test,
    image_at,
    quick_pipeline,
)
from sensor_msgs.msg import Image

from fer_ros.inference.model_store import ModelManifest, write_manifest
from fer_ros.multi_camera import MultiCameraPipeline
from fer_ros.ros.node import EmotionNode
from fer_ros.types import TEMPLATE_XY

SUCCESS, ERROR = TransitionCallbackReturn.SUCCESS, TransitionCallbackReturn.ERROR


reports_often = diagnostics_often
ros = graph_of_a_test


def test_without_autostart_the_node_waits_for_transitions(ros):
    node, client_node = ros.node(EmotionNode, quick_pipeline(), autostart=False), ClientNode(ros)
    node.start()
    assert (client_node.state(), client_node.num_subscribers()) == ("unconfigured", 0)
    assert client_node.wait_for_status("unconfigured").level == DiagnosticStatus.OK


def test_the_node_starts_by_default(ros, capfd):
    node, client_node = ros.node(EmotionNode, quick_pipeline()), ClientNode(ros)
    node.start()
    client_node.show(1.0)
    assert client_node.state() == "active"
    output = capfd.readouterr().err
    assert "loaded model fake, fake on cpu: made up, warm-up 0.0 s" in output
    assert "active, waiting for images on /image" in output


def test_the_node_can_be_configured_twice(ros):
    node, client_node = ros.node(EmotionNode, quick_pipeline()), ClientNode(ros)
    for life in (1, 2):
        assert node.trigger_configure() == SUCCESS
        assert client_node.wait_for_status("inactive")
        assert client_node.num_subscribers() == 0
        for time in (1, 2):
            assert node.trigger_activate() == SUCCESS
            client_node.show(life + time / 10)
            assert node.trigger_deactivate() == SUCCESS
            ros.until(
                lambda: not client_node.camera.get_subscription_count(), "the node unsubscribes"
            )
        assert node.trigger_cleanup() == SUCCESS
        assert client_node.wait_for_status("unconfigured")
        ros.until(
            lambda: not client_node.node.count_publishers("emotion_node/emotions"), "no topic"
        )
    assert len(client_node.emotions) == 4


def test_an_inactive_node_handles_no_image(ros):
    seen = []
    node = ros.node(EmotionNode, quick_pipeline(lambda image_rgb: seen.append(image_rgb)))
    client_node = ClientNode(ros)

    def has_subscription():
        return "/image" in {subscription.topic_name for subscription in node.subscriptions}

    node.trigger_configure()
    assert not has_subscription()
    node.trigger_activate()
    assert has_subscription()
    client_node.show(2.0)
    node.trigger_deactivate()
    assert not has_subscription()
    client_node.camera.publish(image_at(3.0, BRIGHT))
    node.trigger_activate()
    client_node.show(4.0)
    assert [emotion.header.stamp.sec for emotion in client_node.emotions] == [2, 4]
    assert len(seen) == 2


def test_a_lifecycle_manager_controls_the_node(ros):
    ros.node(EmotionNode, quick_pipeline())
    client_node = ClientNode(ros)
    for transition, state in (
        (Transition.TRANSITION_CONFIGURE, "inactive"),
        (Transition.TRANSITION_ACTIVATE, "active"),
        (Transition.TRANSITION_DEACTIVATE, "inactive"),
        (Transition.TRANSITION_CLEANUP, "unconfigured"),
        (Transition.TRANSITION_UNCONFIGURED_SHUTDOWN, "finalized"),
    ):
        request = ChangeState.Request(transition=Transition(id=transition))
        assert client_node.ask(ChangeState, "change_state", request).success
        assert client_node.state() == state


@pytest.mark.parametrize("steps", [[], ["configure"], ["configure", "activate"]])
def test_shutdown_from_every_state(ros, steps):
    threads = set(threading.enumerate())
    node, client_node = ros.node(EmotionNode, quick_pipeline()), ClientNode(ros)
    for step in steps:
        assert getattr(node, f"trigger_{step}")() == SUCCESS
    assert node.trigger_shutdown() == SUCCESS
    assert client_node.state() == "finalized"
    assert client_node.wait_for_status("shut down").values == []
    assert client_node.num_subscribers() == 0
    assert set(threading.enumerate()) == threads


def no_model(folder):
    return {"classifier__model": "unknown_model"}, "unknown model 'unknown_model'; "


def damaged(folder):
    path = folder / "damaged"
    path.mkdir()
    (path / "weights.safetensors").write_bytes(b"half of it")
    template = tuple(map(tuple, TEMPLATE_XY.tolist()))
    manifest = ModelManifest(
        "damaged", "vgg13", "weights.safetensors", "0" * 64, template_xy=template
    )
    write_manifest(replace(manifest, folder=path))
    return {"classifier__model": str(path)}, f"{path}/weights.safetensors: expected sha256 0000"


def out_of_range(folder):
    says = "parameter detector.score_threshold: expected 0.0 to 1.0, found 7.5"
    return {"detector__score_threshold": 7.5}, says


def no_choice(folder):
    says = "parameter image_transport: expected raw or compressed, found"
    return {"image_transport": "h264"}, says


def no_detector(folder):
    path = f"{folder}/none.onnx"
    return {"detector__model_path": path}, f"detector.model_path: {path}: no such file"


def parts(cameras, config):
    """Real are the parts that the settings name; those without a name are made up."""
    if config.classifier.model:
        return MultiCameraPipeline(cameras, config)
    make = fake_pipeline if config.detector.model_path else quick_pipeline()
    return make(cameras, config)


@pytest.mark.parametrize("fault", [no_model, damaged, out_of_range, no_choice, no_detector])
def test_an_invalid_setting_is_reported_in_one_line_and_can_be_fixed(ros, capfd, tmp_path, fault):
    given, says = fault(tmp_path)
    node = ros.node(EmotionNode, parts, **{"classifier__model": ""} | given)
    client_node = ClientNode(ros)
    node.start()
    reason = configuration_error(capfd)
    assert reason.startswith(says)
    assert client_node.state() == "unconfigured"
    assert client_node.wait_for_status(reason).level == DiagnosticStatus.ERROR
    for name in given:
        fixed = {"detector__score_threshold": 0.5, "image_transport": "raw"}.get(name, "")
        (result,) = node.set_parameters([Parameter(name.replace("__", "."), value=fixed)])
        assert result.successful, result.reason
    node.start()
    client_node.show(1.0)


def configuration_error(capfd):
    """Reason why the node could not be configured, from the only error that it logged."""
    (line,) = [line for line in capfd.readouterr().err.splitlines() if "[ERROR]" in line]
    return line.partition("cannot be configured: ")[2]


def test_an_invalid_log_path_is_reported_in_one_line_and_can_be_fixed(ros, capfd, tmp_path):
    path = tmp_path / "none" / "log.jsonl"
    node, client_node = (
        ros.node(EmotionNode, quick_pipeline(), results_log_path=str(path)),
        ClientNode(ros),
    )
    node.start()
    reason = configuration_error(capfd)
    assert reason == f"parameter results_log_path: {path}: No such file or directory"
    assert client_node.wait_for_status(reason).level == DiagnosticStatus.ERROR
    path.parent.mkdir()
    node.start()
    client_node.show(1.0)


def test_unknown_parameters_are_a_warning(ros, capfd):
    node, client_node = (
        ros.node(EmotionNode, quick_pipeline(), detector__min_scor=0.4),
        ClientNode(ros),
    )
    node.start()
    client_node.show(1.0)
    (warning,) = [line for line in capfd.readouterr().err.splitlines() if "[WARN]" in line]
    assert "unknown parameter 'detector.min_scor' is ignored; did you mean" in warning


def test_parameters_of_models_and_topics_are_locked_while_they_are_in_use(ros):
    node = ros.node(EmotionNode, quick_pipeline())
    given = [Parameter("classifier.threads", value=3)]
    for step, is_free in (
        ("configure", False),
        ("activate", False),
        ("deactivate", False),
        ("cleanup", True),
    ):
        getattr(node, f"trigger_{step}")()
        (result,) = node.set_parameters(given)
        assert result.successful == is_free
        assert is_free or "can only be set while the node is unconfigured" in result.reason


@pytest.mark.parametrize("is_active", [False, True])
def test_thresholds_change_while_they_are_in_use_and_faces_keep_their_ids(ros, is_active):
    node, client_node = (
        ros.node(EmotionNode, quick_pipeline(), tracker__min_hits=1),
        ClientNode(ros),
    )
    node.start()
    client_node.show(1.0)
    if not is_active:
        node.trigger_deactivate()
        ros.until(lambda: not client_node.camera.get_subscription_count(), "the node unsubscribes")
    (result,) = node.set_parameters([Parameter("quality.min_size_px", value=500.0)])
    assert result.successful, result.reason
    if not is_active:
        node.trigger_activate()
    client_node.show(1.1)
    (first,), (second,) = (message.detections for message in client_node.emotions)
    assert [len(face.results) for face in (first, second)] == [8, 0]
    assert (first.id == second.id) == is_active  # after a rest all faces are new


def test_the_node_can_be_enabled_and_disabled(ros):
    ros.node(EmotionNode, quick_pipeline(), autostart=False)
    client_node = ClientNode(ros)
    assert enable(client_node, False) == (True, "unconfigured")
    for _ in range(2):
        assert enable(client_node, True) == (True, "active")
        assert client_node.state() == "active"
    client_node.show(1.0)
    for _ in range(2):
        assert enable(client_node, False) == (True, "inactive")
        assert client_node.state() == "inactive"
    assert enable(client_node, True) == (True, "active")
    client_node.show(2.0)


def test_a_failed_enable_reports_the_reason(ros):
    node = ros.node(EmotionNode, quick_pipeline(), image_qos="best")
    client_node = ClientNode(ros)
    says = "parameter image_qos: expected sensor_data, reliable or default, found 'best'"
    assert enable(client_node, True) == (False, says)
    node.set_parameters([Parameter("image_qos", value="reliable")])
    assert enable(client_node, True) == (True, "active")
    node.trigger_shutdown()
    assert enable(client_node, True) == (False, "shut down")


def test_an_unexpected_configure_error_is_logged_and_can_be_fixed(ros, capfd):
    faults = [KeyError("odd")]

    def make(cameras, config):
        if faults:
            raise faults.pop()
        return quick_pipeline()(cameras, config)

    node, client_node = ros.node(EmotionNode, make), ClientNode(ros)
    assert node.trigger_configure() == ERROR
    output = capfd.readouterr().err
    assert "configure: Traceback" in output
    assert "KeyError: 'odd'" in output
    assert client_node.state() == "unconfigured"
    assert client_node.wait_for_status("a transition raised an exception; see the log").level == (
        DiagnosticStatus.ERROR
    )
    node.start()
    client_node.show(1.0)


def test_an_unexpected_activate_error_leaves_no_thread(ros, monkeypatch):
    def refuse(*_):
        raise RuntimeError("no subscription today")

    threads = set(threading.enumerate())
    node, client_node = ros.node(EmotionNode, quick_pipeline()), ClientNode(ros)
    node.trigger_configure()
    with monkeypatch.context() as patch:
        patch.setattr("fer_ros.ros.processing.images.ImageSubscriber", refuse)
        assert node.trigger_activate() == ERROR
    assert set(threading.enumerate()) == threads
    assert client_node.state() == "unconfigured"
    node.start()
    client_node.show(1.0)


def test_an_active_node_is_destroyed_in_order(ros):
    threads = set(threading.enumerate())
    node, client_node = ros.node(EmotionNode, quick_pipeline()), ClientNode(ros)
    node.start()
    client_node.show(1.0)
    ros.remove(node)
    assert set(threading.enumerate()) == threads
    ros.until(lambda: not client_node.camera.get_subscription_count(), "the node is gone")


def resources(node):
    """Topics, services and timers of the node, and the threads and files of this process."""
    held = ("publishers", "subscriptions", "services", "clients", "timers", "guards", "waitables")
    counts = {name: len([*getattr(node, name)]) for name in held}
    files = len([*Path("/proc/self/fd").iterdir()])
    return counts | {"threads": threading.active_count(), "files": files}


def test_a_hundred_activations_leak_nothing(ros):
    node = ros.node(EmotionNode, quick_pipeline(), tracker__min_hits=1, cameras=["front", "rear"])
    client_node = ros.node(Node, "client")
    cameras = [
        client_node.create_publisher(Image, f"{name}/image", 10) for name in ("front", "rear")
    ]
    steps = [getattr(node, f"trigger_{step}") for step in ("configure", "activate")]
    steps_back = [getattr(node, f"trigger_{step}") for step in ("deactivate", "cleanup")]
    before = {}
    for life in range(102):
        assert [step() for step in steps] == [SUCCESS, SUCCESS]
        if life % 10 == 1:  # some have work to do
            for camera in cameras:
                ros.until(camera.get_subscription_count, "the node subscribes")
                camera.publish(image_at(float(life), BRIGHT))
            monitors = [camera.statistics for camera in node._processor._cameras.values()]
            ros.until(
                lambda m=monitors: all(monitor._processed for monitor in m), "images are done"
            )
        assert [step() for step in steps_back] == [SUCCESS, SUCCESS]
        if life == 1:
            before = resources(node)
    assert resources(node) == before
