"""A behaviour node: greets people and answers the emotions that they show."""

from contextlib import suppress

import rclpy
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node

from fer_ros.ros.listener import EmotionListener, SeenFace

ANSWERS = {"happiness": "That was a good one!", "sadness": "Can I help?", "surprise": "Yes, me!"}


class Greeter(Node):
    """Says what it would say."""

    def __init__(self) -> None:
        super().__init__("greeter")
        EmotionListener(self, on_appear=self.greet, on_change=self.answer, on_gone=self.part)

    def greet(self, face: SeenFace) -> None:
        """A face appeared."""
        self.get_logger().info(f"Hello {face.id}, you look {face.emotion or 'thoughtful'}.")

    def answer(self, face: SeenFace, before: str | None) -> None:
        """It shows another emotion, or its first one."""
        if face.emotion in ANSWERS and face.score > 0.6:
            self.get_logger().info(ANSWERS[face.emotion])

    def part(self, face: SeenFace) -> None:
        """It is gone."""
        self.get_logger().info(f"Goodbye {face.id}. That was {face.age_s:.0f} s well spent.")


rclpy.init()
with suppress(KeyboardInterrupt, ExternalShutdownException):
    rclpy.spin(Greeter())
