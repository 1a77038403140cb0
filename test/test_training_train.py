"""From a YAML file and packs to a model folder that the robot loads."""

import sys
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file

from fer_ros.labels import FERPLUS_VOTES
from fer_ros.model.checkpoint import load_model
from fer_ros.model.mobilefacenet import MobileFaceNet
from training.train import (
    TrainConfig,
    build,
    fit_temperature,
    main,
    parameter_groups,
    read_config,
)


@pytest.fixture
def landmarks(tmp_path) -> Path:
    """A fresh landmark network as training.landmarks stores it."""
    torch.manual_seed(0)
    path = tmp_path / "landmarks.safetensors"
    save_file(MobileFaceNet().state_dict(), path)
    return path


@pytest.fixture
def packs(tmp_path) -> Path:
    """Happy faces are bright below, sad ones above."""
    folder = tmp_path / "packs"
    folder.mkdir()
    for split, count in (("train", 24), ("valid", 8), ("test", 2)):
        votes = np.zeros((count, len(FERPLUS_VOTES)), np.int8)
        votes[::2, FERPLUS_VOTES.index("happiness")] = 10
        votes[1::2, FERPLUS_VOTES.index("sadness")] = 10
        canvas = np.full((count, 144, 144), 60, np.uint8)
        canvas[::2, 72:] = canvas[1::2, :72] = 200
        groups = np.full(count, -1)
        np.savez(folder / f"ferplus_{split}.npz", canvas=canvas, votes=votes, dup_group=groups)
    return folder


def write_config(folder: Path, text: str) -> Path:
    path = folder / "experiment.yaml"
    path.write_text(text)
    return path


def run(monkeypatch, *arguments: object) -> None:
    monkeypatch.setattr(sys, "argv", ["train", *map(str, arguments)])
    main()


def test_a_run_leaves_a_model_that_has_learned_something(tmp_path, packs, landmarks, monkeypatch):
    out = tmp_path / "model"
    text = f"{{landmarks: {landmarks}, epochs: 3, batch: 8, ema_decay: 0.0, lr: 3.0e-3}}"
    run(monkeypatch, write_config(tmp_path, text), packs, out)
    network = load_model(out)
    assert network.spec.luma
    assert network.temperature > 0
    stored = network.core.landmarks.state_dict()
    given = build(TrainConfig(landmarks=str(landmarks))).core.landmarks.state_dict()
    assert all(torch.allclose(stored[name], given[name], atol=1e-3) for name in given)
    canvas = torch.from_numpy(np.load(packs / "ferplus_test.npz")["canvas"])
    crops = canvas[:, 16:128, 16:128, None].expand(-1, -1, -1, 3)
    _, (happy, sad) = network.predict(crops)
    assert happy[1] / happy[2] > sad[1] / sad[2]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{}", "landmarks: expected a file"),
        ("epoch: 3", "did you mean 'epochs'"),
        ("epochs: many", "epochs: expected int"),
        ("{architecture: three_stream, landmarks: LANDMARKS}", "unknown architecture"),
        ("{architecture: vgg13, landmarks: LANDMARKS}", "architecture"),
        ("{landmarks: LANDMARKS}", "expected at least a batch of 32, found 24 pictures"),
        ("{image: vits9, landmarks: LANDMARKS}", "image"),
        ("{landmarks: LANDMARKS, image_weights: LANDMARKS}", "efficientnet_lite0"),
    ],
)
def test_what_is_wrong_is_one_line(tmp_path, packs, landmarks, monkeypatch, text, words):
    path = write_config(tmp_path, text.replace("LANDMARKS", str(landmarks)))
    with pytest.raises(SystemExit, match=words) as ended:
        run(monkeypatch, path, packs, tmp_path / "model")
    assert "\n" not in str(ended.value.code)
    assert not (tmp_path / "model").exists()


def test_image_weights_of_the_command_line_win(tmp_path):
    path = write_config(tmp_path, "image_weights: a.pth")
    assert read_config(path).image_weights == "a.pth"
    assert read_config(path, "b.pth").image_weights == "b.pth"


def test_published_weights_go_into_the_image_stream(tmp_path, landmarks):
    torch.manual_seed(1)
    published = timm.create_model("vit_small_patch8_224", img_size=112).state_dict()
    path = tmp_path / "vit.safetensors"
    save_file(published, path)
    config = TrainConfig(image="vits8", landmarks=str(landmarks), image_weights=str(path))
    trunk = build(config).core.image.trunk.state_dict()
    name = "blocks.3.mlp.fc1.weight"
    assert torch.equal(trunk[name], published[name])


@pytest.mark.parametrize("image", ["efficientnet_lite0", "vits8"])
@pytest.mark.parametrize("frozen", [False, True])
def test_every_trained_parameter_is_in_one_group(landmarks, monkeypatch, image, frozen):
    config = TrainConfig(
        image=image, landmarks=str(landmarks), freeze_image=frozen, layer_decay=0.5, lr=1.0
    )
    network = build(config)
    groups = parameter_groups(network, config)
    listed = [id(value) for group in groups for value in group["params"]]
    trained = [id(value) for value in network.parameters() if value.requires_grad]
    assert sorted(listed) == sorted(trained)
    rates = {id(value): group["lr"] for group in groups for value in group["params"]}
    trunk = [rates[id(value)] for value in network.core.image.trunk.parameters() if not frozen]
    assert trunk == sorted(trunk)
    assert not trunk or trunk[0] < trunk[-1] == config.trunk_lr_ratio
    assert rates[id(network.core.fusion.head.weight)] == 1.0


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_the_temperature_is_found(temperature):
    torch.manual_seed(0)
    logits = 3 * torch.randn(500, 8)
    found = fit_temperature(logits, (logits / temperature).softmax(dim=1))
    assert found == pytest.approx(temperature, rel=1e-3)


def test_the_shipped_experiments_can_be_read():
    paths = sorted(Path("training/configs").glob("*.yaml"))
    assert paths
    for path in paths:
        assert read_config(path).landmarks
