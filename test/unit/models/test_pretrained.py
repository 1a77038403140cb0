"""Third-party weights: read without executing code, rejected in one line when they do not fit."""

import numpy as np
import pytest
import torch
from figures import filled, load_figures, make_image
from safetensors.torch import save_file

from fer_ros.inference.model_store import ModelError
from fer_ros.models import build_model
from fer_ros.models.backbones.pretrained import load_backbone, load_pretrained, read_state
from fer_ros.models.backbones.registry import BACKBONES
from fer_ros.models.mobilefacenet import MobileFaceNet


class Recorder:
    """What an author's training script keeps beside the weights."""

    loaded = False

    def __init__(self) -> None:
        self.accuracies = np.ones(3)

    def __setstate__(self, state) -> None:
        Recorder.loaded = True


@pytest.fixture(scope="module")
def published() -> MobileFaceNet:
    network = MobileFaceNet().eval()
    network.load_state_dict(network.state_dict() | filled(load_figures("mobilefacenet")))
    return network


def parallel(state):
    return {f"module.{name}": value for name, value in state.items()}


@torch.no_grad()
@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: state,
        parallel,
        lambda state: {"state_dict": state, "epoch": 3, "optimizer": {"state": {}}},
        lambda state: {"state_dict": parallel(state), "best_acc": torch.tensor(0.9)},
    ],
)
def test_published_checkpoints_give_the_same_points(published, tmp_path, wrap, legacy):
    path = tmp_path / "mobilefacenet_model_best.pth.tar"
    state = wrap(published.state_dict())
    torch.save(state, path, _use_new_zipfile_serialization=not legacy)
    network = MobileFaceNet().eval()
    load_pretrained(network, path)
    images = make_image(1, 3, 112, 112)
    assert torch.equal(network(images), published(images))


def test_pickled_code_is_not_executed(tmp_path):
    path = tmp_path / "best.pth"
    weight = torch.randn(3)
    torch.save({"state_dict": {"w": weight}, "recorder": Recorder()}, path)
    assert torch.equal(read_state(path)["w"], weight)
    assert not Recorder.loaded


def test_safetensors_are_read(tmp_path):
    path = tmp_path / "model.safetensors"
    save_file({"w": torch.arange(3.0)}, path)
    assert read_state(path)["w"].tolist() == [0, 1, 2]


@pytest.mark.parametrize("name", ["w.pth", "w.safetensors"])
@pytest.mark.parametrize("content", [b"", b"version https://git-lfs", b"PK\x03\x04", b"\x80\x02x"])
def test_other_files_are_rejected(tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(
        ModelError, match=f"{name}: expected weights .*download or export it again"
    ) as caught:
        read_state(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("share", [0.0001, 0.01, 0.5, 0.999])
def test_a_truncated_file_is_rejected(published, tmp_path, share, legacy):
    path = tmp_path / "w.pth"
    torch.save(published.state_dict(), path, _use_new_zipfile_serialization=not legacy)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(ModelError, match=r"w\.pth: expected weights .*download or export it again"):
        read_state(path)


@pytest.mark.parametrize("name", ["none.pth", "none.safetensors"])
def test_a_missing_file_is_reported(tmp_path, name):
    with pytest.raises(ModelError, match=f"{name}: cannot be read: No such file"):
        read_state(tmp_path / name)


@pytest.mark.parametrize("content", [[1, 2], {"w": "text"}, {"epoch": 3}, torch.zeros(3)])
def test_files_without_named_tensors_are_rejected(tmp_path, content):
    torch.save(content, tmp_path / "w.pth")
    with pytest.raises(ModelError, match=r"w\.pth: expected tensors by name, found \w+$"):
        read_state(tmp_path / "w.pth")


@pytest.fixture(scope="module")
def dinov2():
    return BACKBONES["dinov2_vits14"](), filled(load_figures("dinov2_vits14"))


def test_a_trunk_that_fits_is_loaded(dinov2, tmp_path):
    stream, state = dinov2
    save_file(state, tmp_path / "vit.safetensors")
    load_backbone(stream, tmp_path / "vit.safetensors")
    assert torch.equal(stream.trunk.norm.bias, state["norm.bias"])


# what is wrong with the file, what the message names
@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"norm.bias": None}, "norm.bias is missing"),
        ({"register_tokens": torch.zeros(1, 4, 384)}, "register_tokens is unknown"),
        (
            {"cls_token": torch.zeros(1, 1, 768)},
            r"cls_token: expected shape \(1, 1, 384\), found \(1, 1, 768\)",
        ),
        (
            {"pos_embed": torch.zeros(1, 12, 384)},
            r"pos_embed: expected shape \(1, 197, 384\), found \(1, 12, 384\)",
        ),
        (
            {"patch_embed.proj.weight": torch.zeros(384, 588)},
            "patch_embed.proj.weight: expected shape",
        ),
        ({"patch_embed.proj.bias": torch.zeros(768)}, "patch_embed.proj.bias: expected shape"),
    ],
)
def test_a_mismatched_trunk_is_rejected(dinov2, tmp_path, change, words):
    stream, state = dinov2
    spoilt = {name: value for name, value in (state | change).items() if value is not None}
    save_file(spoilt, tmp_path / "vit.safetensors")
    with pytest.raises(ModelError, match=f"not the weights of vit_small_patch14_dinov2: {words}"):
        load_backbone(stream, tmp_path / "vit.safetensors")


def test_a_convolutional_trunk_leaves_the_classifier_in_the_file(tmp_path):
    stream = BACKBONES["efficientnet_lite0"]()
    state = {name: value + 1 for name, value in stream.trunk.state_dict().items()}
    save_file(
        state | {"classifier.weight": torch.zeros(1000, 1280)}, tmp_path / "lite0.safetensors"
    )
    load_backbone(stream, tmp_path / "lite0.safetensors")
    assert all(torch.equal(value, state[name]) for name, value in stream.trunk.state_dict().items())


@pytest.mark.parametrize(
    ("name", "config", "head"),
    [
        ("vit_base", {"depth": 1}, "head"),
        ("swin_base", {"depths": (1, 1, 1, 1)}, "head.fc"),
        ("efficientnet_b0", {}, "classifier"),
    ],
)
def test_a_baseline_starts_from_a_published_trunk_with_a_fresh_head(tmp_path, name, config, head):
    there, here = build_model(name, classes=1000, **config), build_model(name, **config)
    save_file(there.trunk.state_dict(), tmp_path / "imagenet.safetensors")
    fresh = here.trunk.state_dict()[f"{head}.weight"].clone()
    load_backbone(here, tmp_path / "imagenet.safetensors")
    same = [
        name.startswith(head) or torch.equal(value, there.trunk.state_dict()[name])
        for name, value in here.trunk.state_dict().items()
    ]
    assert all(same)
    assert torch.equal(here.trunk.state_dict()[f"{head}.weight"], fresh)
