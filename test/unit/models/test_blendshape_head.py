"""The layers of the blendshapes."""

import pytest
import torch

from fer_ros.models import build_model
from fer_ros.models.blendshape_head import BlendshapeHead
from fer_ros.models.mobilefacenet import MobileFaceNet

SIDES = (28, 14, 7)
IMAGE_CHANNELS = (8, 16, 32)


def head_inputs(count):
    """Maps of both streams, features of the image and the landmarks, points, fused features."""
    torch.manual_seed(0)
    image_maps, landmark_maps = (
        [
            torch.randn(count, channels, side, side, requires_grad=True)
            for channels, side in zip(widths, SIDES, strict=True)
        ]
        for widths in (IMAGE_CHANNELS, MobileFaceNet.map_channels)
    )
    rest = [
        torch.randn(count, *shape, requires_grad=True) for shape in ((32,), (512,), (68, 2), (64,))
    ]
    return image_maps, landmark_maps, *rest


@pytest.mark.parametrize("count", [0, 1, 3])
def test_each_face_has_52_values(count):
    head = BlendshapeHead(IMAGE_CHANNELS, 64).eval()
    assert head(*head_inputs(count)).shape == (count, 52)


def test_all_inputs_matter():
    image_maps, landmark_maps, *rest = head_inputs(2)
    head = BlendshapeHead(IMAGE_CHANNELS, 64).eval()
    head(image_maps, landmark_maps, *rest).square().sum().backward()
    used = [*image_maps, *landmark_maps[:2], *rest]  # the coarsest map is in the features
    assert all(values.grad is not None and values.grad.abs().max() > 0 for values in used)


@torch.no_grad()
def test_with_a_trained_linear_layer_the_start_is_its_answer():
    """So that training starts from what the trunk has learned."""
    config = {"image": "mobilenet", "scales": 1, "blendshapes": True, "image_head": True}
    torch.manual_seed(0)
    network = build_model("two_stream_small", **config).eval()
    images = torch.randn(2, 3, 112, 112)
    features = network.image(images)[-1].mean(dim=(2, 3))
    expected = network.image_head["blendshape_head"](features).sigmoid()
    torch.testing.assert_close(network(images).blendshapes, expected)
