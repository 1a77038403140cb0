"""Every network of MODELS fulfills the same contract."""

import onnxruntime
import pytest
import torch
from pretrain_tools import TINY_14
from timm.models.vision_transformer import Block
from torch import nn

from fer_ros.emotions import EMOTIONS
from fer_ros.inference.model_store import InputSpec
from fer_ros.models import MODELS, build_model
from fer_ros.models.backbones.registry import BACKBONES, SCALES, Backbone
from fer_ros.models.checkpoint import load_model, save_model
from fer_ros.models.two_stream import ClassAttentionBlock
from fer_ros.models.wrapper import FaceInput, FaceNetwork, FaceOutput

TWO_STREAMS = [name for name in MODELS if name.startswith("two_stream")]

# The large ones are tested with fewer and narrower layers of the same kinds.
SMALL = {
    "vit_base": {"depth": 2, "embed_dim": 48, "num_heads": 3},
    "vit_large": {"depth": 2, "embed_dim": 64, "num_heads": 4},
    "swin_base": {"depths": (2, 1, 1, 1), "embed_dim": 32, "num_heads": (1, 2, 4, 8)},
}
VARIANTS = {
    **{name: (name, SMALL.get(name, {})) for name in MODELS},
    "two_stream_dinov2": ("two_stream", {"image": "tiny_dinov2"}),
}


@pytest.fixture(scope="module", autouse=True)
def small_networks():
    """The parts of large networks whose size no argument sets."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(BACKBONES, "tiny_dinov2", TINY_14)
        patch.setattr("fer_ros.models.poster_v2.FUSION_DIM", 64)
        patch.setattr("fer_ros.models.backbones.ir50.STAGES", ((64, 2), (128, 2), (256, 2)))
        yield


@pytest.fixture(params=VARIANTS.values(), ids=VARIANTS, scope="module")
def variant(request) -> tuple[str, dict]:
    return request.param


@pytest.fixture(scope="module")
def network(variant) -> nn.Module:
    torch.manual_seed(0)
    name, config = variant
    return build_model(name, **config)


def side(network: nn.Module) -> int:
    return getattr(network, "side_px", 112)


def images(network: nn.Module, count: int) -> torch.Tensor:
    return torch.randn(count, 3, side(network), side(network))


def tensors(output) -> list[torch.Tensor]:
    parts = output if isinstance(output, FaceOutput) else [output]
    return [part for part in parts if part is not None]


def assert_agree(actual: torch.Tensor, expected: torch.Tensor, share: float) -> None:
    """Up to a share of the largest value: fresh networks may return very small numbers."""
    largest = expected.abs().max()
    torch.testing.assert_close(actual / largest, expected / largest, rtol=0, atol=share)


@torch.no_grad()
def test_output_shapes_and_finite(network):
    output = network.eval()(images(network, 2))
    assert all(torch.isfinite(part).all() for part in tensors(output))
    if isinstance(output, FaceOutput):
        assert output.logits.shape == (2, len(EMOTIONS))
    else:
        assert output.shape == (2, 68, 2)


@torch.no_grad()
def test_batch_equals_singles_and_eval_is_deterministic(network):
    batch = images(network, 2)
    network.eval()
    together = tensors(network(batch))
    again = tensors(network(batch))
    one_by_one = zip(*(tensors(network(image[None])) for image in batch), strict=True)
    for part, same, singles in zip(together, again, one_by_one, strict=True):
        assert torch.equal(part, same)
        assert_agree(torch.cat(singles), part, 1e-4)


def test_every_trainable_parameter_gets_a_gradient(network):
    torch.manual_seed(0)
    network.train()
    outputs = tensors(network(images(network, 3)))
    network.zero_grad()
    torch.stack([(part * torch.randn_like(part)).sum() for part in outputs]).sum().backward()
    without = [
        name
        for name, value in network.named_parameters()
        if value.requires_grad and (value.grad is None or not value.grad.any())
    ]
    assert without == []


@torch.no_grad()
def test_a_saved_network_gives_the_same_outputs(variant, network, tmp_path):
    name, config = variant
    for value in network.parameters():
        value.copy_(value.half())  # as model folders keep them
    save_model(FaceNetwork(network, InputSpec()), tmp_path, name, **config)
    loaded = load_model(tmp_path).net
    image_rgb = images(network, 1)
    for part, same in zip(
        tensors(network.eval()(image_rgb)), tensors(loaded(image_rgb)), strict=True
    ):
        assert torch.equal(part, same)


# dynamo=False is the exporter that needs no further packages
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::torch.jit.TracerWarning")
@torch.no_grad()
def test_onnx_gives_the_same_outputs(network, tmp_path):
    path = str(tmp_path / "network.onnx")
    torch.onnx.export(
        network.eval(),
        (images(network, 2),),
        path,
        input_names=["images"],
        dynamic_axes={"images": {0: "batch"}},
        dynamo=False,
    )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    for count in (1, 3):
        batch = images(network, count)
        outputs = map(torch.tensor, session.run(None, {"images": batch.numpy()}))
        for part, same in zip(tensors(network(batch)), outputs, strict=True):
            assert_agree(same, part, 1e-3)


@pytest.mark.parametrize("name", TWO_STREAMS)
def test_landmark_stream_is_frozen(name):
    network = build_model(name).train()
    before = {key: value.clone() for key, value in network.landmarks.state_dict().items()}
    network(images(network, 2))
    assert not any(value.requires_grad for value in network.landmarks.parameters())
    after = network.landmarks.state_dict()
    assert all(torch.equal(value, after[key]) for key, value in before.items())


@torch.no_grad()
@pytest.mark.parametrize(("queries", "depends"), [(False, False), (True, True)])
def test_logits_depend_on_the_landmark_stream_only_with_queries(queries, depends):
    torch.manual_seed(0)
    network = build_model("two_stream_small", landmark_queries=queries).eval()
    image_rgb = images(network, 1)
    before = network(image_rgb)
    for value in network.landmarks.parameters():
        value += 0.1 * torch.randn_like(value)
    after = network(image_rgb)
    assert torch.equal(before.logits, after.logits) != depends
    assert not torch.equal(before.points, after.points)


@torch.no_grad()
def test_the_last_block_gives_the_class_token_of_a_whole_block():
    torch.manual_seed(0)
    full_block = Block(64, 4, qkv_bias=True, init_values=0.5).eval()
    block = ClassAttentionBlock(64, 4, qkv_bias=True, init_values=0.5).eval()
    block.load_state_dict(full_block.state_dict())
    tokens = torch.randn(2, 9, 64)
    torch.testing.assert_close(block(tokens), full_block(tokens)[:, :1])


@pytest.mark.parametrize(
    ("name", "most_millions"),
    [("two_stream", 15), ("two_stream_small", 8), ("mobilefacenet", 1.1)],
)
def test_the_parameter_count_is_as_expected(name, most_millions):
    assert millions(name) <= most_millions


@pytest.mark.parametrize(
    ("name", "published"),
    [
        ("vit_base", 86),
        ("vit_large", 304),
        ("swin_base", 87),
        ("efficientnet_b0", 4.0),
        ("vgg13", 8.7),
    ],
)
def test_size_of_a_baseline(name, published):
    assert millions(name) == pytest.approx(published, rel=0.02)


def millions(name: str) -> float:
    with torch.device("meta"):
        return sum(value.numel() for value in build_model(name).parameters()) / 1e6


# On the meta device tensors have shapes but no values, so that the largest network costs nothing.


@pytest.fixture(params=BACKBONES)
def stream(request) -> Backbone:
    with torch.device("meta"):
        return BACKBONES[request.param]()


@pytest.mark.parametrize("frozen", [False, True])
def test_image_streams_give_three_maps_frozen_or_trained(stream, frozen):
    if frozen:
        stream.freeze()
    maps = stream.train()(torch.empty(2, 3, stream.side_px, stream.side_px, device="meta"))
    expected = [(2, channels, s, s) for channels, s in zip(stream.channels, SCALES, strict=True)]
    assert [tuple(feature_map.shape) for feature_map in maps] == expected
    if any(value.requires_grad for value in stream.parameters()):
        torch.stack([feature_map.sum() for feature_map in maps]).sum().backward()
    trained = {name for name, value in stream.named_parameters() if value.grad is not None}
    expected_value = {
        name for name, _ in stream.named_parameters() if not (frozen and name.startswith("trunk."))
    }
    assert trained == expected_value
    assert stream.trunk.training != frozen


def test_layer_groups_hold_the_trunk_once_from_the_input_on(stream):
    groups = stream.layer_groups()
    assert all(groups)
    grouped = [id(value) for group in groups for value in group]
    assert grouped == [id(value) for value in stream.trunk.parameters()]
    stem = next(name for name, _ in stream.trunk.named_modules() if name.endswith(("proj", "stem")))
    first = {id(value) for value in groups[0]}
    assert {id(value) for value in stream.trunk.get_submodule(stem).parameters()} <= first
    stream.freeze()
    assert stream.layer_groups() == []


@pytest.mark.parametrize("image", BACKBONES)
def test_every_backbone_fits_into_the_network(image):
    with torch.device("meta"):
        network = build_model("two_stream", image=image).train()
        batch = torch.empty(2, 3, network.side_px, network.side_px)
        output = network(batch)
        maps = network.attention_maps(batch)
    assert tuple(output.logits.shape) == (2, len(EMOTIONS))
    assert tuple(output.points.shape) == (2, 68, 2)
    assert output.blendshapes is None
    assert [tuple(feature_map.shape) for feature_map in maps] == [
        (2, side, side) for side in SCALES
    ]


@pytest.mark.parametrize("name", [name for name in MODELS if name != "mobilefacenet"])
def test_other_numbers_of_classes(name):
    with torch.device("meta"):
        network = build_model(name, classes=7).eval()
        output = network(torch.empty(2, 3, network.side_px, network.side_px))
    assert tuple(output.logits.shape) == (2, 7)


@torch.no_grad()
@pytest.mark.parametrize("name", TWO_STREAMS)
def test_attention_maps_are_those_of_the_crops(name):
    torch.manual_seed(0)
    network = FaceNetwork(build_model(name), InputSpec(grayscale=False)).eval()
    crops = torch.randint(0, 256, (2, 112, 112, 3), dtype=torch.uint8)
    maps = network.attention(crops)
    assert [tuple(feature_map.shape) for feature_map in maps] == [
        (2, side, side) for side in SCALES
    ]
    normalized = crops.permute(0, 3, 1, 2) / 127.5 - 1
    for actual, expected in zip(maps, network.net.attention_maps(normalized), strict=True):
        torch.testing.assert_close(actual, expected)
        torch.testing.assert_close(actual.mean(dim=(1, 2)), torch.ones(2))


def test_other_networks_have_no_attention_maps():
    network = FaceNetwork(build_model("vgg13"), InputSpec(size_px=64))
    assert network.attention(torch.zeros(1, 112, 112, 3, dtype=torch.uint8)) is None


@pytest.mark.parametrize(
    ("name", "config", "words"),
    [
        ("", {}, "unknown architecture ''"),
        ("three_stream", {}, "two_stream_small"),
        ("two_stream", {"widths": 3}, "widths"),
    ],
)
def test_unknown_names_are_reported(name, config, words):
    with pytest.raises(ValueError, match=words):
        build_model(name, **config)


# gray or color, side, what the network must see
@pytest.mark.parametrize(
    ("spec", "crops", "expected"),
    [
        (InputSpec(), torch.ones(1, 1, 112, 112), torch.ones(1, 3, 112, 112)),
        (InputSpec(), torch.zeros(1, 3, 112, 112), -torch.ones(1, 3, 112, 112)),
        (InputSpec(size_px=56), torch.ones(2, 3, 112, 112), torch.ones(2, 3, 56, 56)),
        (
            InputSpec(grayscale=False, mean=(0, 0.5, 1), std=(1, 1, 2)),
            torch.ones(1, 3, 112, 112),
            torch.tensor([1.0, 0.5, 0.0]).view(1, 3, 1, 1).expand(1, 3, 112, 112),
        ),
    ],
)
def test_face_input(spec, crops, expected):
    torch.testing.assert_close(FaceInput(spec)(crops), expected)


@pytest.mark.parametrize("side", [48, 61, 64, 126, 224])
@pytest.mark.parametrize("crop_side", [112, 96])
def test_face_input_resizes_bilinearly(side, crop_side):
    """The product of 112 and 61/112 is less than 61."""
    crops = torch.rand(2, 3, crop_side, crop_side, generator=torch.Generator().manual_seed(0))
    spec = InputSpec(size_px=side, grayscale=False, mean=(0, 0, 0), std=(1, 1, 1))
    expected = nn.functional.interpolate(crops, size=(side, side), mode="bilinear")
    torch.testing.assert_close(FaceInput(spec)(crops), expected, rtol=0, atol=0)


class Answers(nn.Module):
    """A network core with constant outputs."""

    def __init__(self, points: torch.Tensor | None) -> None:
        super().__init__()
        self.points = points

    def forward(self, x: torch.Tensor) -> FaceOutput:
        return FaceOutput(torch.arange(8.0).expand(len(x), 8), self.points)


@pytest.mark.parametrize("points", [None, torch.full((2, 68, 2), 0.5)])
def test_predict_divides_by_the_temperature_and_returns_crop_pixels(points):
    network = FaceNetwork(Answers(points), InputSpec(), temperature=2.0)
    seen, probabilities = network.predict(torch.zeros(2, 112, 112, 3, dtype=torch.uint8))
    torch.testing.assert_close(probabilities[1], (torch.arange(8.0) / 2).softmax(dim=0))
    assert seen.shape == (2, 68, 2)
    assert torch.isnan(seen).all() if points is None else (seen == 55.5).all()
