"""Figures of probabilities against labels, by hand and against the library's."""

import json

import numpy as np
import pytest
import torch
from torchmetrics.functional.classification import (
    multiclass_accuracy,
    multiclass_calibration_error,
    multiclass_confusion_matrix,
    multiclass_f1_score,
    multiclass_recall,
)

from fer_ros.emotions import EMOTIONS
from training.metrics.classification import (
    RECALL_HEAD,
    RESAMPLES,
    SCORE_HEAD,
    bootstrap,
    bootstrap_persons,
    confusions_of_persons,
    recall_rows,
    score_cells,
    scores,
    wilson,
)


def test_nothing_to_score():
    with pytest.raises(ValueError, match="expected labeled faces to score, found none"):
        scores(np.zeros((0, 8), np.float32), np.zeros(0, np.int64))


# Four faces: neutral, neutral read as happiness with 0.6, happiness, sadness.
LABELS = np.array([0, 0, 1, 2])
READ = np.eye(8, dtype=np.float32)[[0, 1, 1, 2]]
READ[1, :2] = 0.4, 0.6


def test_scores_match_hand_computation():
    metrics = scores(READ, LABELS)
    assert metrics["images"] == 4
    assert metrics["accuracy"] == 0.75
    assert metrics["balanced_accuracy"] == pytest.approx(2.5 / 3, abs=1e-4)
    assert metrics["recall"]["neutral"] == 0.5
    assert metrics["recall"]["happiness"] == 1.0
    assert metrics["recall"]["contempt"] is None
    assert metrics["recall_interval"]["contempt"] == [None, None]
    assert metrics["confusion"][0][:2] == [1, 1]
    assert metrics["ece"] == pytest.approx(0.6 / 4, abs=1e-4)
    assert metrics["nll"] == pytest.approx(-np.log(0.4) / 4, abs=1e-4)
    assert metrics["brier"] == pytest.approx((0.6**2 + 0.6**2) / 4, abs=1e-4)
    assert "kl_to_votes" not in metrics


@pytest.mark.parametrize(
    ("votes", "divergence"),
    [
        (READ, 0.0),
        (np.eye(8, dtype=np.float32)[LABELS], -np.log(0.4) / 4),
        (np.eye(8, dtype=np.float32)[[0, 1, 1, 3]], (-np.log(0.6) - np.log(1e-9)) / 4),
    ],
)
def test_divergence_from_the_votes(votes, divergence):
    assert scores(READ, LABELS, votes)["kl_to_votes"] == pytest.approx(divergence, abs=1e-4)


@pytest.mark.parametrize(
    ("votes", "error"),
    [
        (READ, 0.0),  # as sure as people are
        (np.eye(8, dtype=np.float32)[LABELS], 0.6 / 4),
        (np.full((4, 8), 0.5, np.float32), (3 * 0.5 + 0.1) / 4),
    ],
)
def test_calibration_towards_the_votes(votes, error):
    assert scores(READ, LABELS, votes)["ece_to_votes"] == pytest.approx(error, abs=1e-4)
    assert "ece_to_votes" not in scores(READ, LABELS)


def made_up(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Labels of all emotions, and probabilities that lean towards them."""
    rng = np.random.default_rng(1)
    labels = np.arange(count) % 8
    logits = rng.normal(size=(count, 8)) + 1.5 * np.eye(8)[labels]
    return torch.from_numpy(logits).float().softmax(dim=1).numpy(), labels


def test_scores_equal_those_of_torchmetrics():
    probabilities, labels = made_up(400)
    metrics = scores(probabilities, labels)
    seen, truth = torch.from_numpy(probabilities), torch.from_numpy(labels)
    expected = {
        "accuracy": multiclass_accuracy(seen, truth, 8, average="micro"),
        "balanced_accuracy": multiclass_recall(seen, truth, 8, average="macro"),
        "macro_f1": multiclass_f1_score(seen, truth, 8, average="macro"),
        "ece": multiclass_calibration_error(seen, truth, 8, n_bins=15),
    }
    assert {name: metrics[name] for name in expected} == pytest.approx(
        {name: value.item() for name, value in expected.items()}, abs=1e-4
    )
    assert metrics["confusion"] == multiclass_confusion_matrix(seen, truth, 8).tolist()
    assert metrics["nll"] == pytest.approx(
        torch.nn.functional.nll_loss(seen.log(), truth).item(), abs=1e-4
    )
    json.dumps(metrics, allow_nan=False)


@pytest.mark.parametrize(
    ("right", "total", "low", "high"),
    [
        (0, 0, np.nan, np.nan),
        (0, 10, 0.0, 0.2775),
        (5, 10, 0.2366, 0.7634),
        (10, 10, 0.7225, 1.0),
        (81, 263, 0.2553, 0.3662),  # Newcombe (1998), table I
        (15, 148, 0.0624, 0.1605),
    ],
)
def test_wilsons_interval(right, total, low, high):
    interval = np.stack(wilson(np.array([right]), np.array([total])))[:, 0]
    np.testing.assert_allclose(interval, [low, high], atol=6e-5)


def test_bootstrap_equals_resampled_images():
    probabilities, labels = made_up(1600)
    right = probabilities.argmax(axis=1) == labels
    rng = np.random.default_rng(2)
    places = rng.integers(len(labels), size=(RESAMPLES, len(labels)))
    expected = np.percentile(right[places].mean(axis=1), (2.5, 97.5))
    confusion = np.array(scores(probabilities, labels)["confusion"])
    intervals = bootstrap(confusion)
    np.testing.assert_allclose(intervals["accuracy"], expected, atol=0.003)
    # all recalls rest on 200 images, so their mean is the accuracy but for chance
    np.testing.assert_allclose(intervals["balanced_accuracy"], expected, atol=0.004)
    assert bootstrap(confusion) == intervals


def test_tables_as_text():
    metrics = scores(READ, LABELS, READ)
    assert len(score_cells(metrics)) == len(SCORE_HEAD)
    assert score_cells(metrics)[:2] == ["4", "75.0% (25.0 to 100.0)"]
    assert score_cells(metrics)[-1] == "0.000"
    assert score_cells(scores(READ, LABELS))[-1] == "-"
    rows = recall_rows(metrics)
    assert all(len(row) == len(RECALL_HEAD) for row in rows)
    assert [row[0] for row in rows] == list(EMOTIONS[:3])
    assert rows[0] == ["neutral", "2", "50.0% (9.4 to 90.5)", "happiness"]
    assert rows[1][-1] == "-"


def test_persons_are_resampled_with_all_their_images():
    """Ten persons with ten equal images each: as uncertain as ten images, not as a hundred."""
    labels = np.repeat(np.arange(10) % 2, 10)
    predictions = np.repeat(np.array([0, 1, 0, 1, 0, 0, 1, 1, 0, 1]), 10)
    persons = np.repeat(np.array([f"p{i}" for i in range(10)]), 10)
    read = np.eye(8, dtype=np.float32)[predictions]
    grouped, single = scores(read, labels, persons=persons), scores(read, labels)
    assert grouped["persons"] == 10
    assert grouped["accuracy"] == single["accuracy"]
    width = {
        name: metrics["accuracy_interval"][1] - metrics["accuracy_interval"][0]
        for name, metrics in {"grouped": grouped, "single": single}.items()
    }
    assert width["grouped"] > 2.5 * width["single"]
    low, high = grouped["recall_interval"]["neutral"]
    assert low < grouped["recall"]["neutral"] < high
    assert grouped["recall_interval"]["contempt"] == [None, None]
    json.dumps(grouped, allow_nan=False)


@pytest.mark.parametrize(
    ("persons", "count"),
    [(["a", "a", "a", "a"], 1), (["a", "b", "a", "b"], 2), (["a", "", "", "a"], 3)],
)
def test_unknown_persons_are_one_each(persons, count):
    matrices = confusions_of_persons(LABELS, READ.argmax(axis=1), np.array(persons))
    assert len(matrices) == count
    assert matrices.sum(axis=0)[0, :2].tolist() == [1, 1]
    assert matrices.sum() == 4


def test_one_person_has_no_interval():
    intervals = bootstrap_persons(confusions_of_persons(LABELS, LABELS, np.array(["a"] * 4)))
    assert intervals["accuracy_interval"] == [1.0, 1.0]


def test_without_any_known_person_images_are_resampled():
    for persons in (["", "", "", ""], ["film", "film", "film", "film"], ["", "film", "film", ""]):
        assert scores(READ, LABELS, persons=np.array(persons)) == scores(READ, LABELS)
