"""Our MobileFaceNet is the published one: same names, same shapes, same answers."""

import pytest
import torch
from figures import assert_statistics, filled, load_figures, picture, shapes

from fer_ros.model.mobilefacenet import MobileFaceNet

FIGURES = load_figures("mobilefacenet")


@pytest.fixture(scope="module")
def network() -> MobileFaceNet:
    network = MobileFaceNet()
    network.load_state_dict(network.state_dict() | filled(FIGURES))
    return network.eval()


def test_state_dict_is_the_published_one():
    own = {name: tuple(value.shape) for name, value in MobileFaceNet().state_dict().items()}
    assert own == shapes(FIGURES)


@torch.no_grad()
def test_points_are_the_published_ones(network):
    points = network(picture(2, 3, 112, 112))
    expected = torch.tensor(FIGURES["outputs"]["points"])
    assert points.shape == (2, 68, 2)
    torch.testing.assert_close(points.flatten(1), expected, rtol=0, atol=1e-4)


@torch.no_grad()
def test_maps_are_the_published_ones(network):
    maps = network.features(picture(2, 3, 112, 112))
    assert [tuple(each.shape[1:]) for each in maps] == [(64, 28, 28), (128, 14, 14), (512, 7, 7)]
    for found, name in zip(maps, ("map1", "map2", "map3"), strict=True):
        assert_statistics(found, FIGURES["outputs"][name])
