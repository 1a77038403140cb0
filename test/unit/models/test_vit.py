"""Vision transformers as backbones: official tokens, three scales, frozen or trained in layers."""

import pytest
import torch
from figures import assert_statistics, filled, load_figures, make_image

from fer_ros.models.backbones.pretrained import load_backbone
from fer_ros.models.backbones.registry import BACKBONES, SCALES
from fer_ros.models.backbones.vit import IMAGENET, PROJECT_INPUT, VitBackbone, resample_positions
from fer_ros.models.two_stream import TwoStream

FIGURES = load_figures("dinov2_vits14")
SMALL = "vit_small_patch14_dinov2"


@pytest.fixture(scope="module")
def official_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("official") / "dinov2_vits14_pretrain.pth"
    torch.save(filled(FIGURES), path)
    return path


def from_imagenet(images: torch.Tensor) -> torch.Tensor:
    """The same images, normalized as ours are."""

    def column(values: tuple[float, ...]) -> torch.Tensor:
        return torch.tensor(values)[:, None, None]

    plain = images * column(IMAGENET.std) + column(IMAGENET.mean)
    return (plain - column(PROJECT_INPUT.mean)) / column(PROJECT_INPUT.std)


@torch.no_grad()
@pytest.mark.parametrize("side", [196, 112, 518])
def test_official_weights_give_the_official_tokens(official_file, side):
    stream = VitBackbone(SMALL, side, IMAGENET).eval()
    load_backbone(stream, official_file)
    images = from_imagenet(make_image(1, 3, side, side))
    expected = FIGURES["outputs"]
    for maps, depth in zip(stream.tokens(images), (4, 8, 12), strict=True):
        assert_statistics(maps.flatten(2).transpose(1, 2), expected[f"block{depth}_{side}"])
    cls = stream.trunk.forward_features(images)[0, 0]
    torch.testing.assert_close(cls, torch.tensor(expected[f"cls_{side}"]), rtol=1e-4, atol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize(
    ("shape", "side", "expected"),
    [
        ((1, 1, 4), 3, (1, 1, 4)),  # no grid
        ((1, 10, 4), 3, (1, 10, 4)),
        ((1, 10, 4), 2, (1, 5, 4)),
        ((1, 26, 4), 7, (1, 50, 4)),
        ((1, 11, 4), 7, (1, 11, 4)),  # not square: an error
        ((11, 4), 7, (11, 4)),
    ],
)
def test_positions_are_resampled_to_the_grid(shape, side, expected):
    embedding = torch.full(shape, 0.5)
    embedding[..., :1, :] = 2.0
    resampled = resample_positions(embedding, side)
    assert resampled.shape == expected
    torch.testing.assert_close(resampled[..., :1, :], embedding[..., :1, :])
    torch.testing.assert_close(resampled[..., 1:, :], torch.full_like(resampled[..., 1:, :], 0.5))


@torch.no_grad()
@pytest.mark.parametrize(
    ("trunk", "side", "depth", "depths"),
    [
        ("vit_small_patch8_224", 112, 12, (4, 8, 12)),
        (SMALL, 196, 12, (4, 8, 12)),
        ("vit_base_patch14_dinov2", 196, 3, (1, 2, 3)),
        ("vit_large_patch14_dinov2", 196, 6, (2, 4, 6)),
    ],
)
def test_three_depths_become_three_scales(trunk, side, depth, depths):
    stream = VitBackbone(trunk, side, depth=depth).eval()
    assert stream.depths == depths
    maps = stream(make_image(2, 3, side, side))
    expected = [(2, channels, s, s) for channels, s in zip(stream.channels, SCALES, strict=True)]
    assert [tuple(feature_map.shape) for feature_map in maps] == expected


@pytest.mark.parametrize(
    ("name", "millions", "depths"),
    [
        ("vits8", 21.6, (4, 8, 12)),
        ("dinov2_vits14", 21.6, (4, 8, 12)),
        ("dinov2_vitb14", 86.6, (4, 8, 12)),
        ("dinov2_vitl14", 304.4, (8, 16, 24)),
    ],
)
def test_streams_by_name(name, millions, depths):
    with torch.device("meta"):
        stream = BACKBONES[name]()
    assert stream.depths == depths
    trunk = sum(value.numel() for value in stream.trunk.parameters())
    assert trunk == pytest.approx(millions * 1e6, rel=0.02)


@pytest.mark.parametrize(
    ("name", "groups"),
    [
        ("efficientnet_lite0", 1 + 7),
        ("face_resnet", 1 + 13),
        ("mobilenet", 1 + 11),
        ("vits8", 1 + 12 + 1),
        ("dinov2_vitl14", 1 + 24 + 1),
    ],
)
def test_layer_groups_go_from_the_input_to_the_output(name, groups):
    with torch.device("meta"):
        stream = BACKBONES[name]()
    layer_groups = stream.layer_groups()
    assert len(layer_groups) == groups
    assert [id(value) for group in layer_groups for value in group] == [
        id(value) for value in stream.trunk.parameters()
    ]
    stream.freeze()
    assert stream.layer_groups() == []


def test_a_frozen_trunk_is_not_trained_but_what_follows_is():
    network = TwoStream("efficientnet_lite0")
    network.image.freeze()
    network.train()
    before = {name: value.clone() for name, value in network.image.trunk.state_dict().items()}
    network(make_image(2, 3, 112, 112)).logits.sum().backward()
    after = network.image.trunk.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    assert all(value.grad is None for value in network.image.parameters())
    assert network.input_proj["0"][0].weight.grad.any()


def test_a_frozen_transformer_still_trains_its_scales():
    stream = VitBackbone(SMALL, 196, depth=3)
    stream.freeze()
    sum(maps.sum() for maps in stream.train()(make_image(1, 3, 196, 196))).backward()
    trained = {
        name.split(".")[0] for name, value in stream.named_parameters() if value.grad is not None
    }
    assert trained == {"enlarge", "reduce"}
    assert not stream.trunk.training
