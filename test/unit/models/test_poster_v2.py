"""Our POSTER++ is the published one: same names, same shapes, same predictions."""

from functools import lru_cache

import pytest
import torch
from figures import filled, load_figures, make_image, shapes

from fer_ros.models.poster_v2 import PosterV2

FIGURES = load_figures("poster_v2")
FACE_STREAM = "face_landback."


def figures_of(classes: int) -> dict:
    """The state dicts differ in the head alone."""
    entries = [
        [name, [classes, *shape[1:]] if name.startswith("VIT.head.") else shape, kind]
        for name, shape, kind in FIGURES["state_dict"]
    ]
    return {"state_dict": entries, "outputs": FIGURES["outputs"][str(classes)]}


@lru_cache(maxsize=1)
def published(classes: int) -> PosterV2:
    network = PosterV2(classes)
    network.load_state_dict(network.state_dict() | filled(figures_of(classes)))
    return network.eval()


@pytest.mark.parametrize("classes", [8, 7])
def test_the_state_dict_equals_the_published_one(classes):
    with torch.device("meta"):
        own = {name: tuple(value.shape) for name, value in PosterV2(classes).state_dict().items()}
    assert own == shapes(figures_of(classes))


@torch.no_grad()
@pytest.mark.parametrize("classes", [7, 8])
def test_logits_equal_the_published_ones(classes):
    logits = published(classes)(make_image(2, 3, 224, 224)).logits
    torch.testing.assert_close(
        logits, torch.tensor(figures_of(classes)["outputs"]), rtol=0, atol=1e-4
    )


@torch.no_grad()
def test_points_are_those_of_its_landmark_stream():
    network = published(8)
    images = make_image(2, 3, 112, 112)
    points = network(images).points
    assert points.shape == (2, 68, 2)
    torch.testing.assert_close(points, network.face_landback(images))


@torch.no_grad()
def test_both_streams_get_112_px():
    network = published(8)
    large = make_image(1, 3, 224, 224)
    torch.testing.assert_close(network(large).logits, network(large[:, :, ::2, ::2]).logits)


def test_landmark_stream_is_frozen():
    network = PosterV2().train()
    before = {name: value.clone() for name, value in network.face_landback.state_dict().items()}
    network(make_image(2, 3, 112, 112))
    after = network.face_landback.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    trained = {name for name, value in network.named_parameters() if value.requires_grad}
    assert [name for name in trained if name.startswith(FACE_STREAM)] == []
    assert "ir_back.input_layer.0.weight" in trained


def test_executed_parameters_are_as_many_as_published():
    with torch.device("meta"):
        network = PosterV2()
    executed = [
        value.numel()
        for name, value in network.named_parameters()
        if value.requires_grad or name.startswith(FACE_STREAM)
    ]
    assert sum(executed) == pytest.approx(43.7e6, rel=0.01)  # table 1
