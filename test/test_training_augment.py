"""Random views: the landmarks go where the picture goes."""

from dataclasses import replace

import pytest
import torch

from training.augment import (
    MIRROR_68,
    NO_AUGMENT,
    AugmentConfig,
    Draws,
    centre_maps,
    degrade,
    erase,
    mix,
    move_points,
    random_maps,
    view,
)

_ALL = AugmentConfig(blur=1.0, jpeg=1.0, low_resolution=1.0, noise=1.0, erase=1.0)
_STRONG = AugmentConfig(rotate_deg=30.0, scale=0.2, shift=0.1)


def dotted(points_px: torch.Tensor) -> torch.Tensor:
    """Canvases (N, 144, 144) that are bright at one crop pixel each; points (N, 2) are x, y."""
    canvases = torch.zeros(len(points_px), 144, 144, dtype=torch.uint8)
    for canvas, (x, y) in zip(canvases, points_px.round().int().tolist(), strict=True):
        canvas[y + 16 - 1 : y + 16 + 2, x + 16 - 1 : x + 16 + 2] = 255
    return canvases


def test_centre_view_is_the_aligned_crop():
    canvases = torch.randint(0, 256, (2, 144, 144), dtype=torch.uint8)
    crops = view(canvases, centre_maps(2))[:, 0] * 255
    torch.testing.assert_close(crops, canvases[:, 16:128, 16:128].float(), rtol=0, atol=0.05)


def test_points_follow_the_picture():
    torch.manual_seed(0)
    count = 32
    points_px = torch.randint(40, 72, (count, 2)).float()
    maps, mirrored = random_maps(Draws.fresh(count), _STRONG)
    crops = view(dotted(points_px), maps)[:, 0]
    rows, columns = torch.meshgrid(torch.arange(112.0), torch.arange(112.0), indexing="ij")
    weight = crops / crops.sum(dim=(1, 2), keepdim=True)
    seen = torch.stack([(weight * columns).sum(dim=(1, 2)), (weight * rows).sum(dim=(1, 2))], dim=1)

    fractions = ((points_px + 0.5) / 112)[:, None].expand(-1, 68, 2)
    moved = move_points(fractions, maps, mirrored)[:, 0] * 112 - 0.5
    torch.testing.assert_close(moved, seen, rtol=0, atol=0.5)
    assert mirrored.any()
    assert not mirrored.all()


def test_mirroring_twice_changes_nothing():
    assert sorted(MIRROR_68) == list(range(68))
    assert [MIRROR_68[index] for index in MIRROR_68] == list(range(68))


# landmark and its counterpart: jaw ends, outer brows, outer eye corners, mouth corners, nose tip
@pytest.mark.parametrize(("left", "right"), [(0, 16), (17, 26), (36, 45), (48, 54), (30, 30)])
def test_mirrored_landmarks_change_sides(left, right):
    assert (MIRROR_68[left], MIRROR_68[right]) == (right, left)


def numbers(count: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(count, Draws.COUNT, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("count", [1, 16])
@pytest.mark.parametrize("config", [AugmentConfig(), _ALL], ids=["usual", "all"])
def test_degraded_crops_stay_pictures(count, config):
    torch.manual_seed(0)
    crops = torch.rand(count, 1, 112, 112)
    worse = degrade(crops.clone(), Draws(numbers(count)), config)
    assert worse.shape == crops.shape
    assert 0 <= worse.min() < worse.max() <= 1
    assert not torch.equal(worse, crops)


def test_switched_off_nothing_but_the_mirror_changes():
    canvases = torch.randint(0, 256, (8, 144, 144), dtype=torch.uint8)
    draws = Draws(numbers(8))
    maps, mirrored = random_maps(draws, NO_AUGMENT)
    crops = degrade(view(canvases, maps), draws, NO_AUGMENT)
    plain = view(canvases, centre_maps(8))
    expected = torch.where(mirrored[:, None, None, None], plain.flip(3), plain)
    torch.testing.assert_close(crops, expected, rtol=0, atol=1e-5)


def test_a_batch_in_two_halves_gives_the_same_views():
    """On two machines each sees one half."""
    canvases = torch.randint(0, 256, (8, 144, 144), dtype=torch.uint8)
    config = replace(_ALL, noise=0.0)

    def views(part: slice) -> torch.Tensor:
        draws = Draws(numbers(8)[part])
        maps, _ = random_maps(draws, config)
        return degrade(view(canvases[part], maps), draws, config)

    halves = torch.cat([views(slice(0, 4)), views(slice(4, 8))])
    torch.testing.assert_close(halves, views(slice(0, 8)))


# what is lost: fine detail, by each of these alone
@pytest.mark.parametrize("kind", ["blur", "low_resolution", "jpeg"])
def test_detail_is_lost(kind):
    torch.manual_seed(0)
    crops = 0.5 + 0.05 * torch.rand(8, 1, 112, 112)
    worse = degrade(crops.clone(), Draws(numbers(8)), replace(NO_AUGMENT, **{kind: 1.0}))
    steps = [(each[..., 1:] - each[..., :-1]).abs().mean() for each in (worse, crops)]
    assert steps[0] < 0.9 * steps[1]


@pytest.mark.parametrize(("probability", "changed"), [(0.0, 0), (1.0, 8)])
def test_erase_covers_as_many_as_asked(probability, changed):
    torch.manual_seed(0)
    crops = torch.rand(8, 1, 112, 112)
    covered = erase(crops.clone(), Draws(numbers(8)), probability)
    different = (covered != crops)[:, 0]
    assert int(different.any(dim=(1, 2)).sum()) == changed
    if changed:
        sides = torch.stack([different.any(dim=1).sum(dim=1), different.any(dim=2).sum(dim=1)])
        assert 13 <= sides.min() < sides.max() <= 57
        assert torch.equal(different.sum(dim=(1, 2)), sides.prod(dim=0))  # a rectangle


@pytest.mark.parametrize("kind", ["mixup", "cutmix"])
def test_mixed_targets_follow_the_pictures(kind):
    """Each picture is as bright as its target says."""
    torch.manual_seed(0)
    shares = torch.linspace(0, 1, 6)
    crops = shares.view(-1, 1, 1, 1).expand(-1, 1, 112, 112).clone()
    targets = torch.stack([shares, 1 - shares], dim=1)
    mixed, mixed_targets = mix(crops, targets, replace(NO_AUGMENT, **{kind: 1.0}))
    assert not torch.equal(mixed, crops)
    torch.testing.assert_close(mixed.mean(dim=(1, 2, 3)), mixed_targets[:, 0])
    torch.testing.assert_close(mixed_targets.sum(dim=1), torch.ones(6))


def test_nothing_is_mixed_unless_asked():
    crops, targets = torch.rand(2, 1, 112, 112), torch.eye(2)
    mixed, mixed_targets = mix(crops, targets, AugmentConfig())
    assert mixed is crops
    assert mixed_targets is targets
