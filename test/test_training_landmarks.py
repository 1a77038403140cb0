"""The pieces of the landmark training."""

import pytest
import torch

from fer_ros.model.mobilefacenet import MobileFaceNet
from training.landmarks import nme, start_at, wing
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
