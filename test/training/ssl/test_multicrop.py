"""Views of random parts of faces."""

import pytest
import torch

from training.augment import NO_AUGMENT, RandomDraws, identity_affines, random_affines, sample_crops
from training.ssl.multicrop import (
    ViewConfig,
    ViewSpec,
    compose,
    make_view,
    random_crop_affines,
)

_PLAIN = ViewConfig(**vars(NO_AUGMENT))  # only the part and the mirroring are random


def draws_for(count: int) -> RandomDraws:
    return RandomDraws.generated(torch.Generator().manual_seed(0), count)


@pytest.mark.parametrize("count", [1, 5])
@pytest.mark.parametrize("side_px", [48, 112])
def test_views_have_the_requested_size(count, side_px):
    padded_crops = torch.randint(0, 256, (count, 144, 144), dtype=torch.uint8)
    views = make_view(padded_crops, draws_for(count), ViewSpec(side_px, 0.2, 0.5), ViewConfig())
    assert views.shape == (count, 1, side_px, side_px)
    assert 0 <= views.min() < views.max() <= 1


def test_the_view_of_the_whole_area_is_the_aligned_crop():
    padded_crops = torch.randint(0, 256, (3, 144, 144), dtype=torch.uint8)
    inner = padded_crops[:, None, 16:128, 16:128].float() / 255
    torch.testing.assert_close(
        sample_crops(padded_crops, identity_affines(3), 112), inner, rtol=0, atol=1e-4
    )
    whole = make_view(padded_crops, draws_for(3), ViewSpec(112, 1.0, 1.0), _PLAIN)
    plain = sample_crops(padded_crops, identity_affines(3))
    _, mirrored = random_affines(draws_for(3), _PLAIN)
    expected = torch.where(mirrored[:, None, None, None], plain.flip(3), plain)
    torch.testing.assert_close(whole, expected, rtol=0, atol=1e-5)


def test_views_are_never_upside_down():
    padded_crops = torch.zeros(64, 144, 144, dtype=torch.uint8)
    padded_crops[:, 72:] = 200
    views = make_view(padded_crops, draws_for(64), ViewSpec(48, 0.9, 1.0), _PLAIN)[:, 0]
    assert (views[:, 24:].mean(dim=(1, 2)) > views[:, :24].mean(dim=(1, 2))).all()


def test_crops_have_the_requested_area_inside_the_face():
    parts = random_crop_affines(draws_for(200), ViewSpec(48, 0.2, 0.5))
    area = parts[:, 0, 0] * parts[:, 1, 1]
    assert 0.2 <= area.min() < 0.25
    assert 0.45 < area.max() <= 0.5
    reach = parts[:, :, 2].abs() + parts[:, 0, :1]
    assert 0.9 < reach.max() <= 1.0 + 1e-6


def test_composed_maps_apply_the_inner_one_first():
    torch.manual_seed(0)
    outer, inner, point = torch.randn(3, 2, 3), torch.randn(3, 2, 3), torch.randn(3, 2, 1)

    def apply(maps: torch.Tensor, points: torch.Tensor) -> torch.Tensor:
        return maps[:, :, :2] @ points + maps[:, :, 2:]

    composed = apply(compose(outer, inner), point)
    torch.testing.assert_close(composed, apply(outer, apply(inner, point)))


@pytest.mark.parametrize(
    ("change", "words"),
    [({"rotate_deg": 16.0}, "rotate_deg"), ({"mixup": 0.2}, "mixup"), ({"area": 0.0}, "area")],
)
def test_invalid_settings_are_rejected(change, words):
    with pytest.raises(ValueError, match=words):
        ViewConfig(**change)
