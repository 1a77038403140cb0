"""Deactivated: what the node keeps, what it gives back, and how it comes to work again."""

import weakref

import pytest
from diagnostic_msgs.msg import DiagnosticStatus
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.parameter import Parameter
from ros_tools import Eye, NodeClassifier, diagnostics_often, graph_of_a_test
from test_ros_node import Peer, enable

from fer_ros.cameras import CamerasPipeline
from fer_ros.ros.node import EmotionNode

SUCCESS, FAILURE = TransitionCallbackReturn.SUCCESS, TransitionCallbackReturn.FAILURE

reports_often = diagnostics_often
ros = graph_of_a_test


def loader(device, faults=()):
    """What makes a pipeline on this device, unless a fault is left; and the networks it made."""
    made, left = [], [*faults]

    def make(cameras, config):
        if left and (fault := left.pop(0)):
            raise fault
        network = NodeClassifier()
        network.device = device
        made.append(weakref.ref(network))
        return CamerasPipeline(cameras, config, Eye(lambda _: None), network)

    return make, made


@pytest.mark.parametrize(("device", "at_rest", "loads"), [("cpu", 1, 1), ("cuda", 0, 2)])
def test_a_node_at_rest_holds_no_memory_of_a_gpu(ros, device, at_rest, loads):
    make, made = loader(device)
    node, peer = ros.node(EmotionNode, make, tracker__min_hits=1), Peer(ros)
    node.start()
    peer.show(1.0)
    assert node.trigger_deactivate() == SUCCESS
    assert len([each for each in made if each()]) == at_rest
    assert peer.told("inactive").level == DiagnosticStatus.OK
    (result,) = node.set_parameters([Parameter("quality.min_size_px", value=500.0)])
    assert result.successful, result.reason
    assert node.trigger_activate() == SUCCESS
    assert (len(made), len([each for each in made if each()])) == (loads, 1)
    peer.show(2.0)
    read = [[len(face.results) for face in each.detections] for each in peer.emotions]
    assert read == [[8], [0]]  # the second one by the threshold that came while it rested
    assert node.trigger_deactivate() == SUCCESS
    assert node.trigger_cleanup() == SUCCESS
    assert not any(each() for each in made)


def test_a_gpu_that_gave_way_to_the_cpu_is_freed_as_well(ros):
    """Where the network was loaded counts, not where it computes at the moment."""
    make, made = loader("cuda")
    node = ros.node(EmotionNode, make)
    node.start()
    made[0]().device = "cpu"
    assert node.trigger_deactivate() == SUCCESS
    assert made[0]() is None


def test_what_cannot_be_loaded_again_leaves_it_inactive_and_can_be_mended(ros, capfd):
    make, made = loader("cuda", [None, RuntimeError("out of memory\nTried to allocate 2 GiB")])
    node, peer = ros.node(EmotionNode, make), Peer(ros)
    node.start()
    assert node.trigger_deactivate() == SUCCESS
    assert node.trigger_activate() == FAILURE
    reason = "out of memory Tried to allocate 2 GiB"
    (line,) = [line for line in capfd.readouterr().err.splitlines() if "[ERROR]" in line]
    assert line.endswith(f"cannot be activated: {reason}")
    assert (peer.state(), peer.watchers()) == ("inactive", 0)
    assert peer.told(reason).level == DiagnosticStatus.ERROR
    assert enable(peer, True) == (True, "active")
    peer.show(1.0)
    assert len(made) == 2
