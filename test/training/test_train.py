"""From a YAML file and datasets to a model folder that the robot loads."""

from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from dataset_tools import write_dataset
from run_tools import (
    check_rejected,
    figures,
    run,
    run_and_kill,
    run_in_two_forks,
    run_with_torchrun,
    skip_plots,
    write_experiment,
)
from safetensors.torch import save_file
from tree import ROOT

from fer_ros.blendshapes import BLENDSHAPES
from fer_ros.config import from_dict
from fer_ros.emotions import EMOTIONS, FERPLUS_VOTES
from fer_ros.models.checkpoint import load_model
from fer_ros.models.mobilefacenet import MobileFaceNet
from training import train as training
from training.calibration import fit_temperature
from training.config import NetworkConfig, OptimizerConfig, TrainConfig, read_config
from training.datasets.splits import DataConfig, load_faces, load_splits
from training.engine.checkpoint import TrainingState, load_checkpoint, save_checkpoint
from training.experiment_graph import read_experiment
from training.models.factory import build
from training.train import mirror_blendshapes

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
    "batch_size": 8,
}


@pytest.fixture(scope="module")
def datasets(tmp_path_factory) -> Path:
    """Happy faces are bright below, sad ones above."""
    folder = tmp_path_factory.mktemp("datasets")
    for split, count in (("train", 24), ("valid", 8), ("test", 2)):
        votes = np.zeros((count, len(FERPLUS_VOTES)), np.int8)
        votes[::2, FERPLUS_VOTES.index("happiness")] = 10
        votes[1::2, FERPLUS_VOTES.index("sadness")] = 10
        padded_crop = np.full((count, 144, 144), 60, np.uint8)
        padded_crop[::2, 72:] = padded_crop[1::2, :72] = 200
        write_dataset(folder / f"ferplus_{split}", padded_crop=padded_crop, votes=votes)
    write_dataset(folder / "alone_train", identity=[""])
    return folder


@pytest.fixture(scope="module")
def landmarks(tmp_path_factory) -> Path:
    """A fresh landmark network as training.train_landmarks stores it."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("landmarks") / "landmarks.safetensors"
    save_file(MobileFaceNet().state_dict(), path)
    return path


def test_a_two_stream_run_writes_a_trained_model(tmp_path, datasets, landmarks):
    out = tmp_path / "quick"
    network = {
        "architecture": "two_stream_small",
        "config": {"image": "face_resnet_small"},
        "landmarks": str(landmarks),
    }
    experiment = {"network": network, "epochs": 2, "batch_size": 8}
    run(training, write_experiment(tmp_path, experiment), datasets, out)
    files = {path.name for path in out.iterdir()}
    assert {"run.yaml", "metrics.csv", "curves.png", "classes.png", "confusion.png"} <= files
    assert list((out / "tensorboard").glob("events.*"))
    settings = yaml.safe_load((out / "run.yaml").read_text())
    assert settings["network"]["landmarks"] == str(landmarks)
    assert settings["optimizer"]["lr"] == OptimizerConfig.lr
    assert {"revision", "versions", "data", "seed"} <= set(settings)
    faces, valid = load_splits(DataConfig(), datasets)
    assert settings["data_sha256"] == {"train": faces.sha256(), "valid": valid.sha256()}

    loaded = load_model(out / "model" / "quick")
    assert loaded.spec.grayscale
    best = max(figures(out), key=lambda row: row["valid_accuracy"])
    assert loaded.temperature.item() == pytest.approx(best["temperature"])
    stored = loaded.net.landmarks.state_dict()
    given = build(NetworkConfig(landmarks=str(landmarks))).net.landmarks.state_dict()
    assert all(torch.allclose(stored[name], given[name], atol=1e-3) for name in given)
    padded_crop = load_faces(datasets / "ferplus_test").padded_crops
    crops = padded_crop[:, 16:128, 16:128, None].expand(-1, -1, -1, 3)
    _, (happy, sad) = loaded.predict(crops)
    assert happy[1] / happy[2] > sad[1] / sad[2]


VARIANTS = {
    "plain": {},
    "sam": {"optimizer": {"lr": 0.01, "sam_rho": 0.05}},
    "accumulated": {"accumulation_steps": 2},
    "mixed": {"augment": {"mixup": 0.2, "cutmix": 1.0}},
    "drawn": {"loss": {"targets": "sampled", "label_smoothing": 0.1, "logit_adjustment": True}},
    "class-balanced in bf16": {"class_balanced_sampling": True, "bf16": True},
}


@pytest.mark.parametrize("change", VARIANTS.values(), ids=VARIANTS)
def test_a_killed_run_resumes_to_the_same_results(tmp_path, datasets, monkeypatch, change):
    if change:
        skip_plots(monkeypatch)
    path = write_experiment(tmp_path, {**SMALL, **change})
    run(training, path, datasets, tmp_path / "whole")
    run_and_kill(monkeypatch, training, path, datasets, tmp_path / "killed")
    assert len(figures(tmp_path / "killed")) == 1
    run(training, path, datasets, tmp_path / "killed")
    assert figures(tmp_path / "killed") == figures(tmp_path / "whole")


FACES_FOR_BOTH = [{"dataset": "ferplus_train", "teacher_weight": 0.5}]
A_FACE_FOR_ONE = ["ferplus_train", {"dataset": "alone_train", "teacher_weight": 1.0}]


@pytest.mark.parametrize(
    ("train", "run_both"),
    [(FACES_FOR_BOTH, run_with_torchrun), (A_FACE_FOR_ONE, run_in_two_forks)],
    ids=["torchrun", "forks"],
)
def test_two_processes_train_like_one(tmp_path, datasets, monkeypatch, train, run_both):
    skip_plots(monkeypatch)
    path = write_experiment(tmp_path, {**SMALL, "data": {"train": train, "teachers": [SHIPPED]}})
    run(training, path, datasets, tmp_path / "one")
    run_both(training, path, datasets, tmp_path / "two")
    one, two = ([list(row.values()) for row in figures(tmp_path / name)] for name in ("one", "two"))
    np.testing.assert_allclose(two, one, rtol=1e-3, atol=1e-4)


def test_training_stops_early_without_improvement(tmp_path, datasets, monkeypatch):
    skip_plots(monkeypatch)
    experiment = {**SMALL, "epochs": 50, "patience": 2, "optimizer": {"lr": 0.0}}
    run(training, write_experiment(tmp_path, experiment), datasets, tmp_path / "out")
    assert len(figures(tmp_path / "out")) == 3


NO_NUMBERS = {
    "loss": lambda _, logits, targets, offsets: logits.sum() * float("nan"),
    "gradient": lambda _, logits, targets, offsets: (logits * 0).sum().sqrt(),
}


@pytest.mark.parametrize("loss", NO_NUMBERS.values(), ids=NO_NUMBERS)
def test_a_nan_keeps_the_last_checkpoint(tmp_path, datasets, monkeypatch, loss):
    path = write_experiment(
        tmp_path, {**SMALL, "optimizer": {"lr": 1.0, "name": "sgd", "max_grad_norm": 1e6}}
    )
    out = tmp_path / "out"
    monkeypatch.setattr(training.LogitAdjustedCrossEntropy, "__call__", loss)
    with pytest.raises(SystemExit, match="the loss is not finite"):
        run(training, path, datasets, out)
    assert not (out / "last.pt").exists()
    assert not (out / "model").exists()


def test_another_experiment_does_not_resume_this_run(tmp_path, datasets, monkeypatch):
    skip_plots(monkeypatch)
    once = write_experiment(tmp_path, {**SMALL, "epochs": 1})
    run(training, once, datasets, tmp_path / "out")
    before = (tmp_path / "out" / "run.yaml").read_bytes()
    other = write_experiment(tmp_path, {**SMALL, "optimizer": {"lr": 0.02}})
    with pytest.raises(SystemExit, match=r"another experiment: optimizer\.lr was 0\.01, is 0\.02"):
        run(training, other, datasets, tmp_path / "out")
    assert (tmp_path / "out" / "run.yaml").read_bytes() == before


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, ""),
        ({"epochs": 3}, ""),
        ({"class_balanced_sampling": True}, "class_balanced_sampling was False, is True"),
        ({"augment": {"noise": 0.0, "erase": 0.0}}, r"augment\.erase was 0\.25, is 0\.0"),
        ({"network": {"architecture": "vgg13"}}, r"network\.architecture was 'vit_base'"),
        ({"network": {"architecture": "vit_base"}}, r"network\.config was {'depth': 1, .*, is {}"),
    ],
)
def test_settings_missing_in_a_checkpoint_had_their_defaults(tmp_path, changes, words):
    """Here ``class_balanced_sampling`` and ``augment.erase``."""
    config = from_dict(TrainConfig, SMALL)
    save_checkpoint(tmp_path / "last.pt", config, TrainingState(epoch=1), {})
    values = torch.load(tmp_path / "last.pt", weights_only=True)
    del values["config"]["class_balanced_sampling"], values["config"]["augment"]["erase"]
    torch.save(values, tmp_path / "last.pt")
    now = from_dict(TrainConfig, {**SMALL, **changes})
    with pytest.raises(ValueError, match=words) if words else nullcontext():
        assert load_checkpoint(tmp_path / "last.pt", now, {}) == TrainingState(epoch=1)


# what stands in last.pt in place of the values of the last epoch
BROKEN = {
    "does not fit": lambda values: {**values, "network": {}},
    "not a checkpoint of this command": lambda _: {"weight": torch.zeros(1)},
    "not a checkpoint of": lambda _: torch.zeros(1),
    "damaged": lambda _: None,
}


@pytest.mark.parametrize("words", BROKEN)
def test_an_unusable_checkpoint_is_reported_in_one_line(tmp_path, datasets, monkeypatch, words):
    skip_plots(monkeypatch)
    once = write_experiment(tmp_path, {**SMALL, "epochs": 1})
    run(training, once, datasets, tmp_path / "out")
    path = tmp_path / "out" / "last.pt"
    values = BROKEN[words](torch.load(path, weights_only=True))
    torch.save(values, path)
    if values is None:
        path.write_bytes(path.read_bytes()[:100])
    before = path.read_bytes()
    with pytest.raises(SystemExit, match=rf"last\.pt: .*{words}") as ended:
        run(training, once, datasets, tmp_path / "out")
    assert "\n" not in str(ended.value.code)
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected a mapping"),
        ("{}", "landmarks: expected a file"),
        ("a: [", r"experiment\.yaml: not a YAML file"),
        ("a: 2024-99-99", r"experiment\.yaml: not a YAML file"),
        ("epoch: 3", "did you mean 'epochs'"),
        ("epochs: many", "epochs: expected int"),
        ("network: {architecture: three_stream}", "unknown architecture"),
        ("network: {architecture: vgg13, landmarks: a}", "landmarks: vgg13 has no landmark stream"),
        ("network: {architecture: vgg13, freeze_image: true}", "freeze_image: vgg13 has no image"),
        ("network: {architecture: vgg13, config: {depth: 3}}", "depth"),
        ("network: {architecture: vgg13, config: {1: 3}}", "expected names of arguments, found 1"),
        ("network: {architecture: mobilefacenet}", "mobilefacenet has no emotion output; expected"),
        ("network: {architecture: vgg13, image_weights: no.pth}", "no.pth: cannot be read"),
        ("network: {model: no_such_model}", "no_such_model"),
        (f"network: {{model: {SHIPPED}, landmarks: a}}", "landmarks: all weights are those of"),
        (f"network: {{model: {SHIPPED}, architecture: vgg13}}", f"has {SHIPPED}, found vgg13"),
        (f"network: {{model: {SHIPPED}, config: {{image: vits8}}}}", "network.config: model"),
        ("{batch_size: 8, network: {architecture: vgg13}, optimizer: {name: adamv}}", "adamv"),
        ("{network: {architecture: vgg13}}", "at least a batch of 32 .*, found 24 and 8"),
    ],
)
def test_errors_are_reported_in_one_line(tmp_path, datasets, text, message):
    path, out = write_experiment(tmp_path, text), tmp_path / "out"
    check_rejected(message, training, path, datasets, out)
    assert not (tmp_path / "out" / "model").exists()


def test_overrides_replace_settings_of_the_file(tmp_path):
    path = write_experiment(tmp_path, {"network": {"image_weights": "a.pth"}, "epochs": 3})
    assert read_config(path, TrainConfig).network.image_weights == "a.pth"
    overrides = ["network.image_weights=b.pth", "optimizer.lr=1e-4", "bf16=true"]
    config = read_config(path, TrainConfig, overrides)
    assert config.network.image_weights == "b.pth"
    assert (config.optimizer.lr, config.bf16, config.epochs) == (1e-4, True, 3)


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("lr", "lr: expected KEY=VALUE"),
        ("epochs.lr=1", r"epochs\.lr=1: expected KEY=VALUE"),
        ("epoch=3", "unknown key 'epoch'; did you mean 'epochs'"),
        ("optimizer.lr=fast", "optimizer.lr: expected float, found 'fast'"),
        ("epochs=[", r"epochs=\[: not a YAML file"),
    ],
)
def test_an_invalid_override_is_reported_in_one_line(tmp_path, override, words):
    path = write_experiment(tmp_path, {"epochs": 3})
    with pytest.raises(ValueError, match=words):
        read_config(path, TrainConfig, [override])


@pytest.fixture(scope="module")
def labeled(datasets, tmp_path_factory) -> Path:
    """Beside FER+, faces with one label each and with blendshapes: smiles are bright below."""
    folder = tmp_path_factory.mktemp("labeled")
    for path in datasets.iterdir():
        (folder / path.name).symlink_to(path)
    for split, count in (("train", 24), ("valid", 8)):
        padded_crop = np.full((count, 144, 144), 60, np.uint8)
        padded_crop[::2, 72:] = padded_crop[1::2, :72] = 200
        padded_crop += np.arange(count, dtype=np.uint8)[:, None, None] + 1 + 40 * (split == "valid")
        label = np.array([EMOTIONS.index("happiness"), EMOTIONS.index("sadness")] * (count // 2))
        shapes = np.full((count, 52), 0.1, np.float32)
        shapes[::2, BLENDSHAPES.index("mouthSmileLeft")] = 0.9
        shapes[0] = np.nan
        write_dataset(
            folder / f"web_{split}",
            padded_crop=padded_crop,
            label=label.astype(np.int8),
            blendshapes=shapes,
        )
    return folder


def test_a_second_dataset_with_blendshapes(tmp_path, labeled, monkeypatch):
    skip_plots(monkeypatch)
    experiment = {
        "data": {
            "train": ["ferplus_train", {"dataset": "web_train", "sampling_weight": 2.0}],
            "balanced_valid": "web_valid",
        },
        "network": {
            "architecture": "image_classifier",
            "config": {"image": "mobilenet", "blendshapes": True},
            "frozen_blocks": 2,
        },
        "loss": {"logit_adjustment": True, "blendshape_weight": 1.0},
        "augment": {"mixup": 0.2},
        "epochs": 3,
        "epoch_samples": 40,
        "batch_size": 8,
    }
    out = tmp_path / "both"
    run(training, write_experiment(tmp_path, experiment), labeled, out)
    rows = figures(out)
    accuracy, recall = "balanced_valid_accuracy", "balanced_valid_balanced_accuracy"
    assert {"train_blendshape_loss", accuracy, recall} <= set(rows[0])
    assert rows[-1]["train_blendshape_loss"] < rows[0]["train_blendshape_loss"]
    best = max(
        rows,
        key=lambda row: 2 * row["valid_accuracy"] + row[accuracy] + row[recall],
    )
    loaded = load_model(out / "model" / "both")
    assert loaded.temperature.item() == pytest.approx(best["balanced_valid_temperature"])
    crops = load_faces(labeled / "web_valid").padded_crops[:, 16:128, 16:128, None]
    _, _, shapes = loaded.predict(crops.expand(-1, -1, -1, 3))
    assert shapes.shape == (8, 52)


def test_mirrored_faces_have_mirrored_blendshapes():
    shapes = torch.rand(2, 52)
    mirrored = mirror_blendshapes(shapes, torch.tensor([True, False]))
    left, right = (BLENDSHAPES.index(f"eyeBlink{side}") for side in ("Left", "Right"))
    assert mirrored[0, left] == shapes[0, right]
    assert mirrored[0, right] == shapes[0, left]
    assert torch.equal(mirrored[1], shapes[1])


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_the_temperature_is_fitted(temperature):
    torch.manual_seed(0)
    logits = 3 * torch.randn(500, 8)
    fitted = fit_temperature(logits, (logits / temperature).softmax(dim=1))
    assert fitted == pytest.approx(temperature, rel=1e-3)


@pytest.mark.parametrize("scale", [1.0, 1e4])
@pytest.mark.parametrize("num_wrong", [0, 4, 8])
def test_the_temperature_is_finite_for_extreme_logits(scale, num_wrong):
    logits = scale * torch.eye(8)
    labels = (torch.arange(8) + (torch.arange(8) < num_wrong)) % 8
    assert 0.01 <= fit_temperature(logits, labels) <= 100.01


def test_the_shipped_experiments_are_valid():
    folder = ROOT / "training" / "configs"
    paths = sorted(folder.rglob("*.yaml"))
    assert len(paths) > 20
    assert len({path.stem for path in paths}) == len(paths)
    for path in paths:
        assert read_experiment(path.stem).epochs
