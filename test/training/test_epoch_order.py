"""The order of the faces of an epoch."""

from dataclasses import replace

import pytest
import torch

from training.config import TrainConfig
from training.datasets.splits import Faces
from training.train import epoch_order


def make_faces(*groups: tuple[int, float]) -> Faces:
    """Faces by ``(count, sampling weight)``; the group of a face is its label."""
    weights = torch.cat([torch.full((count,), weight) for count, weight in groups])
    labels = torch.cat([torch.full((count,), i) for i, (count, _) in enumerate(groups)])
    faces = Faces(torch.zeros(len(labels), 1, 1), torch.zeros(len(labels), 8), labels)
    return replace(faces, sampling_weights=weights)


def draw(faces: Faces, config: TrainConfig) -> torch.Tensor:
    return epoch_order(faces, config, torch.Generator().manual_seed(0))


def test_class_balanced_epochs_draw_every_emotion_equally():
    faces = make_faces((900, 1.0), (100, 1.0))
    order = draw(faces, TrainConfig(class_balanced_sampling=True))
    assert (faces.labels[order] == 1).float().mean() == pytest.approx(0.5, abs=0.05)


def test_an_epoch_has_every_face_once():
    assert sorted(draw(make_faces((900, 1.0), (100, 1.0)), TrainConfig()).tolist()) == list(
        range(1000)
    )


@pytest.mark.parametrize(
    ("groups", "count"),
    [
        ([(1000, 1.0)], 100),
        ([(900, 1.0), (100, 9.0)], 100),
        ([(900, 1.0), (100, 9.0)], 1000),  # each of the second group five times
        ([(900, 1.0), (50, 4.0), (400, 0.25)], 600),
        ([(32, 1.0)], 100),  # an epoch of more draws than faces
    ],
)
def test_each_face_is_drawn_as_often_as_its_weight_demands(groups, count):
    faces = make_faces(*groups)
    order = draw(faces, TrainConfig(epoch_samples=count))
    assert len(order) == count
    times = torch.bincount(order, minlength=len(faces))
    expected = count * faces.sampling_weights / faces.sampling_weights.sum()
    assert ((times - expected).abs() < 1).all()
    for group, (size, _) in enumerate(groups):
        share = expected[faces.labels == group][0] * size
        assert (faces.labels[order] == group).sum() == pytest.approx(share, abs=1.01 * len(groups))


def test_datasets_are_spread_over_the_epoch():
    faces = make_faces((9000, 1.0), (1000, 5.0))
    order = draw(faces, TrainConfig(epoch_samples=4000))
    shares = torch.stack([(faces.labels[part] == 1).float().mean() for part in order.chunk(8)])
    assert shares.mean() == pytest.approx(5 / 14, abs=0.001)
    assert (shares - 5 / 14).abs().max() < 0.1


def test_epochs_differ_and_repeat_with_the_seed():
    faces, config = make_faces((1000, 1.0)), TrainConfig(epoch_samples=100)
    first, again, other = (
        epoch_order(faces, config, torch.Generator().manual_seed(seed)) for seed in (0, 0, 1)
    )
    assert torch.equal(first, again)
    assert set(first.tolist()) != set(other.tolist())
