"""A client node of the emotion node: camera, behavior and lifecycle manager in one."""

from diagnostic_msgs.msg import DiagnosticArray
from lifecycle_msgs.srv import GetState
from rclpy.node import Node
from ros_tools import (
    BRIGHT,
    Listener,
    image_at,
)
from sensor_msgs.msg import Image
from std_srvs.srv import SetBool
from vision_msgs.msg import Detection2DArray


class ClientNode:
    """A camera, a behavior and a lifecycle manager in one."""

    def __init__(self, ros):
        self.ros, self.node = ros, ros.node(Node, "client")
        self.camera = self.node.create_publisher(Image, "image", 10)
        listener = Listener(self.node)
        self.emotions = listener.listen(Detection2DArray, "emotion_node/emotions")
        self.diagnostics = listener.listen(DiagnosticArray, "/diagnostics")

    def num_subscribers(self):
        return self.node.count_subscribers("image")

    def show(self, stamp_s):
        """An image that must be answered."""
        emotions = "emotion_node/emotions"
        self.ros.until(self.camera.get_subscription_count, "the node subscribes")
        self.ros.until(lambda: self.node.count_publishers(emotions), "the node offers emotions")
        before = len(self.emotions)
        self.camera.publish(image_at(stamp_s, BRIGHT))
        self.ros.until(lambda: len(self.emotions) > before, f"emotions of the image at {stamp_s}")

    def wait_for_status(self, message):
        """Waits for a report with this message, from now on."""
        self.diagnostics.clear()

        def found():
            return [
                diagnostic
                for diagnostic in self.diagnostics
                if diagnostic.status[0].message == message
            ]

        self.ros.until(found, f"the report {message!r}")
        return found()[0].status[0]

    def ask(self, kind, name, request):
        client = self.node.create_client(kind, f"emotion_node/{name}")
        self.ros.until(client.service_is_ready, f"service {name}")
        reply = client.call_async(request)
        self.ros.until(reply.done, f"a result of {name}")
        return reply.result()

    def state(self):
        return self.ask(GetState, "get_state", GetState.Request()).current_state.label


def enable(client_node, is_on):
    reply = client_node.ask(SetBool, "set_enabled", SetBool.Request(data=is_on))
    return reply.success, reply.message
