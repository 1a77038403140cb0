"""Model folders: written, read back, and refused with one line when something does not fit."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

import fer_ros
from fer_ros.config import ClassifierConfig
from fer_ros.emotions import EMOTIONS
from fer_ros.inference.backends import open_backend
from fer_ros.inference.model_store import (
    InputSpec,
    ModelError,
    find_model,
    model_folders,
    read_manifest,
    sha256_of,
    write_manifest,
)
from fer_ros.models import build_model
from fer_ros.models.checkpoint import first_difference, load_model, save_model
from fer_ros.models.wrapper import FaceNetwork


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> tuple[FaceNetwork, Path]:
    torch.manual_seed(0)
    network = FaceNetwork(
        build_model("two_stream_small"), InputSpec(mean=(0.4, 0.5, 0.6)), 1.3
    ).eval()
    folder = tmp_path_factory.mktemp("models") / "mine"
    save_model(network, folder, "two_stream_small")
    return network, folder


@pytest.fixture
def folder(saved, tmp_path) -> Path:
    """A copy to spoil."""
    return Path(shutil.copytree(saved[1], tmp_path / "mine"))


def edit(folder: Path, **changes) -> None:
    path = folder / "model.yaml"
    values = yaml.safe_load(path.read_text())
    path.write_text(yaml.safe_dump(values | changes))


def sign(folder: Path) -> None:
    """Makes the manifest believe the weights."""
    edit(folder, sha256=sha256_of(folder / "weights.safetensors"))


@torch.no_grad()
def test_a_saved_model_gives_the_same_outputs(saved):
    network, folder = saved
    loaded = fer_ros.load_model(folder)
    assert not loaded.training
    crops = torch.randint(0, 256, (2, 112, 112, 3), dtype=torch.uint8)
    for expected, actual in zip(network.predict(crops), loaded.predict(crops), strict=True):
        torch.testing.assert_close(actual, expected, rtol=0.01, atol=0.01)  # half precision


def test_the_manifest_describes_the_weights_file(saved):
    model_manifest = read_manifest(saved[1])
    assert (model_manifest.name, model_manifest.architecture, model_manifest.labels) == (
        "mine",
        "two_stream_small",
        EMOTIONS,
    )
    assert model_manifest.input == InputSpec(mean=(0.4, 0.5, 0.6))
    assert model_manifest.temperature == pytest.approx(1.3)
    model_manifest.verify()


def test_weights_are_stored_in_half_precision(saved):
    stored = load_file(saved[1] / "weights.safetensors")
    assert stored["fusion.head.weight"].dtype == torch.float16
    assert stored["landmarks.conv1.bn.running_var"].dtype == torch.float32


def no_weights(folder):
    (folder / "weights.safetensors").unlink()


def corrupt(folder):
    with (folder / "weights.safetensors").open("r+b") as file:
        file.seek(5000)
        file.write(b"noise")


def not_safetensors(folder):
    (folder / "weights.safetensors").write_bytes(b"PK\x03\x04 a pickle, perhaps")
    sign(folder)


def other_shape(folder):
    state = load_file(folder / "weights.safetensors")
    state["fusion.head.weight"] = torch.zeros(7, 192)
    save_file(state, folder / "weights.safetensors")
    sign(folder)


# how the folder is spoiled, what the one line must name
SPOILED = (
    (lambda folder: (folder / "model.yaml").unlink(), "model.yaml"),
    (lambda folder: (folder / "model.yaml").write_text(""), "expected a mapping"),
    (lambda folder: (folder / "model.yaml").write_text("a: ["), "not a YAML file"),
    (lambda folder: edit(folder, format=2), "format: expected 1, found 2"),
    (lambda folder: edit(folder, color="bgr"), "unknown key 'color'"),
    *(
        (lambda folder, value=value: edit(folder, temperature=value), "yaml: temperature: expected")
        for value in (0, "warm", [1], True, float("nan"), 10**400)
    ),
    (lambda folder: edit(folder, labels=5), "yaml: labels: expected names, found 5"),
    (lambda folder: edit(folder, template_xy=3), r"yaml: template_xy: expected points \[x, y\]"),
    (lambda folder: edit(folder, template_xy=[["a", 1]]), "yaml: template_xy: expected points"),
    (lambda folder: edit(folder, input={"grayscale": "no"}), "input.grayscale: expected true or"),
    (lambda folder: edit(folder, input={"mean": [True] * 3}), "input.mean: expected three numbers"),
    (lambda folder: edit(folder, input={"size": 112}), "input: unknown key 'size'"),
    (lambda folder: edit(folder, labels=list(EMOTIONS[:7])), "expected the labels neutral"),
    (lambda folder: edit(folder, labels=list(EMOTIONS[::-1])), "found contempt, anger"),
    (lambda folder: edit(folder, template_xy=[[0, 0] for _ in range(5)]), "another template"),
    (
        lambda folder: edit(folder, architecture="three_stream"),
        "unknown architecture 'three_stream'",
    ),
    (lambda folder: edit(folder, architecture="two_stream"), "not the weights of two_stream: "),
    (lambda folder: edit(folder, config={"widths": 3}), "widths"),
    (lambda folder: edit(folder, sha256="0" * 64), "expected sha256 000000000000"),
    (no_weights, "weights.safetensors: no such file"),
    (corrupt, "expected sha256"),
    (not_safetensors, "not a safetensors file"),
    (other_shape, r"fusion.head.weight: expected shape \(8, 192\), found \(7, 192\)"),
)


@pytest.mark.parametrize(("spoil", "words"), SPOILED)
def test_mismatched_weights_are_rejected_in_one_line(folder, spoil, words):
    spoil(folder)
    with pytest.raises(ModelError, match=words) as caught:
        load_model(folder)
    assert "\n" not in str(caught.value)
    assert str(folder) in str(caught.value)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("", "unknown model ''"),
        ("two_stream_smal", "did you mean 'two_stream_small'"),
        ("emotion", "installed: .*two_stream_small"),
        ("no/such/folder", "no folder with model.yaml"),
        ("test", "a folder without model.yaml"),
    ],
)
def test_unknown_models_are_named(name, words):
    with pytest.raises(ModelError, match=words):
        find_model(name)


def test_a_model_is_found_by_folder_and_by_name(saved):
    folder = saved[1]
    assert find_model(str(folder)) == folder
    assert find_model(str(folder / "model.yaml")) == folder


@pytest.mark.parametrize("folder", model_folders(), ids=lambda folder: folder.name)
def test_shipped_models_load(folder):
    assert {"CARD.md", "metrics.json"} <= {path.name for path in folder.iterdir()}
    assert not open_backend(read_manifest(folder), ClassifierConfig(device="cpu")).fallback


def test_a_model_is_shipped():
    assert "two_stream_small" in [folder.name for folder in model_folders()]


@pytest.mark.parametrize(
    ("expected", "found", "words"),
    [
        ({}, {}, ""),
        ({"a": (1,)}, {"a": (1,)}, ""),
        ({"a": (1,)}, {}, "a is missing"),
        ({}, {"a": (1,)}, "a is unknown"),
        ({"a": (1,)}, {"a": (2,)}, "a: expected shape (1,), found (2,)"),
    ],
)
def test_first_difference(expected, found, words):
    states = [
        {name: torch.zeros(shape) for name, shape in network.items()}
        for network in (expected, found)
    ]
    assert first_difference(*states) == words


EARLIER = {
    "input_proj.": "enter.",
    "cross_attention.": "cross.",
    "tokenizers.": "tokens.",
}


@torch.no_grad()
def test_layers_with_their_earlier_names_load_bit_for_bit(tmp_path):
    """Weights that were trained before the layers got their names."""
    torch.manual_seed(0)
    config = {"image": "mobilenet", "scales": 2}
    network = FaceNetwork(build_model("two_stream_small", **config), InputSpec()).eval()
    manifest = save_model(network, tmp_path, "two_stream_small", **config)
    state = {}
    for name, value in load_file(manifest.weights_path).items():
        start = next((start for start in EARLIER if name.startswith(start)), "")
        state[EARLIER.get(start, "") + name.removeprefix(start)] = value
    assert len([name for name in state if name.startswith(tuple(EARLIER.values()))]) > 20
    save_file(state, manifest.weights_path)
    write_manifest(replace(manifest, sha256=sha256_of(manifest.weights_path)))
    loaded = load_model(tmp_path).net.state_dict()
    half = {name: value.half().to(value.dtype) for name, value in network.net.state_dict().items()}
    for name, value in loaded.items():
        expected_value = network.net.state_dict()[name] if "running" in name else half[name]
        assert torch.equal(value, expected_value), name
