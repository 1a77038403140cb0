"""Random views: the landmarks go where the picture goes."""

import pytest
import torch

from training.augment import (
    MIRROR_68,
    AugmentConfig,
    centre_maps,
    degrade,
    erase,
    move_points,
    random_maps,
    view,
)

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
    maps, mirrored = random_maps(count, _STRONG)
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


def test_degraded_crops_stay_pictures():
    torch.manual_seed(0)
    crops = torch.rand(16, 1, 112, 112)
    worse = degrade(crops.clone(), AugmentConfig())
    assert worse.shape == crops.shape
    assert 0 <= worse.min() < worse.max() <= 1
    assert not torch.equal(worse, crops)


@pytest.mark.parametrize(("probability", "changed"), [(0.0, 0), (1.0, 8)])
def test_erase_covers_as_many_as_asked(probability, changed):
    torch.manual_seed(0)
    crops = torch.rand(8, 1, 112, 112)
    covered = erase(crops.clone(), probability)
    assert int((covered != crops).any(dim=(1, 2, 3)).sum()) == changed
