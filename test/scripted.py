"""A scripted scene with known ground truth: people enter, cross, hide each other and leave.

The identity and the emotion of a face are colors of the image. The detector and the
network look for them there and know nothing else: every result tells its image.
"""

from dataclasses import dataclass

import numpy as np
from conftest import FakeClassifier
from numpy.typing import NDArray

from fer_ros.emotions import EMOTIONS
from fer_ros.types import FaceDetections, FacePredictions

FPS = 15
WIDTH, HEIGHT, SIDE = 320, 240, 40
SECONDS = 6.0
LANES = range(30, HEIGHT - 20, 45)  # where people walk; two of a lane meet
_FACE = 255  # red of every face, and of nothing else
_STEP = 25  # of green between two emotions, of blue between two people
_POINTS = np.array([(0.2, 0.17), (0.8, 0.17), (0.5, 0.5), (0.25, 0.83), (0.75, 0.83)])
_MIN_SEEN = 0.6  # of a face that another one hides, for the detector to find it


@dataclass(frozen=True)
class Walker:
    """A face with one emotion that moves from one side to the other."""

    number: int
    emotion: str
    begin_s: float
    speed_px_s: float  # negative: to the left
    y: int

    def left_top(self, at_s: float) -> tuple[int, int]:
        start = -SIDE if self.speed_px_s > 0 else WIDTH
        return round(start + self.speed_px_s * (at_s - self.begin_s)), self.y - SIDE // 2

    def paint(self, image_rgb: NDArray[np.uint8], at_s: float) -> None:
        """The face; nothing before the walk and after it."""
        left, top = self.left_top(at_s)
        color = _FACE, _STEP * (EMOTIONS.index(self.emotion) + 1), _STEP * (self.number + 1)
        if at_s >= self.begin_s:
            image_rgb[top : top + SIDE, max(left, 0) : max(left + SIDE, 0)] = color


def random_walkers(seed: int) -> list[Walker]:
    """Two people of different emotions in each lane, who meet around its middle."""
    random = np.random.default_rng(seed)
    walkers = []
    for y in LANES:
        shown = random.choice(EMOTIONS, 2, replace=False)
        meet_s, meet_x = random.uniform(2.5, 3.5), random.uniform(100, WIDTH - 100)
        for emotion, way in zip(shown, (1, -1), strict=True):
            speed_px_s = way * random.uniform(80, 200)
            begin_s = meet_s - (meet_x - (-SIDE if way > 0 else WIDTH)) / speed_px_s
            walkers.append(Walker(len(walkers), str(emotion), begin_s, speed_px_s, y))
    return walkers


def render(walkers: list[Walker], at_s: float) -> NDArray[np.uint8]:
    """The camera image (240, 320, 3); people later in the list are in front."""
    image_rgb = np.full((HEIGHT, WIDTH, 3), 10, np.uint8)
    for walker in walkers:
        walker.paint(image_rgb, at_s)
    return image_rgb


def visible_boxes(image_rgb: NDArray[np.uint8]) -> dict[int, tuple[int, int, int, int]]:
    """The boxes of the people whose faces are visible enough, by number."""
    boxes = {}
    faces = image_rgb[..., 0] == _FACE
    for color in np.unique(image_rgb[faces][:, 2]):
        rows, columns = np.nonzero(faces & (image_rgb[..., 2] == color))
        if len(rows) >= _MIN_SEEN * SIDE**2:
            box = columns.min(), rows.min(), columns.max() + 1, rows.max() + 1
            boxes[int(color) // _STEP - 1] = tuple(map(int, box))
    return boxes


class ScriptedDetector:
    """Finds the faces by their color."""

    def detect(self, image_rgb: NDArray[np.uint8]) -> FaceDetections:
        boxes = np.array([*visible_boxes(image_rgb).values()], np.float32).reshape(-1, 4)
        low, size = boxes[:, None, :2], boxes[:, None, 2:] - boxes[:, None, :2]
        scores = np.full(len(boxes), 0.9, np.float32)
        return FaceDetections(boxes, scores, (low + size * _POINTS).astype(np.float32))


class ScriptedClassifier(FakeClassifier):
    """The network: sure of the emotion whose color is in the middle of the crop."""

    def classify(self, crops_rgb: NDArray[np.uint8]) -> FacePredictions:
        green = crops_rgb[:, 56, 56, 1].astype(int)
        shown = np.eye(len(EMOTIONS), dtype=np.float32)[green // _STEP - 1]
        return FacePredictions(np.tile(self.points_xy, (len(crops_rgb), 1, 1)), shown)
