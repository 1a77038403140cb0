"""What teachers answer becomes a part of the targets."""

import numpy as np
import pytest
import torch
from pack_tools import write_pack

from fer_ros.labels import EMOTIONS
from fer_ros.model.checkpoint import load_model
from training.data import DataConfig, Faces, PackUse, load_splits
from training.distill import taught
from training.packs import INSIDE, in_rgb
from training.processes import World

TEACHER = "two_stream_small"
ALONE = World(rank=0, size=1, device=torch.device("cpu"))
VOTES = [[10, 0, 0, 0, 0, 0, 0, 0, 0, 0]] * 2  # neutral


@pytest.fixture
def canvases() -> np.ndarray:
    """Two pictures of soft stripes."""
    waves = [np.sin(np.arange(144 * 144) / 7 + phase).reshape(144, 144) for phase in (0, 2)]
    return (127 + 100 * np.stack(waves)).astype(np.uint8)


def expected(canvases: np.ndarray) -> torch.Tensor:
    crops = in_rgb(canvases[:, INSIDE, INSIDE])
    both = [torch.from_numpy(each.copy()) for each in (crops, crops[:, :, ::-1])]
    with torch.inference_mode():
        return torch.stack([load_model(TEACHER).predict(each)[1] for each in both]).mean(dim=0)


def some(canvases: np.ndarray, *shares: float) -> Faces:
    targets = torch.eye(8)[:2]
    pictures = torch.from_numpy(canvases)
    return Faces(pictures, targets, torch.arange(2), taught=torch.tensor(shares))


def test_without_teachers_targets_are_as_they_were(canvases):
    faces = some(canvases)
    assert taught(faces, DataConfig(), ALONE) is faces


def test_each_face_takes_its_share(canvases):
    config = DataConfig(train=[PackUse("mine", taught=0.5)], teachers=[TEACHER, TEACHER])
    before = some(canvases, 0.0, 0.25)
    after = taught(before, config, ALONE)
    assert torch.equal(after.targets[0], before.targets[0])
    wanted = 0.75 * before.targets[1] + 0.25 * expected(canvases)[1]
    torch.testing.assert_close(after.targets[1], wanted, atol=0.01, rtol=0)
    assert torch.equal(after.labels, before.labels)
    assert after.sha256() != before.sha256()


def test_faces_without_labels_get_those_of_the_answer(tmp_path, canvases):
    write_pack(tmp_path / "ferplus_valid", votes=VOTES)
    write_pack(tmp_path / "celeba_train", identity=["", ""], canvas=canvases)
    use = PackUse("celeba_train", taught=1.0)
    config = DataConfig(train=[use], test="", classes=7, teachers=[TEACHER])
    faces = taught(load_splits(config, tmp_path)[0], config, ALONE)
    wanted = expected(canvases)[:, :7]
    wanted = wanted / wanted.sum(dim=1, keepdim=True)
    torch.testing.assert_close(faces.targets[:, :7], wanted, atol=0.01, rtol=0)
    assert not faces.targets[:, EMOTIONS.index("contempt")].any()
    assert faces.labels.tolist() == wanted.argmax(dim=1).tolist()


@pytest.mark.parametrize(
    "given",
    [{"teachers": [TEACHER]}, {"train": [PackUse("mine", taught=0.5)]}],
)
def test_teachers_and_who_is_taught_belong_together(given):
    with pytest.raises(ValueError, match="teachers: expected with packs that are taught"):
        DataConfig(**given)


def test_a_teacher_that_is_not_there_is_one_line(canvases):
    config = DataConfig(train=[PackUse("mine", taught=1.0)], teachers=["nowhere"])
    with pytest.raises(ValueError, match=r"data\.teachers: .*nowhere") as caught:
        taught(some(canvases, 1.0, 1.0), config, ALONE)
    assert "\n" not in str(caught.value)
