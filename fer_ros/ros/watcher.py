"""Looks on: prints who shows what, collects annotated images and the nodes' figures."""

from typing import Any

import cv2
import numpy as np
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from numpy.typing import NDArray
from rclpy.node import Node
from sensor_msgs.msg import Image

from fer_ros.ros.convert import to_rgb
from fer_ros.ros.listener import EmotionListener, SeenFace

_COLUMNS, _ROWS = 4, 3
_CELL_WH = (480, 360)


class Watcher(Node):
    """Subscribes to what the emotion node publishes.

    ``messages`` counts those that arrived and ``read`` the faces with an emotion in them.
    ``figures`` are the latest values of its diagnostics, ``trouble`` says why it cannot work. The
    arguments are those of rclpy's nodes.
    """

    def __init__(self, **node_arguments: Any) -> None:
        super().__init__("watcher", **node_arguments)
        self.album = Album()
        self.figures: dict[str, str] = {}
        self.trouble = ""
        self.messages = self.read = 0
        self._begin_s: float | None = None
        self._told: set[tuple[int, str]] = set()
        EmotionListener(self, on_faces=self._on_faces)
        self.create_subscription(Image, "emotion_node/debug_image", self._on_image, 10)
        self.create_subscription(DiagnosticArray, "/diagnostics", self._on_figures, 10)

    def _on_faces(self, faces: list[SeenFace]) -> None:
        """Tells each face once a second, counted from the first one."""
        self.messages += 1
        for face in faces:
            if self._begin_s is None:
                self._begin_s = face.stamp_s
            second = int(face.stamp_s - self._begin_s)
            self.read += bool(face.emotion)
            if (second, face.id) not in self._told:
                self._told.add((second, face.id))
                print(f"{second:4d} s  {face.id}  {_in_words(face)}", flush=True)

    def _on_image(self, message: Image) -> None:
        self.album.add(to_rgb(message))

    def _on_figures(self, message: DiagnosticArray) -> None:
        for status in message.status:
            self.figures = {each.key: each.value for each in status.values}
            if status.level == DiagnosticStatus.ERROR:
                self.trouble = status.message


class Album:
    """Keeps some images of a stream of unknown length, evenly spread over it."""

    def __init__(self) -> None:
        self._cells: list[NDArray[np.uint8]] = []
        self._every = 1  # of so many images one is kept
        self._seen = 0

    def add(self, image_rgb: NDArray[np.uint8]) -> None:
        """Takes (H, W, 3) of any size."""
        if self._seen % self._every == 0:
            self._cells.append(_fit(image_rgb))
        self._seen += 1
        if len(self._cells) > 4 * _COLUMNS * _ROWS:
            self._cells = self._cells[::2]
            self._every *= 2

    def sheet(self) -> NDArray[np.uint8]:
        """Up to 12 of the images as one picture, in the order of time."""
        count = min(len(self._cells), _COLUMNS * _ROWS)
        chosen = np.linspace(0, len(self._cells) - 1, count).round().astype(int)
        width, height = _CELL_WH
        sheet: NDArray[np.uint8] = np.zeros((_ROWS, height, _COLUMNS, width, 3), np.uint8)
        for place, index in enumerate(chosen):
            sheet[place // _COLUMNS, :, place % _COLUMNS] = self._cells[index]
        return sheet.reshape(_ROWS * height, _COLUMNS * width, 3)


def _fit(image_rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The whole image in the middle of a cell."""
    width, height = _CELL_WH
    scale = min(width / image_rgb.shape[1], height / image_rgb.shape[0])
    size = [max(1, round(side * scale)) for side in image_rgb.shape[1::-1]]
    small = cv2.resize(image_rgb, size, interpolation=cv2.INTER_AREA)
    cell: NDArray[np.uint8] = np.zeros((height, width, 3), np.uint8)
    top, left = (height - size[1]) // 2, (width - size[0]) // 2
    cell[top : top + size[1], left : left + size[0]] = small
    return cell


def _in_words(face: SeenFace) -> str:
    return f"{face.emotion:<9} {face.score:4.0%}" if face.emotion else "cannot be read"
