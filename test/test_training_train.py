"""From a YAML file and packs to a model folder that the robot loads."""

from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from pack_tools import write_pack
from run_tools import figures, run, run_and_kill, run_in_two_processes, write_experiment
from safetensors.torch import save_file
from tree import ROOT

from fer_ros.config import from_dict
from fer_ros.labels import FERPLUS_VOTES
from fer_ros.model.checkpoint import load_model
from fer_ros.model.mobilefacenet import MobileFaceNet
from training import train as training
from training.data import DataConfig, Faces, load_faces, load_splits
from training.networks import build
from training.settings import NetworkConfig, OptimizerConfig, TrainConfig, read_config
from training.state import read_state, write_state
from training.train import epoch_order, fit_temperature

SHIPPED = "two_stream_small"
# A network without batch statistics and chance: two processes have nothing that differs.
SMALL = {
    "network": {
        "architecture": "vit_base",
        "config": {"depth": 1, "embed_dim": 24, "num_heads": 2, "img_size": 224},
    },
    "augment": {"noise": 0.0},
    "optimizer": {"lr": 0.01},
    "epochs": 2,
    "batch": 8,
}


@pytest.fixture(scope="module")
def packs(tmp_path_factory) -> Path:
    """Happy faces are bright below, sad ones above."""
    folder = tmp_path_factory.mktemp("packs")
    for split, count in (("train", 24), ("valid", 8), ("test", 2)):
        votes = np.zeros((count, len(FERPLUS_VOTES)), np.int8)
        votes[::2, FERPLUS_VOTES.index("happiness")] = 10
        votes[1::2, FERPLUS_VOTES.index("sadness")] = 10
        canvas = np.full((count, 144, 144), 60, np.uint8)
        canvas[::2, 72:] = canvas[1::2, :72] = 200
        write_pack(folder / f"ferplus_{split}", canvas=canvas, votes=votes)
    write_pack(folder / "alone_train", identity=[""])
    return folder


@pytest.fixture(scope="module")
def landmarks(tmp_path_factory) -> Path:
    """A fresh landmark network as training.landmarks stores it."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("landmarks") / "landmarks.safetensors"
    save_file(MobileFaceNet().state_dict(), path)
    return path


def test_a_two_stream_run_leaves_a_model_that_has_learned(tmp_path, packs, landmarks, monkeypatch):
    out = tmp_path / "quick"
    network = {"architecture": "two_stream_small", "landmarks": str(landmarks)}
    experiment = {"network": network, "epochs": 3, "batch": 8}
    run(monkeypatch, training, write_experiment(tmp_path, experiment), packs, out)
    files = {path.name for path in out.iterdir()}
    assert {"run.yaml", "metrics.csv", "curves.png", "classes.png", "confusion.png"} <= files
    assert list((out / "tensorboard").glob("events.*"))
    settings = yaml.safe_load((out / "run.yaml").read_text())
    assert settings["network"]["landmarks"] == str(landmarks)
    assert settings["optimizer"]["lr"] == OptimizerConfig.lr
    assert {"revision", "versions", "data", "seed"} <= set(settings)
    faces, valid = load_splits(DataConfig(), packs)
    assert settings["data_sha256"] == {"train": faces.sha256(), "valid": valid.sha256()}

    loaded = load_model(out / "model" / "quick")
    assert loaded.spec.luma
    best = max(figures(out), key=lambda row: row["valid_accuracy"])
    assert loaded.temperature.item() == pytest.approx(best["temperature"])
    stored = loaded.core.landmarks.state_dict()
    given = build(NetworkConfig(landmarks=str(landmarks))).core.landmarks.state_dict()
    assert all(torch.allclose(stored[name], given[name], atol=1e-3) for name in given)
    canvas = load_faces(packs / "ferplus_test").canvases
    crops = canvas[:, 16:128, 16:128, None].expand(-1, -1, -1, 3)
    _, (happy, sad) = loaded.predict(crops)
    assert happy[1] / happy[2] > sad[1] / sad[2]


VARIANTS = {
    "plain": {},
    "sam": {"optimizer": {"lr": 0.01, "sam_rho": 0.05}},
    "accumulated": {"accumulate": 2},
    "mixed": {"augment": {"mixup": 0.2, "cutmix": 1.0}},
    "drawn": {"loss": {"targets": "draw", "label_smoothing": 0.1, "logit_adjustment": 0.5}},
    "balanced in bf16": {"balanced": True, "bf16": True},
}


@pytest.mark.parametrize("change", VARIANTS.values(), ids=VARIANTS)
def test_a_run_that_was_killed_goes_on_to_the_same_numbers(tmp_path, packs, monkeypatch, change):
    path = write_experiment(tmp_path, {**SMALL, **change})
    run(monkeypatch, training, path, packs, tmp_path / "whole")
    run_and_kill(monkeypatch, training, path, packs, tmp_path / "killed")
    assert len(figures(tmp_path / "killed")) == 1
    run(monkeypatch, training, path, packs, tmp_path / "killed")
    assert figures(tmp_path / "killed") == figures(tmp_path / "whole")


@pytest.mark.parametrize(
    "train",
    [
        [{"pack": "ferplus_train", "taught": 0.5}],
        ["ferplus_train", {"pack": "alone_train", "taught": 1.0}],  # for one of the two to ask
    ],
)
def test_two_processes_learn_what_one_does(tmp_path, packs, monkeypatch, train):
    path = write_experiment(tmp_path, {**SMALL, "data": {"train": train, "teachers": [SHIPPED]}})
    run(monkeypatch, training, path, packs, tmp_path / "one")
    run_in_two_processes("-m", "training.train", path, packs, tmp_path / "two")
    one, two = ([list(row.values()) for row in figures(tmp_path / name)] for name in ("one", "two"))
    np.testing.assert_allclose(two, one, rtol=1e-3, atol=1e-4)


def test_it_ends_when_nothing_gets_better(tmp_path, packs, monkeypatch):
    experiment = {**SMALL, "epochs": 50, "patience": 2, "optimizer": {"lr": 0.0}}
    run(monkeypatch, training, write_experiment(tmp_path, experiment), packs, tmp_path / "out")
    assert len(figures(tmp_path / "out")) == 3


NO_NUMBERS = {
    "loss": lambda _, logits, targets: logits.sum() * float("nan"),
    "gradient": lambda _, logits, targets: (logits * 0).sum().sqrt(),
}


@pytest.mark.parametrize("loss", NO_NUMBERS.values(), ids=NO_NUMBERS)
def test_what_is_no_number_leaves_the_last_good_epoch(tmp_path, packs, monkeypatch, loss):
    path = write_experiment(
        tmp_path, {**SMALL, "optimizer": {"lr": 1.0, "name": "sgd", "clip": 1e6}}
    )
    out = tmp_path / "out"
    monkeypatch.setattr(training.Loss, "__call__", loss)
    with pytest.raises(SystemExit, match="the loss is not a number"):
        run(monkeypatch, training, path, packs, out)
    assert not (out / "last.pt").exists()
    assert not (out / "model").exists()


def test_another_experiment_does_not_go_on_with_this_run(tmp_path, packs, monkeypatch):
    once = write_experiment(tmp_path, {**SMALL, "epochs": 1})
    run(monkeypatch, training, once, packs, tmp_path / "out")
    other = write_experiment(tmp_path, {**SMALL, "optimizer": {"lr": 0.02}})
    with pytest.raises(SystemExit, match=r"another experiment: optimizer\.lr was 0\.01, is 0\.02"):
        run(monkeypatch, training, other, packs, tmp_path / "out")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, ""),
        ({"epochs": 3}, ""),
        ({"balanced": True}, "balanced was False, is True"),
        ({"augment": {"noise": 0.0, "erase": 0.0}}, r"augment\.erase was 0\.25, is 0\.0"),
        ({"network": {"architecture": "vgg13"}}, r"network\.architecture was 'vit_base'"),
        ({"network": {"architecture": "vit_base"}}, r"network\.config was {'depth': 1, .*, is {}"),
    ],
)
def test_settings_that_are_younger_than_a_state_had_their_defaults(tmp_path, changes, words):
    """Here ``balanced`` and ``augment.erase``."""
    config = from_dict(TrainConfig, SMALL)
    write_state(tmp_path / "last.pt", config, {"epoch": 1}, {})
    values = torch.load(tmp_path / "last.pt", weights_only=True)
    del values["config"]["balanced"], values["config"]["augment"]["erase"]
    torch.save(values, tmp_path / "last.pt")
    now = from_dict(TrainConfig, {**SMALL, **changes})
    with pytest.raises(ValueError, match=words) if words else nullcontext():
        assert read_state(tmp_path / "last.pt", now, {}) == {"epoch": 1}


# what stands in last.pt in place of the values of the last epoch
BROKEN = {
    "does not fit": lambda values: {**values, "network": {}},
    "not of this command": lambda _: {"weight": torch.zeros(1)},
    "not of this": lambda _: torch.zeros(1),
    "damaged": lambda _: None,
}


@pytest.mark.parametrize("words", BROKEN)
def test_a_state_that_cannot_be_used_is_one_line(tmp_path, packs, monkeypatch, words):
    once = write_experiment(tmp_path, {**SMALL, "epochs": 1})
    run(monkeypatch, training, once, packs, tmp_path / "out")
    path = tmp_path / "out" / "last.pt"
    values = BROKEN[words](torch.load(path, weights_only=True))
    torch.save(values, path)
    if values is None:
        path.write_bytes(path.read_bytes()[:100])
    before = path.read_bytes()
    with pytest.raises(SystemExit, match=rf"last\.pt: .*{words}") as ended:
        run(monkeypatch, training, once, packs, tmp_path / "out")
    assert "\n" not in str(ended.value.code)
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "expected a mapping"),
        ("{}", "landmarks: expected a file"),
        ("a: [", r"experiment\.yaml: not a YAML file"),
        ("a: 2024-99-99", r"experiment\.yaml: not a YAML file"),
        ("epoch: 3", "did you mean 'epochs'"),
        ("epochs: many", "epochs: expected int"),
        ("network: {architecture: three_stream}", "unknown architecture"),
        ("network: {architecture: vgg13, landmarks: a}", "vgg13 has no landmark stream"),
        ("network: {architecture: vgg13, freeze_image: true}", "vgg13 has no image stream"),
        ("network: {architecture: vgg13, config: {depth: 3}}", "depth"),
        ("network: {architecture: vgg13, config: {1: 3}}", "expected names of arguments, got 1"),
        ("network: {architecture: mobilefacenet}", "gives no emotions"),
        ("network: {architecture: vgg13, image_weights: no.pth}", "no.pth: cannot be read"),
        ("network: {model: nobody}", "nobody"),
        (f"network: {{model: {SHIPPED}, landmarks: a}}", "landmarks: all weights are those of"),
        (f"network: {{model: {SHIPPED}, architecture: vgg13}}", f"has {SHIPPED}, got vgg13"),
        (f"network: {{model: {SHIPPED}, config: {{image: vits8}}}}", "network.config: model"),
        ("{batch: 8, network: {architecture: vgg13}, optimizer: {name: adamv}}", "adamv"),
        ("{network: {architecture: vgg13}}", "expected at least a batch of 32, found 24 pictures"),
    ],
)
def test_what_is_wrong_is_one_line(tmp_path, packs, monkeypatch, text, words):
    with pytest.raises(SystemExit, match=words) as ended:
        run(monkeypatch, training, write_experiment(tmp_path, text), packs, tmp_path / "out")
    assert "\n" not in str(ended.value.code)
    assert not (tmp_path / "out" / "model").exists()


def test_image_weights_of_the_command_line_win(tmp_path):
    path = write_experiment(tmp_path, {"network": {"image_weights": "a.pth"}})
    assert read_config(path).network.image_weights == "a.pth"
    assert read_config(path, "b.pth").network.image_weights == "b.pth"


def test_balanced_passes_draw_every_emotion_alike():
    labels = torch.tensor([0] * 900 + [3] * 100)
    faces = Faces(torch.zeros(1000, 1, 1), torch.zeros(1000, 8), labels)
    order = epoch_order(faces, True, torch.Generator().manual_seed(0))
    assert (labels[order] == 3).float().mean() == pytest.approx(0.5, abs=0.05)
    plain = epoch_order(faces, False, torch.Generator().manual_seed(0))
    assert sorted(plain.tolist()) == list(range(1000))


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_the_temperature_is_found(temperature):
    torch.manual_seed(0)
    logits = 3 * torch.randn(500, 8)
    found = fit_temperature(logits, (logits / temperature).softmax(dim=1))
    assert found == pytest.approx(temperature, rel=1e-3)


def test_the_shipped_experiments_can_be_read():
    folder = ROOT / "training" / "configs"
    paths = sorted(set(folder.glob("*.yaml")) - set(folder.glob("pretrain_*.yaml")))
    assert paths
    for path in paths:
        assert read_config(path).network.architecture
