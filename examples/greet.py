"""A behavior node that greets people and responds to the emotions that they display."""

from contextlib import suppress

import rclpy
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node

from fer_ros.ros.client.emotion_listener import EmotionListener, ObservedFace

RESPONSES = {"happiness": "That was a good one!", "sadness": "Can I help?", "surprise": "Yes, me!"}


class Greeter(Node):
    """Logs what a robot would say."""

    def __init__(self) -> None:
        super().__init__("greeter")
        EmotionListener(
            self, on_appear=self.greet, on_change=self.respond, on_gone=self.say_goodbye
        )

    def greet(self, face: ObservedFace) -> None:
        """A face has appeared."""
        self.get_logger().info(f"Hello {face.id}, I see {face.emotion or 'no emotion yet'}.")

    def respond(self, face: ObservedFace, previous: str | None) -> None:
        """A face shows another emotion, or its first one."""
        if face.emotion in RESPONSES and face.confidence > 0.6:
            self.get_logger().info(RESPONSES[face.emotion])

    def say_goodbye(self, face: ObservedFace) -> None:
        """A face is gone."""
        self.get_logger().info(f"Goodbye {face.id}, after {face.age_s:.0f} s.")


rclpy.init()
with suppress(KeyboardInterrupt, ExternalShutdownException):
    rclpy.spin(Greeter())
