"""JPEG artifacts beside those of libjpeg."""

import pytest
import torch
from torchvision.transforms.v2 import functional as V  # noqa: N812

from training.jpeg import jpeg_artifacts


def textured(count: int, side_px: int) -> torch.Tensor:
    """Images (count, 1, side_px, side_px) of 0..255 levels: a gradient with noise."""
    generator = torch.Generator().manual_seed(0)
    gradient = torch.linspace(20, 220, side_px).expand(count, 1, side_px, side_px)
    noise = 20 * torch.randn(gradient.shape, generator=generator)
    return (gradient + noise).clamp(0, 255).round() / 255


@pytest.mark.parametrize("side_px", [8, 98, 112])
@pytest.mark.parametrize("quality", [1, 30, 50, 70, 100])
def test_artifacts_equal_those_of_libjpeg(side_px, quality):
    """But for some coefficients that the integer DCT of libjpeg rounds to another step."""
    images = textured(4, side_px)
    levels = (images * 255).round().byte().expand(-1, 3, -1, -1)
    expected = torch.stack([V.jpeg(image, quality)[:1] for image in levels]).float()
    difference = (jpeg_artifacts(images, quality) * 255 - expected).abs()
    assert difference.mean() < 0.5
    assert (difference > 2).float().mean() < 0.1


@pytest.mark.parametrize("count", [0, 3])
def test_every_image_is_compressed_alone(count):
    images = textured(3, 24)[:count]
    compressed = jpeg_artifacts(images, 30)
    assert compressed.shape == images.shape
    for image, alone in zip(compressed, images, strict=True):
        assert torch.equal(image, jpeg_artifacts(alone[None], 30)[0])
        assert not torch.equal(image, alone)
