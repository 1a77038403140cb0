"""Node that monitors the demo: prints emotions, collects annotated images and diagnostics."""

from typing import Any

import cv2
import numpy as np
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from numpy.typing import NDArray
from rclpy.node import Node
from sensor_msgs.msg import Image

from fer_ros.ros.client.emotion_listener import EmotionListener, ObservedFace
from fer_ros.ros.convert import to_rgb

_COLUMNS, _ROWS = 4, 3
_CELL_WH = (480, 360)


class DemoMonitor(Node):
    """Subscribes to the results of the emotion node.

    ``num_messages`` counts the results and ``num_readable_faces`` the faces with an emotion.
    ``diagnostics`` holds the latest values of the node, ``error`` its error message if it cannot
    work. The arguments are those of rclpy's nodes.
    """

    def __init__(self, **node_arguments: Any) -> None:
        super().__init__("demo_monitor", **node_arguments)
        self.contact_sheet = ContactSheet()
        self.diagnostics: dict[str, str] = {}
        self.error = ""
        self.num_messages = self.num_readable_faces = 0
        self._start_s: float | None = None
        self._printed: set[tuple[int, str]] = set()
        EmotionListener(self, on_faces=self._on_faces)
        self.create_subscription(Image, "emotion_node/debug_image", self._on_image, 10)
        self.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, 10)

    def _on_faces(self, faces: list[ObservedFace]) -> None:
        """Print each face once per second, counted from the first one."""
        self.num_messages += 1
        for face in faces:
            if self._start_s is None:
                self._start_s = face.stamp_s
            second = int(face.stamp_s - self._start_s)
            self.num_readable_faces += bool(face.emotion)
            if (second, face.id) not in self._printed:
                self._printed.add((second, face.id))
                print(f"{second:4d} s  {face.id}  {_describe(face)}", flush=True)

    def _on_image(self, message: Image) -> None:
        self.contact_sheet.add(to_rgb(message))

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        for status in message.status:
            self.diagnostics = {item.key: item.value for item in status.values}
            if status.level == DiagnosticStatus.ERROR:
                self.error = status.message


class ContactSheet:
    """Keeps images of a stream of unknown length, evenly spread over it."""

    def __init__(self) -> None:
        self._cells: list[NDArray[np.uint8]] = []
        self._interval = 1  # one of so many images is kept
        self._num_added = 0

    def add(self, image_rgb: NDArray[np.uint8]) -> None:
        """Add an image (H, W, 3) of any size."""
        if self._num_added % self._interval == 0:
            self._cells.append(_fit(image_rgb))
        self._num_added += 1
        if len(self._cells) > 4 * _COLUMNS * _ROWS:
            self._cells = self._cells[::2]
            self._interval *= 2

    def render(self) -> NDArray[np.uint8]:
        """Up to 12 of the images as one image, ordered by time."""
        count = min(len(self._cells), _COLUMNS * _ROWS)
        chosen = np.linspace(0, len(self._cells) - 1, count).round().astype(int)
        width, height = _CELL_WH
        sheet: NDArray[np.uint8] = np.zeros((_ROWS, height, _COLUMNS, width, 3), np.uint8)
        for position, index in enumerate(chosen):
            sheet[position // _COLUMNS, :, position % _COLUMNS] = self._cells[index]
        return sheet.reshape(_ROWS * height, _COLUMNS * width, 3)


def _fit(image_rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Scale an image to fit into the center of a cell."""
    width, height = _CELL_WH
    scale = min(width / image_rgb.shape[1], height / image_rgb.shape[0])
    size = [max(1, round(side * scale)) for side in image_rgb.shape[1::-1]]
    scaled = cv2.resize(image_rgb, size, interpolation=cv2.INTER_AREA)
    cell: NDArray[np.uint8] = np.zeros((height, width, 3), np.uint8)
    top, left = (height - size[1]) // 2, (width - size[0]) // 2
    cell[top : top + size[1], left : left + size[0]] = scaled
    return cell


def _describe(face: ObservedFace) -> str:
    return f"{face.emotion:<9} {face.confidence:4.0%}" if face.emotion else "not readable"
