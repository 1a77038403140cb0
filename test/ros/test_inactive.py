"""Deactivation: kept and released resources, and reactivation."""

import weakref

import pytest
from cuda_tools import STICKY, FakeCuda
from diagnostic_msgs.msg import DiagnosticStatus
from node_tools import ClientNode, enable
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.parameter import Parameter
from ros_tools import FakeDetector, NodeClassifier, diagnostics_often, graph_of_a_test

from fer_ros.multi_camera import MultiCameraPipeline
from fer_ros.ros.node import EmotionNode

SUCCESS, FAILURE = TransitionCallbackReturn.SUCCESS, TransitionCallbackReturn.FAILURE

reports_often = diagnostics_often
ros = graph_of_a_test


def loader(device, faults=()):
    """What makes a pipeline on this device, unless a fault is left; and the networks it made."""
    models, left = [], [*faults]

    def make(cameras, config):
        if left and (fault := left.pop(0)):
            raise fault
        network = NodeClassifier()
        network.device = device
        models.append(weakref.ref(network))
        return MultiCameraPipeline(cameras, config, FakeDetector(lambda _: None), network)

    return make, models


@pytest.mark.parametrize(("device", "at_rest", "loads"), [("cpu", 1, 1), ("cuda", 0, 2)])
def test_an_inactive_node_holds_no_gpu_memory(ros, device, at_rest, loads):
    make, models = loader(device)
    node, client_node = ros.node(EmotionNode, make, tracker__min_hits=1), ClientNode(ros)
    node.start()
    client_node.show(1.0)
    assert node.trigger_deactivate() == SUCCESS
    assert len([pipeline for pipeline in models if pipeline()]) == at_rest
    assert client_node.wait_for_status("inactive").level == DiagnosticStatus.OK
    (result,) = node.set_parameters([Parameter("quality.min_size_px", value=500.0)])
    assert result.successful, result.reason
    assert node.trigger_activate() == SUCCESS
    assert (len(models), len([pipeline for pipeline in models if pipeline()])) == (loads, 1)
    client_node.show(2.0)
    read = [[len(face.results) for face in emotion.detections] for emotion in client_node.emotions]
    assert read == [[8], [0]]  # the second one by the threshold that came while it rested
    assert node.trigger_deactivate() == SUCCESS
    assert node.trigger_cleanup() == SUCCESS
    assert not any(pipeline() for pipeline in models)


def test_a_parameter_that_no_image_has_used_yet_holds_after_reactivation(ros):
    make, _ = loader("cpu")
    node, client_node = ros.node(EmotionNode, make, tracker__min_hits=1), ClientNode(ros)
    node.start()
    node.set_parameters([Parameter("quality.min_size_px", value=500.0)])
    assert node.trigger_deactivate() == SUCCESS
    assert node.trigger_activate() == SUCCESS
    client_node.show(1.0)
    assert [len(face.results) for face in client_node.emotions[-1].detections] == [0]


def test_a_gpu_replaced_by_the_cpu_is_freed(ros):
    """Where the network was loaded counts, not where it computes at the moment."""
    make, models = loader("cuda")
    node = ros.node(EmotionNode, make)
    node.start()
    models[0]().device = "cpu"
    assert node.trigger_deactivate() == SUCCESS
    assert models[0]() is None


def test_a_gpu_that_fails_for_good_leaves_a_node_that_can_be_configured_again(ros, monkeypatch):
    """After an asynchronous error every call into CUDA fails, also the release of its memory."""
    cuda = FakeCuda()
    cuda.install(monkeypatch)
    make, models = loader("cuda")
    node = ros.node(EmotionNode, make)
    node.start()
    cuda.error = RuntimeError(STICKY)
    assert node.trigger_deactivate() == SUCCESS
    assert node.trigger_cleanup() == SUCCESS
    node.start()
    assert len(models) == 2


def test_a_failed_reload_leaves_the_node_inactive_and_fixable(ros, capfd):
    make, models = loader("cuda", [None, RuntimeError("out of memory\nTried to allocate 2 GiB")])
    node, client_node = ros.node(EmotionNode, make), ClientNode(ros)
    node.start()
    assert node.trigger_deactivate() == SUCCESS
    assert node.trigger_activate() == FAILURE
    reason = "out of memory Tried to allocate 2 GiB"
    (line,) = [line for line in capfd.readouterr().err.splitlines() if "[ERROR]" in line]
    assert line.endswith(f"cannot be activated: {reason}")
    assert (client_node.state(), client_node.num_subscribers()) == ("inactive", 0)
    assert client_node.wait_for_status(reason).level == DiagnosticStatus.ERROR
    assert enable(client_node, True) == (True, "active")
    client_node.show(1.0)
    assert len(models) == 2
