"""The states of the node, the parameters in them, and what it says when something is wrong."""

import threading
from dataclasses import replace
from pathlib import Path

import pytest
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState, GetState
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.node import Node
from rclpy.parameter import Parameter
from ros_tools import (
    BRIGHT,
    Listener,
    diagnostics_often,
    fake_pipeline,
    graph_of_a_test,
    image_at,
    quick_pipeline,
)
from sensor_msgs.msg import Image
from std_srvs.srv import SetBool
from vision_msgs.msg import Detection2DArray

from fer_ros.align import TEMPLATE_XY
from fer_ros.cameras import CamerasPipeline
from fer_ros.ros.node import EmotionNode
from fer_ros.weights import ModelCard, write_card

SUCCESS, ERROR = TransitionCallbackReturn.SUCCESS, TransitionCallbackReturn.ERROR


reports_often = diagnostics_often
ros = graph_of_a_test


class Peer:
    """A camera, a behaviour and a lifecycle manager in one."""

    def __init__(self, ros):
        self.ros, self.node = ros, ros.node(Node, "peer")
        self.camera = self.node.create_publisher(Image, "image", 10)
        listener = Listener(self.node)
        self.emotions = listener.listen(Detection2DArray, "emotion_node/emotions")
        self.diagnostics = listener.listen(DiagnosticArray, "/diagnostics")

    def watchers(self):
        return self.node.count_subscribers("image")

    def show(self, stamp_s):
        """An image that must be answered."""
        emotions = "emotion_node/emotions"
        self.ros.until(self.camera.get_subscription_count, "the node subscribes")
        self.ros.until(lambda: self.node.count_publishers(emotions), "the node offers emotions")
        before = len(self.emotions)
        self.camera.publish(image_at(stamp_s, BRIGHT))
        self.ros.until(lambda: len(self.emotions) > before, f"emotions of the image at {stamp_s}")

    def told(self, message):
        """Waits for a report with this message, from now on."""
        self.diagnostics.clear()

        def found():
            return [each for each in self.diagnostics if each.status[0].message == message]

        self.ros.until(found, f"the report {message!r}")
        return found()[0].status[0]

    def ask(self, kind, name, request):
        client = self.node.create_client(kind, f"emotion_node/{name}")
        self.ros.until(client.service_is_ready, f"service {name}")
        answer = client.call_async(request)
        self.ros.until(answer.done, f"an answer of {name}")
        return answer.result()

    def state(self):
        return self.ask(GetState, "get_state", GetState.Request()).current_state.label


def test_it_waits_to_be_told_where_autostart_is_off(ros):
    node, peer = ros.node(EmotionNode, quick_pipeline(), autostart=False), Peer(ros)
    node.start()
    assert (peer.state(), peer.watchers()) == ("unconfigured", 0)
    assert peer.told("unconfigured").level == DiagnosticStatus.OK


def test_it_starts_by_itself(ros, capfd):
    node, peer = ros.node(EmotionNode, quick_pipeline()), Peer(ros)
    node.start()
    peer.show(1.0)
    assert peer.state() == "active"
    said = capfd.readouterr().err
    assert "loaded: model fake, fake on cpu: made up" in said
    assert "active, waiting for images on /image" in said


def test_two_lives(ros):
    node, peer = ros.node(EmotionNode, quick_pipeline()), Peer(ros)
    for life in (1, 2):
        assert node.trigger_configure() == SUCCESS
        assert peer.told("inactive")
        assert peer.watchers() == 0
        for time in (1, 2):
            assert node.trigger_activate() == SUCCESS
            peer.show(life + time / 10)
            assert node.trigger_deactivate() == SUCCESS
            ros.until(lambda: not peer.camera.get_subscription_count(), "the node unsubscribes")
        assert node.trigger_cleanup() == SUCCESS
        assert peer.told("unconfigured")
        ros.until(lambda: not peer.node.count_publishers("emotion_node/emotions"), "no topic")
    assert len(peer.emotions) == 4


def test_an_inactive_node_handles_no_image(ros):
    seen = []
    node = ros.node(EmotionNode, quick_pipeline(lambda image_rgb: seen.append(image_rgb)))
    peer = Peer(ros)
    node.trigger_configure()
    peer.camera.publish(image_at(1.0, BRIGHT))
    node.trigger_activate()
    peer.show(2.0)
    node.trigger_deactivate()
    peer.camera.publish(image_at(3.0, BRIGHT))
    node.trigger_activate()
    peer.show(4.0)
    assert [each.header.stamp.sec for each in peer.emotions] == [2, 4]
    assert len(seen) == 2


def test_a_lifecycle_manager_leads_it(ros):
    ros.node(EmotionNode, quick_pipeline())
    peer = Peer(ros)
    for transition, state in (
        (Transition.TRANSITION_CONFIGURE, "inactive"),
        (Transition.TRANSITION_ACTIVATE, "active"),
        (Transition.TRANSITION_DEACTIVATE, "inactive"),
        (Transition.TRANSITION_CLEANUP, "unconfigured"),
        (Transition.TRANSITION_UNCONFIGURED_SHUTDOWN, "finalized"),
    ):
        request = ChangeState.Request(transition=Transition(id=transition))
        assert peer.ask(ChangeState, "change_state", request).success
        assert peer.state() == state


@pytest.mark.parametrize("steps", [[], ["configure"], ["configure", "activate"]])
def test_shutdown_from_every_state(ros, steps):
    threads = set(threading.enumerate())
    node, peer = ros.node(EmotionNode, quick_pipeline()), Peer(ros)
    for step in steps:
        assert getattr(node, f"trigger_{step}")() == SUCCESS
    assert node.trigger_shutdown() == SUCCESS
    assert peer.state() == "finalized"
    assert peer.told("shut down").values == []
    assert peer.watchers() == 0
    assert set(threading.enumerate()) == threads


def no_model(folder):
    return {"classifier__model": "nobody"}, "unknown model 'nobody'; "


def damaged(folder):
    path = folder / "damaged"
    path.mkdir()
    (path / "weights.safetensors").write_bytes(b"half of it")
    template = tuple(map(tuple, TEMPLATE_XY.tolist()))
    card = ModelCard("damaged", "vgg13", "weights.safetensors", "0" * 64, template_xy=template)
    write_card(replace(card, folder=path))
    return {"classifier__model": str(path)}, f"{path}/weights.safetensors: expected sha256 0000"


def out_of_range(folder):
    says = "parameter detector.min_score: expected 0.0 to 1.0, got 7.5"
    return {"detector__min_score": 7.5}, says


def no_choice(folder):
    return {"image_transport": "h264"}, "parameter image_transport: expected raw or compressed, got"


def no_detector(folder):
    path = f"{folder}/none.onnx"
    return {"detector__model_path": path}, f"detector model {path}: no such file"


def parts(cameras, config):
    """Real are the parts that the settings name; those without a name are made up."""
    if config.classifier.model:
        return CamerasPipeline(cameras, config)
    make = fake_pipeline if config.detector.model_path else quick_pipeline()
    return make(cameras, config)


@pytest.mark.parametrize("fault", [no_model, damaged, out_of_range, no_choice, no_detector])
def test_a_setting_of_no_use_is_told_in_one_line_and_can_be_mended(ros, capfd, tmp_path, fault):
    given, says = fault(tmp_path)
    node = ros.node(EmotionNode, parts, **{"classifier__model": ""} | given)
    peer = Peer(ros)
    node.start()
    reason = complaint(capfd)
    assert reason.startswith(says)
    assert peer.state() == "unconfigured"
    assert peer.told(reason).level == DiagnosticStatus.ERROR
    for name in given:
        mended = {"detector__min_score": 0.5, "image_transport": "raw"}.get(name, "")
        (result,) = node.set_parameters([Parameter(name.replace("__", "."), value=mended)])
        assert result.successful, result.reason
    node.start()
    peer.show(1.0)


def complaint(capfd):
    """Why the node could not be configured, the only error that it logged."""
    (line,) = [line for line in capfd.readouterr().err.splitlines() if "[ERROR]" in line]
    return line.partition("cannot be configured: ")[2]


def test_a_log_path_of_no_use_is_told_and_can_be_mended(ros, capfd, tmp_path):
    path = tmp_path / "none" / "log.jsonl"
    node, peer = ros.node(EmotionNode, quick_pipeline(), log_path=str(path)), Peer(ros)
    node.start()
    reason = complaint(capfd)
    assert reason == f"parameter log_path: {path}: No such file or directory"
    assert peer.told(reason).level == DiagnosticStatus.ERROR
    path.parent.mkdir()
    node.start()
    peer.show(1.0)


def test_unknown_parameters_are_a_warning(ros, capfd):
    node, peer = ros.node(EmotionNode, quick_pipeline(), detector__min_scor=0.4), Peer(ros)
    node.start()
    peer.show(1.0)
    (warning,) = [line for line in capfd.readouterr().err.splitlines() if "[WARN]" in line]
    assert "unknown parameter 'detector.min_scor' is ignored; did you mean" in warning


def test_parameters_of_models_and_topics_are_locked_while_they_are_in_use(ros):
    node = ros.node(EmotionNode, quick_pipeline())
    given = [Parameter("classifier.threads", value=2)]
    for step, is_free in (
        ("configure", False),
        ("activate", False),
        ("deactivate", False),
        ("cleanup", True),
    ):
        getattr(node, f"trigger_{step}")()
        (result,) = node.set_parameters(given)
        assert result.successful == is_free
        assert is_free or "can be set while the node is unconfigured" in result.reason


@pytest.mark.parametrize("is_active", [False, True])
def test_thresholds_change_while_they_are_in_use_and_faces_keep_their_ids(ros, is_active):
    node, peer = ros.node(EmotionNode, quick_pipeline(), tracker__min_hits=1), Peer(ros)
    node.start()
    peer.show(1.0)
    if not is_active:
        node.trigger_deactivate()
        ros.until(lambda: not peer.camera.get_subscription_count(), "the node unsubscribes")
    (result,) = node.set_parameters([Parameter("quality.min_size_px", value=500.0)])
    assert result.successful, result.reason
    if not is_active:
        node.trigger_activate()
    peer.show(1.1)
    (first,), (second,) = (message.detections for message in peer.emotions)
    assert [len(each.results) for each in (first, second)] == [8, 0]
    assert (first.id == second.id) == is_active  # after a rest all faces are new


def enable(peer, is_on):
    answer = peer.ask(SetBool, "set_enabled", SetBool.Request(data=is_on))
    return answer.success, answer.message


def test_it_can_be_enabled_and_disabled(ros):
    ros.node(EmotionNode, quick_pipeline(), autostart=False)
    peer = Peer(ros)
    assert enable(peer, False) == (True, "unconfigured")
    for _ in range(2):
        assert enable(peer, True) == (True, "active")
        assert peer.state() == "active"
    peer.show(1.0)
    for _ in range(2):
        assert enable(peer, False) == (True, "inactive")
        assert peer.state() == "inactive"
    assert enable(peer, True) == (True, "active")
    peer.show(2.0)


def test_what_cannot_be_enabled_says_why(ros):
    node = ros.node(EmotionNode, quick_pipeline(), image_qos="best")
    peer = Peer(ros)
    says = "parameter image_qos: expected sensor_data, default or reliable_latest, got 'best'"
    assert enable(peer, True) == (False, says)
    node.set_parameters([Parameter("image_qos", value="reliable_latest")])
    assert enable(peer, True) == (True, "active")
    node.trigger_shutdown()
    assert enable(peer, True) == (False, "shut down")


def test_an_unforeseen_error_in_configure_is_logged_and_can_be_mended(ros, capfd):
    faults = [KeyError("odd")]

    def make(cameras, config):
        if faults:
            raise faults.pop()
        return quick_pipeline()(cameras, config)

    node, peer = ros.node(EmotionNode, make), Peer(ros)
    assert node.trigger_configure() == ERROR
    said = capfd.readouterr().err
    assert "configure: Traceback" in said
    assert "KeyError: 'odd'" in said
    assert peer.state() == "unconfigured"
    assert peer.told("a transition ended in an exception, which the log shows").level == (
        DiagnosticStatus.ERROR
    )
    node.start()
    peer.show(1.0)


def test_an_unforeseen_error_in_activate_leaves_no_thread(ros, monkeypatch):
    def refuse(*_):
        raise RuntimeError("no subscription today")

    threads = set(threading.enumerate())
    node, peer = ros.node(EmotionNode, quick_pipeline()), Peer(ros)
    node.trigger_configure()
    with monkeypatch.context() as patch:
        patch.setattr("fer_ros.ros.camera_session.ImageInput", refuse)
        assert node.trigger_activate() == ERROR
    assert set(threading.enumerate()) == threads
    assert peer.state() == "unconfigured"
    node.start()
    peer.show(1.0)


def test_an_active_node_is_destroyed_in_order(ros):
    threads = set(threading.enumerate())
    node, peer = ros.node(EmotionNode, quick_pipeline()), Peer(ros)
    node.start()
    peer.show(1.0)
    ros.remove(node)
    assert set(threading.enumerate()) == threads
    ros.until(lambda: not peer.camera.get_subscription_count(), "the node is gone")


def belongings(node):
    """Topics, services and timers of the node, and the threads and files of this process."""
    held = ("publishers", "subscriptions", "services", "clients", "timers", "guards", "waitables")
    counts = {name: len([*getattr(node, name)]) for name in held}
    files = len([*Path("/proc/self/fd").iterdir()])
    return counts | {"threads": threading.active_count(), "files": files}


def test_a_hundred_lives_leave_nothing_behind(ros):
    node = ros.node(EmotionNode, quick_pipeline(), tracker__min_hits=1, cameras=["front", "rear"])
    peer = ros.node(Node, "peer")
    cameras = [peer.create_publisher(Image, f"{name}/image", 10) for name in ("front", "rear")]
    steps = [getattr(node, f"trigger_{step}") for step in ("configure", "activate")]
    steps_back = [getattr(node, f"trigger_{step}") for step in ("deactivate", "cleanup")]
    before = {}
    for life in range(102):
        assert [step() for step in steps] == [SUCCESS, SUCCESS]
        if life % 10 == 1:  # some have work to do
            for camera in cameras:
                ros.until(camera.get_subscription_count, "the node subscribes")
                camera.publish(image_at(float(life), BRIGHT))
            monitors = [each.monitor for each in node._session._cameras.values()]
            ros.until(lambda m=monitors: all(each._processed for each in m), "images are done")
        assert [step() for step in steps_back] == [SUCCESS, SUCCESS]
        if life == 1:
            before = belongings(node)
    assert belongings(node) == before
