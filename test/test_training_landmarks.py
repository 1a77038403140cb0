"""From packs with landmarks to weights that a two-stream network starts from."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import yaml
from conftest import frontal_points
from pack_tools import write_pack, write_points
from run_tools import figures, run, run_and_kill
from safetensors.torch import load_file, save_file

from fer_ros.model.mobilefacenet import MobileFaceNet
from fer_ros.model.published import load_published
from training import landmarks as training
from training import prepare
from training.landmarks import LandmarksConfig, Run, load, nme, rectify, start_at, wing
from training.mesh68 import MESH_TO_68


def face(count: int = 1) -> torch.Tensor:
    torch.manual_seed(0)
    return torch.rand(count, 68, 2)


def test_no_error_is_no_loss():
    assert wing(face(), face()) == 0
    assert nme(face(2), face(2)).tolist() == [0, 0]


# error in pixels of the crop, loss by Feng et al. with width 8 and curvature 2
@pytest.mark.parametrize(("error_px", "loss"), [(2, 5.545), (8, 12.876), (20, 24.876)])
def test_wing_is_steep_near_zero_and_linear_far_away(error_px, loss):
    assert wing(face() + error_px / 112, face()).item() == pytest.approx(loss, abs=2e-3)


def test_nme_is_measured_in_distances_of_the_outer_eye_corners():
    target = face()
    target[0, 36], target[0, 45] = torch.tensor([0.3, 0.4]), torch.tensor([0.7, 0.4])
    assert nme(target + torch.tensor([0.04, 0.0]), target).item() == pytest.approx(0.1)


@torch.no_grad()
def test_the_first_answers_lie_around_the_mean_face():
    network, mean = MobileFaceNet(), face()[0]
    start_at(network, mean)
    answers = network.train()(torch.randn(8, 3, 112, 112))
    torch.testing.assert_close(answers.mean(dim=0), mean, rtol=0, atol=1e-3)
    assert 0 < answers.std(dim=0).mean() < 0.2


def test_every_landmark_has_a_vertex_of_its_own():
    assert len(MESH_TO_68) == len(set(MESH_TO_68)) == 68
    assert 0 <= min(MESH_TO_68) <= max(MESH_TO_68) < 468


def test_from_the_files_of_300w_to_weights(tmp_path, astronaut, monkeypatch, capsys):
    """What was annotated is learned: with one face there is only its mean to know."""
    for place, name in enumerate(("afw/1", "afw/2", "ibug/3")):
        write_points(tmp_path / f"{name}.pts", frontal_points() + np.array([171, 58.5]))
        cv2.imwrite(str(tmp_path / f"{name}.png"), astronaut[..., ::-1] // (place + 1))
    packs = {split: tmp_path / f"300w_{split}" for split in ("train", "test")}
    for split, pack in packs.items():
        run(monkeypatch, prepare, tmp_path, pack, "--split", split)
    out = tmp_path / "new" / "landmarks.safetensors"
    words = ["--train", packs["train"], "--valid", packs["test"], "--out", out]
    run(monkeypatch, training, *words, "--batch", 2, "--epochs", 2)
    said = capsys.readouterr().out.splitlines()[-1]
    assert said.startswith("epoch 2: ")
    error = float(said.split("valid NME mean ")[1].split(",")[0])
    assert 0 < error < 0.1
    load_published(MobileFaceNet(), out)
    assert {path.name for path in out.parent.iterdir()} == {"landmarks", "landmarks.safetensors"}
    ran = yaml.safe_load((out.parent / "landmarks" / "run.yaml").read_text())
    assert (ran["train"], ran["valid"]) == (["300w_train"], ["300w_test"])
    assert (ran["batch"], ran["epochs"], ran["seed"]) == (2, 2, 0)
    assert {"revision", "versions"} <= ran.keys()
    assert len(set(ran["data_sha256"].values())) == 2
    assert [row["epoch"] for row in figures(out.parent / "landmarks")] == [1, 2]


@pytest.fixture
def packs(tmp_path) -> Path:
    """Four faces to learn from, of which one has no landmarks, and two others."""
    rng = np.random.default_rng(0)
    for split, count in (("train", 4), ("valid", 2)):
        points = rng.uniform(0, 1, (count, 68, 2)).astype(np.float32)
        points[3:] = np.nan
        canvas = rng.integers(0, 255, (count, 144, 144)).astype(np.uint8)
        write_pack(tmp_path / f"set_{split}", canvas=canvas, points68=points)
    write_pack(tmp_path / "bare", canvas=canvas)
    write_pack(tmp_path / "blind", points68=np.full((2, 68, 2), np.nan, np.float32))
    return tmp_path


def test_faces_without_landmarks_are_left_out(packs):
    canvases, points = load([packs / "set_train", packs / "set_valid"])
    assert (len(canvases), points.shape) == (5, (5, 68, 2))
    assert points.isfinite().all()


@pytest.mark.parametrize(
    ("train", "valid", "words"),
    [
        ("nothing", "set_valid", "nothing/pack.yaml: no such file"),
        ("bare", "set_valid", "has no points68; training.teacher adds them"),
        ("blind", "set_valid", "blind: expected faces with landmarks, found none"),
        ("set_train", "blind", "blind: expected faces with landmarks, found none"),
        ("set_train", "set_train", "set_train and set_train share 4 pictures, such as set_train_0"),
        ("set_train", "set_valid", "expected at least a batch of 64, found 3 faces"),
    ],
)
def test_what_is_wrong_is_one_line(packs, monkeypatch, train, valid, words):
    out = packs / "landmarks.safetensors"
    given = ["--train", packs / train, "--valid", packs / valid, "--out", out]
    with pytest.raises(SystemExit, match=f"^landmarks: .*{words}") as ended:
        run(monkeypatch, training, *given)
    assert "\n" not in str(ended.value.code)
    assert not out.exists()


def test_a_loss_that_is_no_number_leaves_the_last_good_epoch(packs, monkeypatch):
    losses = iter([0.0, float("nan")])
    monkeypatch.setattr(training, "wing", lambda found, _: (found * next(losses)).sum())
    out = packs / "landmarks.safetensors"
    given = ["--train", packs / "set_train", "--valid", packs / "set_valid", "--out", out]
    with pytest.raises(SystemExit, match="the loss is not a number"):
        run(monkeypatch, training, *given, "--batch", 2, "--epochs", 2)
    load_published(MobileFaceNet(), out)


def words(packs: Path, name: str) -> list[object]:
    given = ["--train", packs / "set_train", "--valid", packs / "set_valid"]
    return [*given, "--out", packs / name, "--batch", 2, "--epochs", 2]


def test_a_run_that_was_killed_goes_on_to_the_same_numbers(packs, monkeypatch, capsys):
    epochs = ("--epochs", 3)
    run(monkeypatch, training, *words(packs, "whole.safetensors"), *epochs)
    run_and_kill(monkeypatch, training, *words(packs, "killed.safetensors"), *epochs)
    assert len(figures(packs / "killed")) == 1
    run(monkeypatch, training, *words(packs, "killed.safetensors"), *epochs)
    assert figures(packs / "killed") == figures(packs / "whole")
    whole, killed = (load_file(packs / f"{name}.safetensors") for name in ("whole", "killed"))
    assert [name for name in whole if not whole[name].equal(killed[name])] == []
    capsys.readouterr()
    run(monkeypatch, training, *words(packs, "whole.safetensors"), *epochs)
    assert "epoch" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "more", "message"),
    [
        ("new.safetensors", ["--lr", "0.1"], "lr was 0.002, is 0.1; give another folder"),
        ("new", [], "--out: expected a file NAME.safetensors, found"),
        ("new.safetensors", ["--weights", "{}/no.safetensors"], "no.safetensors: "),
        ("new.safetensors", ["--weights", "{}/other.safetensors"], "other.safetensors: "),
    ],
)
def test_what_a_run_cannot_start_from_is_one_line(packs, monkeypatch, name, more, message):
    save_file({"weight": torch.zeros(1)}, packs / "other.safetensors")
    points = torch.zeros(2, 68, 2)
    canvases = torch.zeros(2, 144, 144, dtype=torch.uint8)
    config = LandmarksConfig(["set_train"], ["set_valid"], epochs=2, batch=2)
    (packs / "new").mkdir()
    Run(config, canvases, points).keep(packs / "new" / "last.pt", [])
    given = [*words(packs, name), *(each.format(packs) for each in more)]
    with pytest.raises(SystemExit, match=f"^landmarks: .*{message}") as ended:
        run(monkeypatch, training, *given)
    assert "\n" not in str(ended.value.code)


def slopes(network: MobileFaceNet) -> list[torch.Tensor]:
    return [each.weight for each in network.modules() if isinstance(each, torch.nn.PReLU)]


def test_activations_are_relus_and_stay_so(packs, monkeypatch):
    network = MobileFaceNet()
    assert slopes(network)
    assert all(each.any() for each in slopes(network))
    run(monkeypatch, training, *words(packs, "relu.safetensors"))
    load_published(network, packs / "relu.safetensors")
    assert not any(each.any() for each in slopes(network))


def test_a_run_starts_from_the_weights_of_another(tmp_path):
    torch.manual_seed(1)
    earlier = MobileFaceNet()
    save_file(earlier.state_dict(), tmp_path / "earlier.safetensors")
    config = LandmarksConfig(weights=str(tmp_path / "earlier.safetensors"), batch=2)
    started = Run(config, torch.zeros(2, 144, 144, dtype=torch.uint8), torch.zeros(2, 68, 2))
    rectify(earlier)
    wanted, found = earlier.state_dict(), started.core.state_dict()
    assert [name for name in wanted if not wanted[name].equal(found[name])] == []
