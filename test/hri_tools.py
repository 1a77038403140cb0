"""Scenes of several faces for the tests of REP-155."""

import numpy as np

from fer_ros.types import FaceDetections


class SyntheticScene:
    """A detector that finds a face at each bright square of 16 px in an 8 x 8 grid."""

    def detect(self, image_rgb):
        rows, columns = np.nonzero(image_rgb[8::32, 8::32, 0] > 100)
        boxes = np.stack([columns, rows, columns + 0.75, rows + 0.75], axis=1) * 32.0
        points = np.array([(8, 9), (16, 9), (12, 13), (9, 17), (15, 17)])
        return FaceDetections(
            boxes.astype(np.float32),
            np.full(len(boxes), 0.9, np.float32),
            (boxes[:, None, :2] + points).astype(np.float32),
        )


def crowd(random, share):
    """An image (256, 256, 3) with a face in about this share of the 64 places."""
    there = random.random((8, 8)) < share
    return np.kron(there[..., None], np.full((32, 32, 3), 200, np.uint8)).astype(np.uint8)
