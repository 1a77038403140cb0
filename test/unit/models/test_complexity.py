"""Complexity of networks against published figures."""

import functools

import pytest
import torch

from fer_ros.models import MODELS
from fer_ros.models.backbones.registry import BACKBONES
from fer_ros.models.complexity import ModelComplexity, complexity_of, measure_complexity

counted = functools.cache(complexity_of)  # each network once


@pytest.mark.parametrize(
    ("network", "expected"),
    [
        (torch.nn.Identity(), ModelComplexity(0, 0, 8)),
        (torch.nn.Conv2d(3, 5, 2, stride=2), ModelComplexity(65, 5 * 4 * 4 * 3 * 2 * 2, 8)),
        (torch.nn.Conv2d(3, 3, 1, groups=3), ModelComplexity(6, 3 * 8 * 8, 8)),
        (torch.nn.Linear(8, 2, bias=False), ModelComplexity(16, 3 * 8 * 8 * 2, 8)),
    ],
    ids=["nothing", "convolution", "depthwise", "linear"],
)
def test_multiply_accumulates_of_a_layer(network, expected):
    assert measure_complexity(network.to("meta"), 8) == expected


# millions of parameters, billions of multiply-accumulates
@pytest.mark.parametrize(
    ("name", "millions", "gmacs"),
    [
        ("mobilefacenet", 1.01, 0.22),
        ("poster_v2", 57.9, 8.5),
        ("vit_base", 86, 17.6),
        ("swin_base", 87, 15.4),
        ("efficientnet_b0", 4.0, 0.39),
    ],
)
def test_published_figures(name, millions, gmacs):
    cost = counted(name)
    assert cost.parameters == pytest.approx(millions * 1e6, rel=0.02)
    assert cost.macs == pytest.approx(gmacs * 1e9, rel=0.02)


@pytest.mark.parametrize(
    ("name", "gmacs"), [("dinov2_vits14", 4.55), ("dinov2_vitb14", 17.5), ("vits8", 4.55)]
)
def test_published_figures_of_a_transformer(name, gmacs):
    with torch.device("meta"):
        stream = BACKBONES[name]()
    assert measure_complexity(stream.trunk, stream.side_px).macs == pytest.approx(
        gmacs * 1e9, rel=0.01
    )


@pytest.mark.parametrize("name", MODELS)
def test_every_network_has_a_complexity(name):
    cost = counted(name)
    assert min(cost) > 0


def test_unknown_names_are_reported():
    with pytest.raises(ValueError, match="unknown architecture 'three_stream'"):
        complexity_of("three_stream")
    with pytest.raises(ValueError, match="widths"):
        complexity_of("two_stream", widths=3)
