"""What networks cost, beside the figures of their authors."""

import pytest
import torch

from fer_ros.model import MODELS
from fer_ros.model.cost import Cost, cost_of, count
from fer_ros.model.image_stream import IMAGE_STREAMS


@pytest.mark.parametrize(
    ("network", "expected"),
    [
        (torch.nn.Identity(), Cost(0, 0, 8)),
        (torch.nn.Conv2d(3, 5, 2, stride=2), Cost(65, 5 * 4 * 4 * 3 * 2 * 2, 8)),
        (torch.nn.Conv2d(3, 3, 1, groups=3), Cost(6, 3 * 8 * 8, 8)),
        (torch.nn.Linear(8, 2, bias=False), Cost(16, 3 * 8 * 8 * 2, 8)),
    ],
    ids=["nothing", "convolution", "depthwise", "linear"],
)
def test_multiply_accumulates_of_a_layer(network, expected):
    assert count(network.to("meta"), 8) == expected


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
    cost = cost_of(name)
    assert cost.parameters == pytest.approx(millions * 1e6, rel=0.02)
    assert cost.macs == pytest.approx(gmacs * 1e9, rel=0.02)


@pytest.mark.parametrize(
    ("name", "gmacs"), [("dinov2_vits14", 4.55), ("dinov2_vitb14", 17.5), ("vits8", 4.55)]
)
def test_published_figures_of_a_transformer(name, gmacs):
    with torch.device("meta"):
        stream = IMAGE_STREAMS[name]()
    assert count(stream.trunk, stream.side_px).macs == pytest.approx(gmacs * 1e9, rel=0.01)


@pytest.mark.parametrize("name", MODELS)
def test_every_network_has_its_costs(name):
    cost = cost_of(name)
    assert min(cost) > 0


def test_wrong_names_are_named():
    with pytest.raises(ValueError, match="unknown architecture 'three_stream'"):
        cost_of("three_stream")
    with pytest.raises(ValueError, match="widths"):
        cost_of("two_stream", widths=3)
