"""From datasets with landmarks to weights that a two-stream network starts from."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import yaml
from conftest import frontal_points
from dataset_tools import write_dataset, write_points
from run_tools import (
    check_rejected,
    figures,
    run,
    run_and_kill,
    run_in_two_forks,
    skip_plots,
    write_experiment,
)
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from fer_ros.landmarks68 import NUM_LANDMARKS
from fer_ros.models.backbones.pretrained import load_pretrained
from fer_ros.models.mobilefacenet import ConvBlock, GlobalDepthwiseHead, MobileFaceNet
from training import prepare
from training import train_landmarks as training
from training.config import LandmarksConfig
from training.engine.checkpoint import TrainingState, save_checkpoint
from training.engine.distributed import DistributedContext
from training.losses import wing_loss
from training.metrics.landmarks import nme
from training.pretrained.mediapipe import MESH_TO_68
from training.train_landmarks import (
    LandmarkTask,
    init_output_bias,
    replace_prelu_by_relu,
)


def face(count: int = 1) -> torch.Tensor:
    torch.manual_seed(0)
    return torch.rand(count, 68, 2)


def test_zero_error_has_zero_loss():
    assert wing_loss(face(), face()) == 0
    assert nme(face(2), face(2)).tolist() == [0, 0]


# error in pixels of the crop, loss by Feng et al. with width 8 and curvature 2
@pytest.mark.parametrize(("error_px", "loss"), [(2, 5.545), (8, 12.876), (20, 24.876)])
def test_wing_is_steep_near_zero_and_linear_far_away(error_px, loss):
    assert wing_loss(face() + error_px / 112, face()).item() == pytest.approx(loss, abs=2e-3)


def test_nme_is_measured_in_distances_of_the_outer_eye_corners():
    target = face()
    target[0, 36], target[0, 45] = torch.tensor([0.3, 0.4]), torch.tensor([0.7, 0.4])
    assert nme(target + torch.tensor([0.04, 0.0]), target).item() == pytest.approx(0.1)


@torch.no_grad()
def test_initial_predictions_are_near_the_mean_face():
    network, mean = MobileFaceNet(), face()[0]
    init_output_bias(network, mean)
    predictions = network.train()(torch.randn(8, 3, 112, 112))
    torch.testing.assert_close(predictions.mean(dim=0), mean, rtol=0, atol=1e-3)
    assert 0 < predictions.std(dim=0).mean() < 0.2


def test_every_landmark_has_a_vertex_of_its_own():
    assert len(MESH_TO_68) == len(set(MESH_TO_68)) == 68
    assert 0 <= min(MESH_TO_68) <= max(MESH_TO_68) < 468


def test_from_the_files_of_300w_to_weights(tmp_path, astronaut, capsys):
    """What was annotated is learned: with one face there is only its mean to know."""
    for place, name in enumerate(("afw/1", "afw/2", "ibug/3")):
        write_points(tmp_path / f"{name}.pts", frontal_points() + np.array([171, 58.5]))
        cv2.imwrite(str(tmp_path / f"{name}.png"), astronaut[..., ::-1] // (place + 1))
    datasets = {split: tmp_path / f"300w_{split}" for split in ("train", "test")}
    for split, dataset in datasets.items():
        run(prepare, tmp_path, dataset, "--split", split)
    out = tmp_path / "new"
    experiment = {"train": ["300w_train"], "valid": ["300w_test"], "batch_size": 2, "epochs": 2}
    run(training, write_experiment(tmp_path, experiment), tmp_path, out)
    last_line = capsys.readouterr().out.splitlines()[-1]
    assert last_line.startswith("epoch 2: ")
    error = float(last_line.split("valid_nme_mean ")[1].split(",")[0])
    assert 0 < error < 0.1
    load_pretrained(MobileFaceNet(), out / "landmarks.safetensors")
    ran = yaml.safe_load((out / "run.yaml").read_text())
    assert (ran["train"], ran["valid"]) == (["300w_train"], ["300w_test"])
    assert (ran["batch_size"], ran["epochs"], ran["seed"]) == (2, 2, 0)
    assert {"revision", "versions"} <= ran.keys()
    assert len(set(ran["data_sha256"].values())) == 2
    assert [row["epoch"] for row in figures(out)] == [1, 2]


@pytest.fixture
def datasets(tmp_path) -> Path:
    """Four faces to learn from, of which one has no landmarks, two others, and nine."""
    rng = np.random.default_rng(0)
    for split, count in (("train", 4), ("valid", 2), ("many", 9)):
        points = rng.uniform(0, 1, (count, 68, 2)).astype(np.float32)
        points[3:4] = np.nan
        padded_crop = rng.integers(0, 255, (count, 144, 144)).astype(np.uint8)
        write_dataset(tmp_path / f"set_{split}", padded_crop=padded_crop, landmarks68=points)
    write_dataset(tmp_path / "bare", padded_crop=padded_crop[:2])
    write_dataset(tmp_path / "blind", landmarks68=np.full((2, 68, 2), np.nan, np.float32))
    return tmp_path


@pytest.mark.parametrize(
    ("train", "valid", "message"),
    [
        ("nothing", "set_valid", "nothing/dataset.yaml: no such file"),
        ("bare", "set_valid", "has no landmarks68; training.label_landmarks adds them"),
        ("blind", "set_valid", "blind: expected faces with landmarks, found none"),
        ("set_train", "blind", "blind: expected faces with landmarks, found none"),
        ("set_train", "set_train", "set_train and set_train share 4 images, such as set_train_0"),
        ("set_train", "set_valid", "expected at least a batch of 64 samples, found 3"),
    ],
)
def test_errors_are_reported_in_one_line(datasets, train, valid, message):
    out = datasets / "out"
    path = write_experiment(datasets, {"train": [train], "valid": [valid]})
    message = f"^train_landmarks: .*{message}"
    check_rejected(message, training, path, datasets, out)
    assert not out.exists()


def test_a_nan_loss_keeps_the_last_checkpoint(datasets, monkeypatch):
    skip_plots(monkeypatch)
    losses = iter([0.0, 0.0, float("nan"), 0.0])
    monkeypatch.setattr(
        training, "wing_loss", lambda predicted, _: (predicted * next(losses)).sum()
    )
    with pytest.raises(SystemExit, match="the loss is not finite"):
        run(training, *words(datasets, "out"))
    load_pretrained(MobileFaceNet(), datasets / "out" / "landmarks.safetensors")


def words(datasets: Path, name: str, **changes: object) -> list[object]:
    """The command line of an experiment."""
    experiment = {"train": ["set_many"], "valid": ["set_valid"], "batch_size": 4, "epochs": 2}
    return [write_experiment(datasets, {**experiment, **changes}), datasets, datasets / name]


class SmallNetwork(MobileFaceNet):
    """One convolution and the last layers of MobileFaceNet: fast in bfloat16 on a CPU, too."""

    def __init__(self) -> None:
        nn.Module.__init__(self)
        self.conv1 = ConvBlock(3, 16, kernel=7, stride=16)  # 7x7
        self.output_layer = GlobalDepthwiseHead(16, 2 * NUM_LANDMARKS)

    def features(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return (self.conv1(x),) * 3


class WithoutStatistics(SmallNetwork):
    """A network whose output for a face does not depend on the others in the batch."""

    def train(self, mode: bool = True) -> "WithoutStatistics":
        super().train(mode)
        for module in self.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.eval()
        return self


VARIANTS = [{}, {"accumulation_steps": 2, "ema_decay": 0.9}, {"bf16": True}]


@pytest.mark.parametrize("change", VARIANTS, ids=str)
def test_a_killed_run_resumes_to_the_same_results(datasets, monkeypatch, capsys, change):
    monkeypatch.setattr(training, "MobileFaceNet", SmallNetwork)
    if change:
        skip_plots(monkeypatch)
    change = {**change, "epochs": 3}
    run(training, *words(datasets, "whole", **change))
    run_and_kill(monkeypatch, training, *words(datasets, "killed", **change))
    assert len(figures(datasets / "killed")) == 1
    run(training, *words(datasets, "killed", **change))
    assert figures(datasets / "killed") == figures(datasets / "whole")
    uninterrupted, killed = (
        load_file(datasets / name / "landmarks.safetensors") for name in ("whole", "killed")
    )
    assert [name for name in uninterrupted if not uninterrupted[name].equal(killed[name])] == []
    capsys.readouterr()
    run(training, *words(datasets, "whole", **change))
    assert "epoch" not in capsys.readouterr().out


def test_two_processes_train_like_one(datasets, monkeypatch):
    """Without batch statistics, noise and erased rectangles, which differ between processes."""
    skip_plots(monkeypatch)
    still = {"noise": 0.0}
    fast = {"lr": 0.05}  # gradients that are not averaged then show in the loss
    command = words(datasets, "one", augment=still, accumulation_steps=2, optimizer=fast)
    monkeypatch.setattr(training, "MobileFaceNet", WithoutStatistics)
    run(training, *command)
    run_in_two_forks(training, *command[:2], datasets / "two")
    one, two = ([row["train_loss"] for row in figures(datasets / name)] for name in ("one", "two"))
    np.testing.assert_allclose(two, one, rtol=1e-3)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("optimizer.lr=0.1", "optimizer.lr was 0.002, is 0.1; give another folder"),
        ("train=[1]", "train: expected names of datasets, found 1"),
        ("train=[]", "train, valid: expected names of datasets, found none; set them in"),
        ("weights={}/no.safetensors", "no.safetensors: "),
        ("weights={}/other.safetensors", "other.safetensors: "),
    ],
)
def test_unusable_initial_weights_are_reported_in_one_line(datasets, override, message):
    save_file({"weight": torch.zeros(1)}, datasets / "other.safetensors")
    config = LandmarksConfig(train=["set_many"], valid=["set_valid"], epochs=2, batch_size=4)
    (datasets / "new").mkdir()
    parts = {"network": torch.nn.Identity(), "optimizer": torch.nn.Identity()}
    save_checkpoint(datasets / "new" / "last.pt", config, TrainingState(), parts)
    with pytest.raises(SystemExit, match=f"^train_landmarks: .*{message}") as ended:
        run(training, *words(datasets, "new"), override.format(datasets))
    assert "\n" not in str(ended.value.code)


def slopes(network: MobileFaceNet) -> list[torch.Tensor]:
    return [module.weight for module in network.modules() if isinstance(module, torch.nn.PReLU)]


def test_activations_are_relus_and_stay_so(datasets, monkeypatch):
    network = MobileFaceNet()
    assert slopes(network)
    assert all(slope.any() for slope in slopes(network))
    skip_plots(monkeypatch)
    run(training, *words(datasets, "relu"))
    load_pretrained(network, datasets / "relu" / "landmarks.safetensors")
    assert not any(slope.any() for slope in slopes(network))


def test_training_starts_from_the_weights_of_another_run(tmp_path):
    torch.manual_seed(1)
    earlier = MobileFaceNet()
    save_file(earlier.state_dict(), tmp_path / "earlier.safetensors")
    config = LandmarksConfig(weights=str(tmp_path / "earlier.safetensors"), batch_size=2)
    faces = torch.zeros(2, 144, 144, dtype=torch.uint8), torch.zeros(2, 68, 2)
    task = LandmarkTask(config, faces, faces, DistributedContext(0, 1, torch.device("cpu")))
    replace_prelu_by_relu(earlier)
    expected, actual = earlier.state_dict(), task.network[1].state_dict()
    assert [name for name in expected if not expected[name].equal(actual[name])] == []
