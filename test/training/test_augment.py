"""Augmentation: views, their landmarks, photometric changes, mixed images."""

from dataclasses import replace

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from training.augment import (
    NO_AUGMENT,
    AugmentConfig,
    RandomDraws,
    erase,
    identity_affines,
    mix,
    photometric_augment,
    random_affines,
    sample_crops,
    transform_landmarks,
)

_ALL = AugmentConfig(blur=1.0, jpeg=1.0, low_resolution=1.0, noise=1.0, erase=1.0)
_STRONG = AugmentConfig(rotate_deg=30.0, scale=0.2, shift=0.1)


def dotted(points_px: torch.Tensor) -> torch.Tensor:
    """Padded crops (N, 144, 144) that are bright at one crop pixel each; points (N, 2) are x, y."""
    padded_crops = torch.zeros(len(points_px), 144, 144, dtype=torch.uint8)
    for padded_crop, (x, y) in zip(padded_crops, points_px.round().int().tolist(), strict=True):
        padded_crop[y + 16 - 1 : y + 16 + 2, x + 16 - 1 : x + 16 + 2] = 255
    return padded_crops


def test_the_identity_view_is_the_aligned_crop():
    padded_crops = torch.randint(0, 256, (2, 144, 144), dtype=torch.uint8)
    crops = sample_crops(padded_crops, identity_affines(2))[:, 0] * 255
    torch.testing.assert_close(crops, padded_crops[:, 16:128, 16:128].float(), rtol=0, atol=0.05)


def test_landmarks_move_with_the_image():
    torch.manual_seed(0)
    count = 32
    points_px = torch.randint(40, 72, (count, 2)).float()
    maps, mirrored = random_affines(draws_for(count), _STRONG)
    crops = sample_crops(dotted(points_px), maps)[:, 0]
    rows, columns = torch.meshgrid(torch.arange(112.0), torch.arange(112.0), indexing="ij")
    weight = crops / crops.sum(dim=(1, 2), keepdim=True)
    seen = torch.stack([(weight * columns).sum(dim=(1, 2)), (weight * rows).sum(dim=(1, 2))], dim=1)

    fractions = ((points_px + 0.5) / 112)[:, None].expand(-1, 68, 2)
    moved = transform_landmarks(fractions, maps, mirrored)[:, 0] * 112 - 0.5
    torch.testing.assert_close(moved, seen, rtol=0, atol=0.5)
    assert mirrored.any()
    assert not mirrored.all()


def draws_for(count: int, own: slice = slice(None)) -> RandomDraws:
    return RandomDraws.generated(torch.Generator().manual_seed(0), count, own)


@pytest.mark.parametrize("count", [1, 16])
@pytest.mark.parametrize("config", [AugmentConfig(), _ALL], ids=["default", "all"])
def test_augmented_crops_stay_in_range(count, config):
    torch.manual_seed(0)
    crops = torch.rand(count, 1, 112, 112)
    changed = photometric_augment(crops.clone(), draws_for(count), config)
    assert changed.shape == crops.shape
    assert 0 <= changed.min() < changed.max() <= 1
    assert not torch.equal(changed, crops)


def test_without_augmentation_only_mirroring_is_left():
    padded_crops = torch.randint(0, 256, (8, 144, 144), dtype=torch.uint8)
    draws = draws_for(8)
    maps, mirrored = random_affines(draws, NO_AUGMENT)
    crops = photometric_augment(sample_crops(padded_crops, maps), draws, NO_AUGMENT)
    plain = sample_crops(padded_crops, identity_affines(8))
    expected = torch.where(mirrored[:, None, None, None], plain.flip(3), plain)
    torch.testing.assert_close(crops, expected, rtol=0, atol=1e-5)


def test_a_batch_in_two_halves_gives_the_same_views():
    """As in two processes."""
    padded_crops = torch.randint(0, 256, (8, 144, 144), dtype=torch.uint8)
    config = replace(_ALL, noise=0.0)

    def views(part: slice) -> torch.Tensor:
        draws = draws_for(8, part)
        maps, _ = random_affines(draws, config)
        return photometric_augment(sample_crops(padded_crops[part], maps), draws, config)

    halves = torch.cat([views(slice(0, 4)), views(slice(4, 8))])
    torch.testing.assert_close(halves, views(slice(0, 8)))


@pytest.mark.parametrize("kind", ["blur", "low_resolution", "jpeg"])
def test_reduced_resolution_removes_detail(kind):
    torch.manual_seed(0)
    crops = 0.5 + 0.05 * torch.rand(8, 1, 112, 112)
    changed = photometric_augment(crops.clone(), draws_for(8), replace(NO_AUGMENT, **{kind: 1.0}))
    after, before = (
        (images[..., 1:] - images[..., :-1]).abs().mean() for images in (changed, crops)
    )
    assert after < 0.9 * before


@pytest.mark.parametrize(("probability", "count"), [(0.0, 0), (1.0, 8)])
def test_erase_covers_a_rectangle_with_its_probability(probability, count):
    torch.manual_seed(0)
    crops = torch.rand(8, 1, 112, 112)
    covered = erase(crops.clone(), draws_for(8), probability)
    different = (covered != crops)[:, 0]
    assert int(different.any(dim=(1, 2)).sum()) == count
    if count:
        sides = torch.stack([different.any(dim=1).sum(dim=1), different.any(dim=2).sum(dim=1)])
        assert 13 <= sides.min() < sides.max() <= 57
        assert torch.equal(different.sum(dim=(1, 2)), sides.prod(dim=0))  # a rectangle


@pytest.mark.parametrize("kind", ["mixup", "cutmix"])
def test_targets_are_mixed_as_the_images(kind):
    """The brightness of each image is its first target."""
    torch.manual_seed(0)
    shares = torch.linspace(0, 1, 6)
    crops = shares.view(-1, 1, 1, 1).expand(-1, 1, 112, 112).clone()
    targets = torch.stack([shares, 1 - shares], dim=1)
    mixed, mixed_targets = mix(crops, targets, replace(NO_AUGMENT, **{kind: 1.0}))
    assert not torch.equal(mixed, crops)
    torch.testing.assert_close(mixed.mean(dim=(1, 2, 3)), mixed_targets[:, 0])
    torch.testing.assert_close(mixed_targets.sum(dim=1), torch.ones(6))


def test_nothing_is_mixed_by_default():
    crops, targets = torch.rand(2, 1, 112, 112), torch.eye(2)
    mixed, mixed_targets = mix(crops, targets, AugmentConfig())
    assert mixed is crops
    assert mixed_targets is targets


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_augmentation_does_not_wait_for_the_gpu():
    padded_crops = torch.randint(0, 256, (8, 144, 144), dtype=torch.uint8, device="cuda")
    draws = draws_for(8)
    torch.cuda.set_sync_debug_mode("error")
    try:
        maps, _ = random_affines(draws, _ALL)
        photometric_augment(sample_crops(padded_crops, maps), draws, _ALL)
    finally:
        torch.cuda.set_sync_debug_mode("default")


class ProductsInFloat32(TorchDispatchMode):
    """Records the matrix products that a GPU may compute in TF32."""

    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_dispatch__(self, operator, types, args=(), kwargs=None):
        kinds = {torch.ops.aten.bmm, torch.ops.aten.mm, torch.ops.aten.affine_grid_generator}
        if operator.overloadpacket in kinds and args[0].dtype == torch.float32:
            self.names.append(str(operator))
        return operator(*args, **kwargs or {})


def test_views_and_landmarks_are_not_computed_in_tf32():
    """Training allows TF32, whose 10 bits of mantissa move landmarks by up to 0.07 px."""
    draws = RandomDraws.generated(torch.Generator().manual_seed(0), 4)
    maps, mirrored = random_affines(draws, AugmentConfig())
    padded_crops = torch.zeros(4, 144, 144, dtype=torch.uint8)
    with ProductsInFloat32() as products:
        sample_crops(padded_crops, maps)
        transform_landmarks(torch.rand(4, 68, 2), maps, mirrored)
    assert products.names == []
