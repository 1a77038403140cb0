"""Predictions of teachers become a part of the targets."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from dataset_tools import write_dataset

from fer_ros.emotions import EMOTIONS
from fer_ros.inference.model_store import find_model, read_manifest
from fer_ros.models.checkpoint import load_model
from training.datasets.shards import CROP_SLICE, gray_to_rgb
from training.datasets.splits import DataConfig, DatasetUse, Faces, load_splits
from training.engine.distributed import DistributedContext
from training.models import distillation
from training.models.distillation import add_teacher_targets

TEACHER = "two_stream_small"
CACHE = "run/teachers.safetensors"
ALONE = DistributedContext(rank=0, size=1, device=torch.device("cpu"))
VOTES = [[10, 0, 0, 0, 0, 0, 0, 0, 0, 0]] * 2  # neutral


@pytest.fixture
def padded_crops() -> np.ndarray:
    """Two images of soft stripes."""
    waves = [np.sin(np.arange(144 * 144) / 7 + phase).reshape(144, 144) for phase in (0, 2)]
    return (127 + 100 * np.stack(waves)).astype(np.uint8)


def expected(padded_crops: np.ndarray, class_shares: torch.Tensor) -> torch.Tensor:
    """Predictions (2, 8) at the shares (8,), with the temperature for natural frequencies."""
    temperature = read_manifest(find_model(TEACHER)).priors["natural"].temperature
    crops = gray_to_rgb(padded_crops[:, CROP_SLICE, CROP_SLICE])
    both = [torch.from_numpy(side.copy()) for side in (crops, crops[:, :, ::-1])]
    with torch.inference_mode():
        network = load_model(TEACHER)
        logits = (
            network.temperature * torch.stack([network.predict(side)[1] for side in both]).log()
        )
    return (logits / temperature + class_shares.log()).softmax(dim=2).mean(dim=0)


def some(padded_crops: np.ndarray, *shares: float) -> Faces:
    targets = torch.eye(8)[:2]
    images = torch.from_numpy(padded_crops)
    return Faces(images, targets, torch.arange(2), teacher_weight=torch.tensor(shares))


def test_without_teachers_targets_are_unchanged(tmp_path, padded_crops):
    faces = some(padded_crops)
    cache = tmp_path / CACHE
    assert add_teacher_targets(faces, DataConfig(), ALONE, cache) is faces
    assert not cache.exists()


def test_teacher_weight_mixes_the_targets(tmp_path, padded_crops):
    config = DataConfig(train=[DatasetUse("mine", teacher_weight=0.5)], teachers=[TEACHER, TEACHER])
    before = some(padded_crops, 0.0, 0.25)
    after = add_teacher_targets(before, config, ALONE, tmp_path / CACHE)
    assert torch.equal(after.targets[0], before.targets[0])
    target = 0.75 * before.targets[1] + 0.25 * expected(padded_crops, before.priors[0])[1]
    torch.testing.assert_close(after.targets[1], target, atol=0.01, rtol=0)
    assert torch.equal(after.labels, before.labels)
    assert after.sha256() != before.sha256()


def test_teachers_predict_once(tmp_path, padded_crops, monkeypatch):
    config = DataConfig(train=[DatasetUse("mine", teacher_weight=0.5)], teachers=[TEACHER])
    arguments = config, ALONE, tmp_path / CACHE
    first = add_teacher_targets(some(padded_crops, 0.5, 0.5), *arguments)
    asked = []
    loaded = distillation.load_model
    monkeypatch.setattr(distillation, "load_model", lambda name: asked.append(name) or loaded(name))
    again = add_teacher_targets(some(padded_crops, 0.5, 0.25), *arguments)
    assert torch.equal(again.targets[0], first.targets[0])
    assert not torch.equal(again.targets[1], first.targets[1])
    assert asked == []
    add_teacher_targets(some(255 - padded_crops, 0.5, 0.5), *arguments)
    add_teacher_targets(
        some(255 - padded_crops, 0.5, 0.5), replace(config, teachers=[TEACHER] * 2), *arguments[1:]
    )
    assert asked == [TEACHER] * 3


def test_unlabeled_faces_get_the_predicted_labels(tmp_path, padded_crops):
    write_dataset(tmp_path / "ferplus_valid", votes=VOTES)
    write_dataset(tmp_path / "celeba_train", identity=["", ""], padded_crop=padded_crops)
    use = DatasetUse("celeba_train", teacher_weight=1.0)
    config = DataConfig(train=[use], test="", classes=7, teachers=[TEACHER])
    faces = load_splits(config, tmp_path)[0]
    faces = add_teacher_targets(faces, config, ALONE, tmp_path / CACHE)
    target = expected(padded_crops, torch.ones(8))[:, :7]
    target = target / target.sum(dim=1, keepdim=True)
    torch.testing.assert_close(faces.targets[:, :7], target, atol=0.01, rtol=0)
    assert not faces.targets[:, EMOTIONS.index("contempt")].any()
    assert faces.labels.tolist() == target.argmax(dim=1).tolist()


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ({"teachers": [TEACHER]}, "teachers"),
        ({"train": [DatasetUse("mine", teacher_weight=0.5)]}, "a teacher_weight"),
    ],
)
def test_teachers_require_a_teacher_weight(given, found):
    with pytest.raises(ValueError, match=f"teachers: expected .* in train, found only {found}$"):
        DataConfig(**given)


def test_a_missing_teacher_is_reported_in_one_line(tmp_path, padded_crops):
    config = DataConfig(train=[DatasetUse("mine", teacher_weight=1.0)], teachers=["nowhere"])
    with pytest.raises(ValueError, match=r"data\.teachers: .*nowhere") as caught:
        add_teacher_targets(some(padded_crops, 1.0, 1.0), config, ALONE, tmp_path / CACHE)
    assert "\n" not in str(caught.value)
