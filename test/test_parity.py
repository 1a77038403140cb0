"""What a network is trained on is what the robot shows it."""

import cv2
import numpy as np
import pytest
import torch

from fer_ros.align import align, similarity
from fer_ros.config import DetectorConfig
from fer_ros.detect import make_detector
from fer_ros.model.network import FaceInput
from fer_ros.weights import InputSpec
from training.augment import centre_maps, view
from training.prepare import canvas

_GREY_LEVEL = 2 / 255  # inputs go from -1 to 1
_ROUNDING = 4 * _GREY_LEVEL  # training rounds once more, and OpenCV rounds places to 1/32 px


def turned(picture_rgb, quarters, scale):
    side = round(512 * scale)
    picture_rgb = cv2.resize(picture_rgb, (side, side), interpolation=cv2.INTER_AREA)
    return np.ascontiguousarray(np.rot90(picture_rgb, -quarters))


@pytest.mark.parametrize(
    ("quarters", "scale"), [(0, 1.0), (1, 1.0), (2, 0.5), (0, 1.6), (0, 5.0), (3, 3.7)]
)
def test_training_and_node_give_the_same_tensor(astronaut, quarters, scale):
    """Faces that are enlarged, and those that are reduced."""
    upright_rgb = turned(astronaut, 0, scale)
    points_xy = make_detector(DetectorConfig()).detect(upright_rgb).points_xy[:1]
    for _ in range(quarters):
        points_xy = np.stack([len(upright_rgb) - 1 - points_xy[..., 1], points_xy[..., 0]], axis=-1)
    picture_rgb = turned(astronaut, quarters, scale)
    face_input = FaceInput(InputSpec())

    crops_rgb = torch.from_numpy(align(picture_rgb, points_xy).crops_rgb)
    node = face_input(crops_rgb.permute(0, 3, 1, 2) / 255.0)

    grey = torch.from_numpy(canvas(picture_rgb, similarity(points_xy)[0]))[None]
    training = face_input(view(grey, centre_maps(1)))

    assert node.shape == training.shape == (1, 3, 112, 112)
    assert node.std() > 0.2
    torch.testing.assert_close(training, node, rtol=0, atol=_ROUNDING)
    assert (training - node).abs().mean() < _GREY_LEVEL / 2
