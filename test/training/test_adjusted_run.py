"""Runs with logit adjustment, and the parts of the loss of a mixture."""

import numpy as np
import pytest
import torch
from dataset_tools import write_dataset
from run_tools import figures, run, skip_plots, write_experiment

from fer_ros.emotions import EMOTIONS, FERPLUS_VOTES
from fer_ros.inference.model_store import read_manifest
from fer_ros.models.checkpoint import load_model
from fer_ros.models.wrapper import FaceOutput
from training import train as training
from training.calibration import fit_temperature
from training.config import TrainConfig
from training.datasets.splits import load_faces


@pytest.fixture
def datasets(tmp_path):
    """Mostly happy faces, bright below; every fifth is sad, and bright above, with exceptions."""
    random = np.random.default_rng(0)
    for split in ("train", "valid"):
        votes = np.zeros((40, len(FERPLUS_VOTES)), np.int8)
        votes[:, FERPLUS_VOTES.index("happiness")] = 7
        votes[:, FERPLUS_VOTES.index("neutral")] = 3
        votes[::5] = 10 * (np.array(FERPLUS_VOTES) == "sadness")
        crops = random.integers(0, 60, (40, 144, 144), np.uint8)
        crops[:, 72:] += 120
        crops[::5] = crops[::5, ::-1]
        crops[::7] = crops[::7, ::-1]  # some labels are wrong
        write_dataset(tmp_path / f"ferplus_{split}", padded_crop=crops, votes=votes)
    return tmp_path


def test_the_saved_model_predicts_as_it_was_validated(tmp_path, datasets, monkeypatch):
    skip_plots(monkeypatch)
    experiment = {
        "network": {"architecture": "vgg13"},
        "loss": {"logit_adjustment": True},
        "optimizer": {"lr": 1e-3},
        "epochs": 2,
        "batch_size": 8,
    }
    out = tmp_path / "out"
    run(training, write_experiment(tmp_path, experiment), datasets, out)
    row = max(figures(out), key=lambda row: row["valid_accuracy"])
    folder = out / "model" / "out"
    natural, network = read_manifest(folder).priors["natural"], load_model(folder)
    shares = dict(zip(EMOTIONS, natural.shares, strict=True))
    assert shares["happiness"] > shares["neutral"] > shares["sadness"] > shares["fear"] > 0
    valid = load_faces(datasets / "ferplus_valid")
    crops = valid.padded_crops[:, 16:128, 16:128, None].expand(-1, -1, -1, 3)
    with torch.inference_mode():
        probabilities = network.predict(crops)[1].numpy()
    served = torch.from_numpy(natural.apply(probabilities, network.temperature.item()))
    accuracy = (served.argmax(dim=1) == valid.labels).double().mean().item()
    assert accuracy == pytest.approx(row["valid_accuracy"])
    loss = -(valid.targets * served.clamp_min(1e-12).log()).sum(dim=1).mean().item()
    assert loss == pytest.approx(row["valid_loss"], abs=0.02)


def test_the_temperature_is_that_of_the_logits_without_the_offsets():
    torch.manual_seed(0)
    logits, offsets = 3 * torch.randn(500, 8), torch.randn(8)
    targets = (logits / 2.5 + offsets).softmax(dim=1)
    assert fit_temperature(logits, targets, offsets) == pytest.approx(2.5, rel=1e-3)


@pytest.mark.parametrize("weight", [0.0, 0.25, 1.0])
def test_blendshapes_of_a_mixture_are_those_of_the_face_that_has_any(weight):
    """A face with blendshapes of 0.8, mixed with one whose blendshapes are unknown."""
    columns = [torch.zeros(1, 16), torch.full((1, 52), 0.8 * weight), torch.tensor([[weight]])]
    seen = []
    task = training.EmotionTask.__new__(training.EmotionTask)
    task.config, task.loss = TrainConfig(), lambda *_: torch.zeros(())
    task.blendshape_loss = lambda *values: seen.extend(values) or torch.zeros(())
    output = FaceOutput(torch.zeros(1, 8), None, torch.zeros(1, 52))
    task.compute_loss(lambda _: output, (torch.zeros(1, 1, 112, 112), torch.cat(columns, 1)), 0)
    _, shapes, known = seen
    torch.testing.assert_close(shapes, torch.full((1, 52), 0.8 if weight else 0.0))
    assert known.item() == weight
