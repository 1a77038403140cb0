"""Our MobileFaceNet is the published one: same names, same shapes, same predictions."""

import pytest
import torch
from figures import assert_statistics, filled, load_figures, make_image, shapes

from fer_ros.models.mobilefacenet import MobileFaceNet

FIGURES = load_figures("mobilefacenet")


@pytest.fixture(scope="module")
def network() -> MobileFaceNet:
    network = MobileFaceNet()
    network.load_state_dict(network.state_dict() | filled(FIGURES))
    return network.eval()


def test_the_state_dict_equals_the_published_one():
    own = {name: tuple(value.shape) for name, value in MobileFaceNet().state_dict().items()}
    assert own == shapes(FIGURES)


@torch.no_grad()
def test_points_equal_the_published_ones(network):
    points = network(make_image(2, 3, 112, 112))
    expected = torch.tensor(FIGURES["outputs"]["points"])
    assert points.shape == (2, 68, 2)
    torch.testing.assert_close(points.flatten(1), expected, rtol=0, atol=1e-4)


@torch.no_grad()
def test_maps_equal_the_published_ones(network):
    maps = network.features(make_image(2, 3, 112, 112))
    assert [tuple(feature_map.shape[1:]) for feature_map in maps] == [
        (64, 28, 28),
        (128, 14, 14),
        (512, 7, 7),
    ]
    for feature_map, name in zip(maps, ("map1", "map2", "map3"), strict=True):
        assert_statistics(feature_map, FIGURES["outputs"][name])
