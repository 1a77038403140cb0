"""Views of parts of faces."""

import pytest
import torch

from training.augment import NO_AUGMENT, Draws, centre_maps, view
from training.multicrop import (
    NUMBERS,
    Shot,
    ViewConfig,
    inside,
    make_view,
    random_parts,
)

_PLAIN = ViewConfig(**vars(NO_AUGMENT))  # what is left is the part, and the mirror


def numbers(count: int) -> torch.Tensor:
    return torch.rand(count, NUMBERS, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("count", [1, 5])
@pytest.mark.parametrize("side_px", [48, 112])
def test_views_are_pictures_of_the_asked_side(count, side_px):
    canvases = torch.randint(0, 256, (count, 144, 144), dtype=torch.uint8)
    seen = make_view(canvases, numbers(count), Shot(side_px, 0.2, 0.5), ViewConfig())
    assert seen.shape == (count, 1, side_px, side_px)
    assert 0 <= seen.min() < seen.max() <= 1


def test_the_whole_crop_is_what_others_see():
    canvases = torch.randint(0, 256, (3, 144, 144), dtype=torch.uint8)
    inner = canvases[:, None, 16:128, 16:128].float() / 255
    torch.testing.assert_close(view(canvases, centre_maps(3), 112), inner, rtol=0, atol=1e-4)
    whole = make_view(canvases, numbers(3), Shot(112, 1.0, 1.0), _PLAIN)
    plain = view(canvases, centre_maps(3))
    mirrored = numbers(3)[:, 2] < 0.5
    expected = torch.where(mirrored[:, None, None, None], plain.flip(3), plain)
    torch.testing.assert_close(whole, expected, rtol=0, atol=1e-5)


def test_views_are_never_upside_down():
    canvases = torch.zeros(64, 144, 144, dtype=torch.uint8)
    canvases[:, 72:] = 200
    seen = make_view(canvases, numbers(64), Shot(48, 0.9, 1.0), _PLAIN)[:, 0]
    assert (seen[:, 24:].mean(dim=(1, 2)) > seen[:, :24].mean(dim=(1, 2))).all()


def test_parts_have_the_asked_area_and_lie_inside():
    parts = random_parts(Draws(numbers(200)), Shot(48, 0.2, 0.5))
    area = parts[:, 0, 0] * parts[:, 1, 1]
    assert 0.2 <= area.min() < 0.25
    assert 0.45 < area.max() <= 0.5
    reach = parts[:, :, 2].abs() + parts[:, 0, :1]
    assert 0.9 < reach.max() <= 1.0 + 1e-6


def test_maps_are_done_one_after_the_other():
    torch.manual_seed(0)
    outer, inner, point = torch.randn(3, 2, 3), torch.randn(3, 2, 3), torch.randn(3, 2, 1)

    def done(maps: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
        return maps[:, :, :2] @ places + maps[:, :, 2:]

    torch.testing.assert_close(done(inside(outer, inner), point), done(outer, done(inner, point)))


@pytest.mark.parametrize(
    ("change", "words"),
    [({"rotate_deg": 16.0}, "rotate_deg"), ({"mixup": 0.2}, "mixup"), ({"area": 0.0}, "area")],
)
def test_settings_that_make_no_sense_are_refused(change, words):
    with pytest.raises(ValueError, match=words):
        ViewConfig(**change)
