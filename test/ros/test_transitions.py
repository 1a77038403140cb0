"""Two hundred random transitions over DDS while images flow."""

import numpy as np
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState, GetState
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.node import Node
from ros_tools import BRIGHT, graph_of_a_test, image_at, quick_pipeline
from sensor_msgs.msg import Image
from std_srvs.srv import SetBool

from fer_ros.ros.node import EmotionNode

COUNT = 200
IMAGES_PER_S = 50
NEXT = {
    ("unconfigured", "configure"): "inactive",
    ("inactive", "activate"): "active",
    ("inactive", "cleanup"): "unconfigured",
    ("active", "deactivate"): "inactive",
}
IDS = {
    "configure": Transition.TRANSITION_CONFIGURE,
    "activate": Transition.TRANSITION_ACTIVATE,
    "deactivate": Transition.TRANSITION_DEACTIVATE,
    "cleanup": Transition.TRANSITION_CLEANUP,
}
FAULTS = {None: 0.7, ValueError: 0.15, KeyError: 0.15}  # of configure, and how often


ros = graph_of_a_test


class Manager:
    """Changes states while a camera goes on, and counts what the node handles."""

    def __init__(self, ros):
        self.ros, self.node = ros, ros.node(Node, "manager")
        self.shown = self.handled = 0
        self.faults = []  # of the next configurations
        ros.node(EmotionNode, self._make, autostart=False)
        self._image = image_at(1.0, BRIGHT)
        self._camera = self.node.create_publisher(Image, "image", 1)
        self.node.create_timer(1 / IMAGES_PER_S, self._show)

    def _show(self):
        self._camera.publish(self._image)
        self.shown += 1

    def _make(self, cameras, config):
        fault = self.faults.pop()
        if fault:
            raise fault("made up")
        return quick_pipeline(self._count)(cameras, config)

    def _count(self, image_rgb):
        self.handled += 1

    def change(self, transition):
        request = ChangeState.Request(transition=Transition(id=IDS[transition]))
        return self.ask(ChangeState, "change_state", request).success

    def state(self):
        return self.ask(GetState, "get_state", GetState.Request()).current_state.label

    def ask(self, kind, name, request):
        client = self.node.create_client(kind, f"emotion_node/{name}")
        self.ros.until(client.service_is_ready, f"the service {name}")
        reply = client.call_async(request)
        self.ros.until(reply.done, f"a result of {name}")
        self.node.destroy_client(client)
        return reply.result()


def test_two_hundred_random_transitions(ros, capfd):
    manager, random = Manager(ros), np.random.default_rng(0)
    state, impossible, raised = "unconfigured", 0, []
    for _ in range(COUNT):
        requested = str(random.choice([*IDS]))
        fault = None
        if (state, requested) == ("unconfigured", "configure"):
            fault = random.choice([*FAULTS], p=[*FAULTS.values()])
            manager.faults = [fault]
            raised.append(fault)
        possible = (state, requested) in NEXT
        impossible += not possible
        assert manager.change(requested) == (possible and not fault)
        state = NEXT[state, requested] if possible and not fault else state
        handled, shown = manager.handled, manager.shown
        assert manager.state() == state
        if state == "active":
            ros.until(lambda before=handled: manager.handled > before, "an image is handled")
        else:
            ros.until(lambda before=shown: manager.shown > before + 1, "images are published")
            assert manager.handled == handled
    output = capfd.readouterr().err
    assert raised.count(ValueError) == output.count("cannot be configured: made up") > 0
    assert raised.count(KeyError) == output.count("KeyError: 'made up'") > 0
    assert output.count("Traceback") == raised.count(KeyError)
    assert output.count("is not possible from state") == impossible


def test_impossible_transitions_are_refused_and_the_node_survives(ros, capfd):
    """Humble's and Jazzy's rclpy would raise; the result is the same in all distributions."""
    manager = Manager(ros)
    node = ros.nodes[-1]
    for requested in ("activate", "deactivate", "cleanup"):
        assert not manager.change(requested)
    manager.faults = [None]
    assert manager.change("configure")
    assert not manager.change("configure")
    assert manager.state() == "inactive"
    assert node.trigger_deactivate() == TransitionCallbackReturn.ERROR
    assert node.trigger_shutdown() == TransitionCallbackReturn.SUCCESS
    for is_wanted in (True, False):
        reply = manager.ask(SetBool, "set_enabled", SetBool.Request(data=is_wanted))
        assert (reply.success, reply.message) == (not is_wanted, "shut down")
    assert node.trigger_shutdown() == TransitionCallbackReturn.ERROR
    assert manager.state() == "finalized"
    output = capfd.readouterr().err
    assert output.count("Shutdown is not possible") == 1
    assert output.count("is not possible from state") == 3 + 1 + 1 + 1
