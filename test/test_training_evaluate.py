"""The figures of a model, and the card that shows them."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from pack_tools import write_pack

from fer_ros.labels import EMOTIONS, FERPLUS_VOTES
from fer_ros.model import build_model
from fer_ros.model.checkpoint import save_model
from fer_ros.model.network import FaceNetwork
from fer_ros.weights import InputSpec, model_folders, read_card
from training.card import card_text
from training.data import Faces
from training.evaluate import landmark_scores, main, predict, scores
from training.votes import PROTOCOLS


class Answers:
    """Happiness where the left half is bright, else sadness; the same points always."""

    points = np.random.default_rng(0).uniform(20, 90, (68, 2)).astype(np.float32)

    def predict(self, crops: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        bright = crops[:, :, :56].float().mean(dim=(1, 2, 3)) > 128
        probabilities = torch.zeros(len(crops), 8)
        probabilities[bright, EMOTIONS.index("happiness")] = 1.0
        probabilities[~bright, EMOTIONS.index("sadness")] = 1.0
        return torch.from_numpy(self.points).expand(len(crops), -1, -1), probabilities


def half_bright(count: int) -> torch.Tensor:
    canvases = torch.zeros(count, 144, 144, dtype=torch.uint8)
    canvases[:, :, :72] = 255
    return canvases


@pytest.mark.parametrize("count", [1, 130])
@pytest.mark.parametrize(("flip", "happy"), [(False, 1.0), (True, 0.5)])
def test_predictions_of_the_crop_and_of_its_mirror_image(count, flip, happy):
    points, probabilities = predict(Answers(), half_bright(count), flip)
    assert points.shape == (count, 68, 2)
    assert probabilities.shape == (count, 8)
    assert (probabilities[:, EMOTIONS.index("happiness")] == happy).all()
    assert (probabilities[:, EMOTIONS.index("sadness")] == 1 - happy).all()


def test_scores_by_hand():
    labels = torch.tensor([0, 0, 1, 2, 3])
    seen = torch.nn.functional.one_hot(torch.tensor([0, 1, 1, 2, 3]), 8).float()
    seen[1] = torch.tensor([0.4, 0.6, 0, 0, 0, 0, 0, 0])
    faces = Faces(torch.zeros(5, 144, 144), torch.nn.functional.one_hot(labels, 8).float(), labels)
    found = scores(seen, faces, np.array([True, True, True, True, False]))
    assert found["pictures"] == 4
    assert found["accuracy"] == 0.75
    assert found["recall"]["neutral"] == 0.5
    assert found["recall"]["happiness"] == 1.0
    assert found["mean_recall"] == pytest.approx(2.5 / 3, abs=1e-4)
    assert found["confusion"][0][:2] == [1, 1]
    assert found["ece"] == pytest.approx(0.6 / 4, abs=1e-4)
    assert found["cross_entropy_to_votes"] == pytest.approx(-np.log(0.4) / 4, abs=1e-4)


def test_landmarks_of_faces_that_the_teacher_found(tmp_path):
    """Points are 3 % of the eye distance off; the second face has no teacher's points."""
    truth = (Answers.points + 0.5) / 112
    off = 0.03 * np.linalg.norm(truth[36] - truth[45])
    points = np.stack([truth + np.array([off, 0]), np.full((68, 2), np.nan)]).astype(np.float32)
    pack = write_pack(tmp_path / "pack", canvas=half_bright(2).numpy(), points68=points)
    found = landmark_scores(Answers(), pack)
    assert found == {"pictures": 1, "median_nme": 0.03, "p95_nme": 0.03}


@pytest.fixture
def data(tmp_path) -> Path:
    """Packs of four faces in each split, one of the test split's in train too."""
    rng = np.random.default_rng(0)
    canvas = rng.integers(0, 255, (4, 144, 144)).astype(np.uint8)
    votes = np.zeros((4, len(FERPLUS_VOTES)), np.int8)
    votes[range(4), [0, 1, 2, 2]] = 10
    for split in ("train", "valid", "test"):
        groups = np.array([7 if split != "valid" else -1, -1, -1, -1])
        write_pack(tmp_path / f"ferplus_{split}", canvas=canvas, votes=votes, dup_group=groups)
    points = rng.uniform(0, 1, (4, 68, 2)).astype(np.float32)
    write_pack(tmp_path / "lfwx_test", canvas=canvas, points68=points)
    return tmp_path


def test_the_command_writes_figures_and_card_into_the_model(data, tmp_path, monkeypatch, capsys):
    folder = tmp_path / "untrained"
    torch.manual_seed(0)
    network = FaceNetwork(build_model("two_stream_small"), InputSpec())
    save_model(network, folder, "two_stream_small")
    monkeypatch.setattr(sys, "argv", ["evaluate", str(folder), str(data)])
    main()
    results = json.loads((folder / "metrics.json").read_text())
    assert set(results) == {
        *(f"{name}{flip}" for name in (*PROTOCOLS, "ferplus-new") for flip in ("", "-flip")),
        "landmarks-lfwx",
    }
    card = (folder / "CARD.md").read_text()
    assert card.startswith("# untrained\n")
    assert f"| all | 4 | {results['ferplus-3573']['accuracy']:.1%} |" in card
    flipped = results["ferplus-new-flip"]["accuracy"]
    assert f"| not in its train split, flip | 3 | {flipped:.1%} |" in card
    assert "ferplus-3573" in capsys.readouterr().out


def test_shipped_cards_show_the_figures_of_their_models():
    folders = model_folders()
    assert folders
    for folder in folders:
        results = json.loads((folder / "metrics.json").read_text())
        assert (folder / "CARD.md").read_text() == card_text(read_card(folder), results)
