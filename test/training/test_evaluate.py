"""The figures of a model: predictions, protocols and the command line."""

import json
import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from dataset_tools import write_dataset
from run_tools import run

from fer_ros.emotions import EMOTIONS, FERPLUS_VOTES
from fer_ros.inference.model_store import InputSpec
from fer_ros.inference.priors import Prior
from fer_ros.models import build_model
from fer_ros.models.checkpoint import save_model
from fer_ros.models.wrapper import FaceNetwork
from fer_ros.types import FacePredictions
from training import evaluate as command
from training.datasets.ferplus_votes import PROTOCOLS
from training.datasets.readers.registry import OPTIONS
from training.datasets.shards import open_shard, shard_path, write_shard
from training.evaluate import (
    evaluate,
    evaluate_datasets,
    format_results,
    landmark_scores,
    latency,
    rotated,
)
from training.metrics.label_calibration import calibrate_to_labels
from training.metrics.predictions import predict_arrays, predict_with_flip
from training.reports.html import page

HAPPY, SAD = EMOTIONS.index("happiness"), EMOTIONS.index("sadness")


class FixedClassifier:
    """Happiness where the left half is bright, else sadness; the same points always."""

    manifest = SimpleNamespace(name="predictions", sha256=64 * "0", priors={}, temperature=1.0)
    points = np.random.default_rng(0).uniform(20, 90, (68, 2)).astype(np.float32)

    def classify(self, crops_rgb: np.ndarray) -> FacePredictions:
        bright = crops_rgb[:, :, :56].mean(axis=(1, 2, 3), dtype=float) > 128
        probabilities = np.zeros((len(crops_rgb), 8), np.float32)
        probabilities[bright, HAPPY] = 1.0
        probabilities[~bright, SAD] = 1.0
        return FacePredictions(np.tile(self.points, (len(crops_rgb), 1, 1)), probabilities)


def half_bright(count: int) -> np.ndarray:
    padded_crops = np.zeros((count, 144, 144), np.uint8)
    padded_crops[:, :, :72] = 255
    return padded_crops


@pytest.mark.parametrize("count", [1, 32, 70])
def test_predictions_of_crops(count):
    points, probabilities = predict_arrays(
        FixedClassifier(), half_bright(count)[:, 16:128, 16:128], "crops"
    )
    assert points.shape == (count, 68, 2)
    assert (probabilities == np.eye(8)[HAPPY]).all()
    assert probabilities.shape == (count, 8)


def test_flipped_predictions_are_averaged():
    predictions = predict_with_flip(FixedClassifier(), half_bright(3))
    assert [*predictions] == ["", "-flip"]
    assert (predictions[""] == np.eye(8)[HAPPY]).all()
    assert (predictions["-flip"] == (np.eye(8)[HAPPY] + np.eye(8)[SAD]) / 2).all()


def votes_for(*columns: int) -> np.ndarray:
    return 10 * np.eye(len(FERPLUS_VOTES), dtype=np.uint8)[list(columns)]


# Happiness, sadness, "unknown": the answer is happiness each time.
VOTED = {"padded_crop": half_bright(3), "votes": votes_for(1, 3, 8)}
SINGLE = {"padded_crop": half_bright(3), "label": np.array([HAPPY, HAPPY, SAD], np.int8)}


@pytest.mark.parametrize(
    ("columns", "protocols", "expected"),
    [
        (VOTED, [], {"ferplus-3573": 3, "ferplus-argmax10": 2, "ferplus-official": 2}),
        (VOTED, ["ferplus-official"], {"ferplus-official": 2}),
        (SINGLE, [], {"labels": 3}),
    ],
)
def test_faces_that_count(tmp_path, columns, protocols, expected):
    results = evaluate(FixedClassifier(), write_dataset(tmp_path / "dataset", **columns), protocols)
    assert results["data"] == {"name": "dataset", "faces": 3, "undecodable": 0, "undetected": 0}
    assert results["model"] == {"name": "predictions", "sha256": 64 * "0"}
    scored = {name: each["images"] for name, each in results.items() if "accuracy" in each}
    assert scored == expected | {f"{name}-flip": count for name, count in expected.items()}
    for name in expected:
        assert results[name]["recall"]["happiness"] == 1.0
        assert results[name]["recall"]["sadness"] == 0.0
        assert ("kl_to_votes" in results[name]) == ("votes" in columns)


@pytest.mark.parametrize(
    ("columns", "protocols", "message"),
    [
        ({"padded_crop": half_bright(1)}, [], "expected votes, labels or landmarks, found faces"),
        ({"landmarks68": np.full((1, 68, 2), np.nan)}, [], "expected votes, labels or landmarks"),
        (SINGLE, ["ferplus-3573"], "ferplus-3573 needs votes, found none"),
        ({"landmarks68": np.zeros((1, 68, 2))}, ["ferplus-3573"], "needs votes, found none"),
        (
            {"padded_crop": half_bright(1), "votes": votes_for(8)},
            ["ferplus-argmax10"],
            "found none",
        ),
    ],
)
def test_data_that_cannot_be_scored(tmp_path, columns, protocols, message):
    with pytest.raises(ValueError, match=message):
        evaluate(FixedClassifier(), write_dataset(tmp_path / "dataset", **columns), protocols)


@pytest.mark.parametrize("degrees", [0.0, 20.0, -20.0, 90.0])
def test_points_rotate_with_the_face(degrees):
    padded_crops = np.zeros((1, 144, 144), np.uint8)
    padded_crops[0, 16 + 40, 16 + 70] = 255
    points = torch.full((1, 68, 2), 0.5)
    points[0, 30] = torch.tensor([70.5, 40.5]) / 112
    crops, moved = rotated(torch.from_numpy(padded_crops), points, degrees)
    assert crops.shape == (1, 112, 112)
    y, x = np.unravel_index(crops[0].argmax(), crops[0].shape)
    np.testing.assert_allclose(moved[0, 30] * 112, [x + 0.5, y + 0.5], atol=0.75)
    np.testing.assert_allclose(moved[0, 0], 0.5, atol=1e-6)
    if degrees == 0:
        assert (crops == padded_crops[:, 16:128, 16:128]).all()
    else:
        assert np.hypot(x - 70, y - 40) > 5


def test_landmarks_are_scored_on_labeled_faces(tmp_path):
    """Points are 3% of the eye distance off; the second face has no teacher's points."""
    truth = (FixedClassifier.points + 0.5) / 112
    off = 0.03 * np.linalg.norm(truth[36] - truth[45])
    points = np.stack([truth + np.array([off, 0]), np.full((68, 2), np.nan)]).astype(np.float32)
    dataset = write_dataset(tmp_path / "dataset", padded_crop=half_bright(2), landmarks68=points)
    upright = landmark_scores(FixedClassifier(), dataset)
    figures = dict.fromkeys(("mean_nme", "median_nme", "p95_nme"), 0.03)
    assert upright == {"images": 1, "rotation_deg": 0.0, **figures}
    # a network that does not notice the rotation is off by as much as the points have moved
    turned = landmark_scores(FixedClassifier(), dataset, 20.0)
    centered = truth + np.array([off, 0]) - 0.5
    eyes = np.linalg.norm(truth[36] - truth[45])
    errors = []
    for angle in np.radians([-20, 20]):
        turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
        errors.append(np.linalg.norm(centered @ turn.T + 0.5 - truth, axis=1).mean() / eyes)
    assert turned["rotation_deg"] == 20.0
    assert turned["median_nme"] == pytest.approx(np.median(errors), abs=2e-4)


@pytest.mark.parametrize(
    ("columns", "names"),
    [
        ({"padded_crop": half_bright(3)}, ["landmarks"]),
        (SINGLE, ["labels", "labels-flip", "landmarks"]),
    ],
)
def test_landmarks_are_scored_where_a_dataset_has_them(tmp_path, columns, names):
    """They are 3% of the eye distance off in one face, 9% in another; one has none."""
    truth = (FixedClassifier.points + 0.5) / 112
    off = np.array([0.03, 0.09, np.nan]) * np.linalg.norm(truth[36] - truth[45])
    points = np.stack([truth + np.array([shift, 0]) for shift in off]).astype(np.float32)
    dataset = write_dataset(tmp_path / "dataset", landmarks68=points, **columns)
    results = evaluate(FixedClassifier(), dataset, [])
    assert [name for name in results if name not in {"model", "bootstrap", "data"}] == names
    assert results["landmarks"]["images"] == 2
    assert results["landmarks"]["mean_nme"] == 0.06
    assert ["landmarks: images 2" in line for line in format_results(results)][-1]
    assert "landmarks of 2 faces" in page(results)
    assert "mean 6.00%" in page(results)


def test_landmarks_of_a_network_without_any(tmp_path, monkeypatch):
    monkeypatch.setattr(FixedClassifier, "points", np.full((68, 2), np.nan, np.float32))
    points = np.random.default_rng(0).uniform(0, 1, (2, 68, 2)).astype(np.float32)
    dataset = write_dataset(tmp_path / "dataset", padded_crop=half_bright(2), landmarks68=points)
    metrics = landmark_scores(FixedClassifier(), dataset)
    assert [metrics[name] for name in ("mean_nme", "median_nme", "p95_nme")] == [None] * 3


@pytest.fixture
def datasets(tmp_path) -> Path:
    """Datasets of four faces in each split, one of the test split's in train too."""
    rng = np.random.default_rng(0)
    padded_crop = rng.integers(0, 255, (4, 144, 144)).astype(np.uint8)
    for split in ("train", "valid", "test"):
        folder = tmp_path / "datasets" / f"ferplus_{split}"
        groups = np.array([7, -1, -1, -1])
        write_dataset(
            folder, padded_crop=padded_crop, votes=votes_for(0, 1, 2, 2), dup_group=groups
        )
    points = rng.uniform(0, 1, (4, 68, 2)).astype(np.float32)
    labeled = {"label": np.zeros(4, np.int8), "source": np.array(["lfw", "film", "lfw", "lfw"])}
    labeled["identity"] = np.array(["a", "b", "b", "a"])
    write_dataset(
        tmp_path / "datasets" / "lfwx_test", padded_crop=padded_crop, landmarks68=points, **labeled
    )
    web = {"label": np.array([0, 1, 1, 2], np.int8), "identity": np.array(["a", "a", "", "c"])}
    write_dataset(tmp_path / "datasets" / "nhfi_test", padded_crop=padded_crop, **web)
    return tmp_path / "datasets"


@pytest.fixture
def model(tmp_path) -> Path:
    """A model folder with fresh weights."""
    torch.manual_seed(0)
    network = FaceNetwork(build_model("two_stream_small"), InputSpec())
    save_model(network, tmp_path / "untrained", "two_stream_small")
    return tmp_path / "untrained"


def test_metrics_of_the_card(datasets):
    results = evaluate_datasets(FixedClassifier(), datasets)
    names = [
        f"{name}{flip}"
        for flip in ("", "-flip")
        for name in (*PROTOCOLS, "ferplus-without-duplicates")
    ]
    assert [name for name in results if name.startswith("ferplus")] == names
    assert results["ferplus-3573"]["images"] == results["annotator_agreement"]["images"] == 4
    assert results["ferplus-without-duplicates"]["images"] == 3
    assert results["lfwx-lfw"]["images"] == 3
    assert results["lfwx-film"]["images"] == 1
    assert results["landmarks-lfwx"]["images"] == 4
    assert results["lfwx-lfw"]["persons"] == 2
    assert results["nhfi"]["persons"] == 3
    assert results["nhfi"]["selective"]["coverage"][0] == 1.0
    assert not [name for name in results if name.startswith("blendshapes")]


def test_metrics_of_a_model_with_priors_and_blendshapes(datasets, monkeypatch):
    """Predictions are nearly even: at the natural prior all faces are neutral."""
    shares = (0.9, *[0.1 / 7] * 7)
    manifest = SimpleNamespace(**vars(FixedClassifier.manifest) | {"priors": {}})
    manifest.priors = {"balanced": Prior(), "natural": Prior(1.0, shares)}
    monkeypatch.setattr(FixedClassifier, "manifest", manifest)
    blendshapes = np.tile(np.linspace(0, 1, 4, dtype=np.float32)[:, None], 52)
    for name in ("nhfi_test", "lfwx_test"):
        path = shard_path(datasets / name, 0)
        with open_shard(path) as arrays:
            columns = {key: arrays[key] for key in arrays.files}
        write_shard(path, {**columns, "blendshapes": blendshapes})
    classify = FixedClassifier.classify

    def with_blendshapes(self, crops_rgb):
        predictions = classify(self, crops_rgb)
        unsure = np.float32(0.5) * predictions.probabilities + np.float32(0.5 / 8)
        return replace(predictions, probabilities=unsure, blendshapes=blendshapes[: len(crops_rgb)])

    monkeypatch.setattr(FixedClassifier, "classify", with_blendshapes)
    results = evaluate_datasets(FixedClassifier(), datasets)
    assert results["nhfi"]["recall"]["neutral"] == 1.0
    assert results["nhfi-balanced"]["recall"]["neutral"] == 0.0
    assert {"ferplus-3573-balanced", "ferplus-3573-balanced-flip"} <= set(results)
    assert results["blendshapes-nhfi"]["median_correlation"] == 1.0


@pytest.mark.parametrize(("predicted", "right"), [(0.6, 0.9), (0.9, 0.6)])
def test_a_temperature_calibrates_to_the_labels(predicted, right):
    """Happiness has the probability ``predicted`` and is the label with frequency ``right``."""
    answers = np.full((100, 8), (1 - predicted) / 7, np.float32)
    answers[:, HAPPY] = predicted
    others = (HAPPY + 1 + np.arange(100) % 7) % 8
    labels = torch.from_numpy(np.where(np.arange(100) < 100 * right, HAPPY, others))
    calibration = calibrate_to_labels((answers, labels), (answers, labels))
    assert (calibration["temperature"] < 1) == (predicted < right)
    assert calibration["ece"] < 0.02


def test_latency_is_that_of_single_faces(datasets, monkeypatch):
    counts = []
    monkeypatch.setattr(
        FixedClassifier, "classify", lambda self, crops_rgb: counts.append(crops_rgb.shape)
    )
    result = latency(FixedClassifier(), datasets / "ferplus_test", threads=2)
    assert counts == [(1, 112, 112, 3)] * 5  # the first one warms up
    assert (result["faces"], result["threads"]) == (4, 2)
    assert 0 <= result["median_ms"] <= result["p95_ms"]
    assert re.fullmatch(r"\d+ cores of .+", result["machine"])


def test_the_card_is_written_into_the_model_folder(datasets, model, capsys):
    run(command, "--model", model, "--update-model-card", datasets)
    results = json.loads((model / "metrics.json").read_text())
    card = (model / "CARD.md").read_text()
    assert card.startswith("# untrained\n")
    assert f"| all | 4 | {results['ferplus-3573']['accuracy']:.1%} (" in card
    flipped = results["ferplus-without-duplicates-flip"]["accuracy"]
    assert f"| not in its train and valid splits, flip | 3 | {flipped:.1%} (" in card
    for name in ("confusion.png", "calibration.png"):
        assert cv2.imread(str(model / name)) is not None
    output = capsys.readouterr().out
    assert "ferplus-3573: images 4" in output
    assert "latency: faces 4" in output
    assert f"median {results['latency']['median_ms']:.1f} ms" in card
    assert "| Labeled Faces in the Wild | 2 | 3 | " in card
    assert "landmarks-lfwx-rotated: images 4" in output


@pytest.fixture
def images(astronaut, tmp_path) -> Path:
    """Two images of a face in a Parquet file, with votes, and one that does not decode."""
    face = astronaut[50:190, 160:290]
    encoded = [cv2.imencode(".png", image[..., ::-1])[1].tobytes() for image in (face, face // 2)]
    rows = {
        "name": ["face", "darker", "truncated"],
        "image": [*encoded, b"not an image"],
        "votes": votes_for(1, 1, 0).tolist(),
    }
    pq.write_table(pa.table(rows), tmp_path / "smiles_test.parquet")
    return tmp_path / "smiles_test.parquet"


def test_images_are_prepared_and_scored(images, tmp_path, capsys):
    html, figures = tmp_path / "new" / "page.html", tmp_path / "new" / "figures.json"
    words = ["--protocol", "ferplus-3573", "--protocol", "ferplus-official"]
    words += ["--json", figures, "--html", html, "--tight-crops"]
    run(command, "--model", "two_stream_small", "--data", images, *words)
    results = json.loads(figures.read_text())
    assert results["data"] == {"name": "smiles_test", "faces": 2, "undecodable": 1, "undetected": 0}
    assert "ferplus-argmax10" not in results
    assert results["ferplus-official"]["accuracy"] == 1.0
    assert "two_stream_small on smiles_test" in html.read_text()
    output = capsys.readouterr().out
    assert "1 undecodable (truncated)" in output
    assert "ferplus-3573-flip: images 2, accuracy (95%) 100.0% (100.0 to 100.0)" in output


def test_a_dataset_is_scored_without_preparation(datasets, model, capsys):
    run(command, "--model", model, "--data", datasets / "ferplus_test")
    assert "ferplus-argmax10: images 4" in capsys.readouterr().out


def test_the_help_lists_what_a_source_can_have(capsys):
    with pytest.raises(SystemExit) as ended:
        run(command, "--help")
    assert ended.value.code == 0
    output = capsys.readouterr().out
    assert [name for name in OPTIONS if f"--{name.replace('_', '-')}" not in output] == []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--data", "{}/nothing"], "nothing: no such file or folder"),
        (["--data", "{}/nothing", "--update-model-card", "{}"], "not allowed with argument --data"),
        (["--update-model-card", "{}", "--json", "{}/a.json"], "nothing but --model goes with it"),
        (["--update-model-card", "{}", "--split", "test"], "nothing but --model goes with it"),
        (["--update-model-card", "{}"], "ferplus_test/dataset.yaml: no such file"),
        (["--data", "{}/smiles_test.parquet", "--sides"], "unrecognized arguments: --sides"),
        (["--data", "{}/smiles_test.parquet", "--protocol", "x"], "invalid choice: 'x'"),
        (["--data", "{}", "--kind", "faces"], "expected votes, labels or landmarks, found faces"),
        (
            ["--data", "{}/dataset", "--split", "test"],
            "dataset: is a dataset, for which there is no --split",
        ),
    ],
)
def test_contradicting_command_lines_are_rejected(words, message, images, tmp_path, capsys):
    cv2.imwrite(str(tmp_path / "unlabeled.png"), np.zeros((8, 8, 3), np.uint8))
    write_dataset(tmp_path / "dataset", **SINGLE)
    with pytest.raises(SystemExit) as ended:
        run(command, "--model", "two_stream_small", *(word.format(tmp_path) for word in words))
    output = f"{ended.value.code} {capsys.readouterr().err}"
    assert message in output
