"""Training and the node give the network the same input."""

import cv2
import numpy as np
import pytest
import torch

from fer_ros.alignment import align, similarity
from fer_ros.config import DetectorConfig
from fer_ros.detector import make_detector
from fer_ros.inference.model_store import InputSpec
from fer_ros.models.wrapper import FaceInput
from training.augment import identity_affines, sample_crops
from training.datasets.localization import cut_padded_crop

_GRAY_LEVEL = 2 / 255  # inputs go from -1 to 1
# Training rounds once more, and OpenCV rounds places to 1/32 px: at an edge up to 255 / 32 levels.
_ROUNDING = 8 * _GRAY_LEVEL


def turned(image_rgb, quarters, scale):
    side = round(512 * scale)
    image_rgb = cv2.resize(image_rgb, (side, side), interpolation=cv2.INTER_AREA)
    return np.ascontiguousarray(np.rot90(image_rgb, -quarters))


@pytest.mark.parametrize(
    ("quarters", "scale"), [(0, 1.0), (1, 1.0), (2, 0.5), (0, 1.6), (0, 5.0), (3, 3.7)]
)
def test_training_and_node_give_the_same_tensor(astronaut, quarters, scale):
    """Faces that are enlarged, and those that are reduced."""
    upright_rgb = turned(astronaut, 0, scale)
    points_xy = make_detector(DetectorConfig()).detect(upright_rgb).points_xy[:1]
    for _ in range(quarters):
        points_xy = np.stack([len(upright_rgb) - 1 - points_xy[..., 1], points_xy[..., 0]], axis=-1)
    image_rgb = turned(astronaut, quarters, scale)
    face_input = FaceInput(InputSpec())

    crops_rgb = torch.from_numpy(align(image_rgb, points_xy).crops_rgb)
    node = face_input(crops_rgb.permute(0, 3, 1, 2) / 255.0)

    gray = torch.from_numpy(cut_padded_crop(image_rgb, similarity(points_xy)[0]))[None]
    training = face_input(sample_crops(gray, identity_affines(1)))

    assert node.shape == training.shape == (1, 3, 112, 112)
    assert node.std() > 0.2
    torch.testing.assert_close(training, node, rtol=0, atol=_ROUNDING)
    assert (training - node).abs().mean() < _GRAY_LEVEL / 2
