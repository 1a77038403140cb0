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

from fer_ros.labels import EMOTIONS
from training.scores import (
    RECALL_HEAD,
    RESAMPLES,
    SCORE_HEAD,
    bootstrap,
    recall_rows,
    score_cells,
    scores,
    wilson,
)


def test_nothing_to_score():
    with pytest.raises(ValueError, match="expected labelled faces to score, found none"):
        scores(np.zeros((0, 8), np.float32), np.zeros(0, np.int64))


# Four faces: neutral, neutral read as happiness with 0.6, happiness, sadness.
LABELS = np.array([0, 0, 1, 2])
READ = np.eye(8, dtype=np.float32)[[0, 1, 1, 2]]
READ[1, :2] = 0.4, 0.6


def test_scores_by_hand():
    found = scores(READ, LABELS)
    assert found["pictures"] == 4
    assert found["accuracy"] == 0.75
    assert found["mean_recall"] == pytest.approx(2.5 / 3, abs=1e-4)
    assert found["recall"]["neutral"] == 0.5
    assert found["recall"]["happiness"] == 1.0
    assert found["recall"]["contempt"] is None
    assert found["recall_interval"]["contempt"] == [None, None]
    assert found["confusion"][0][:2] == [1, 1]
    assert found["ece"] == pytest.approx(0.6 / 4, abs=1e-4)
    assert found["nll"] == pytest.approx(-np.log(0.4) / 4, abs=1e-4)
    assert found["brier"] == pytest.approx((0.6**2 + 0.6**2) / 4, abs=1e-4)
    assert "kl_to_votes" not in found


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


def test_scores_are_those_of_torchmetrics():
    probabilities, labels = made_up(400)
    found = scores(probabilities, labels)
    seen, truth = torch.from_numpy(probabilities), torch.from_numpy(labels)
    expected = {
        "accuracy": multiclass_accuracy(seen, truth, 8, average="micro"),
        "mean_recall": multiclass_recall(seen, truth, 8, average="macro"),
        "macro_f1": multiclass_f1_score(seen, truth, 8, average="macro"),
        "ece": multiclass_calibration_error(seen, truth, 8, n_bins=15),
    }
    assert {name: found[name] for name in expected} == pytest.approx(
        {name: value.item() for name, value in expected.items()}, abs=1e-4
    )
    assert found["confusion"] == multiclass_confusion_matrix(seen, truth, 8).tolist()
    assert found["nll"] == pytest.approx(
        torch.nn.functional.nll_loss(seen.log(), truth).item(), abs=1e-4
    )
    json.dumps(found, allow_nan=False)


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
    found = np.stack(wilson(np.array([right]), np.array([total])))[:, 0]
    np.testing.assert_allclose(found, [low, high], atol=6e-5)


def test_bootstrap_draws_what_resampled_pictures_give():
    probabilities, labels = made_up(1600)
    right = probabilities.argmax(axis=1) == labels
    rng = np.random.default_rng(2)
    places = rng.integers(len(labels), size=(RESAMPLES, len(labels)))
    expected = np.percentile(right[places].mean(axis=1), (2.5, 97.5))
    confusion = np.array(scores(probabilities, labels)["confusion"])
    found = bootstrap(confusion)
    np.testing.assert_allclose(found["accuracy"], expected, atol=0.003)
    # all recalls rest on 200 pictures, so their mean is the accuracy but for chance
    np.testing.assert_allclose(found["mean_recall"], expected, atol=0.004)
    assert bootstrap(confusion) == found


def test_tables_for_people():
    found = scores(READ, LABELS, READ)
    assert len(score_cells(found)) == len(SCORE_HEAD)
    assert score_cells(found)[:2] == ["4", "75.0% (25.0 to 100.0)"]
    assert score_cells(found)[-1] == "0.000"
    assert score_cells(scores(READ, LABELS))[-1] == "-"
    rows = recall_rows(found)
    assert all(len(row) == len(RECALL_HEAD) for row in rows)
    assert [row[0] for row in rows] == list(EMOTIONS[:3])
    assert rows[0] == ["neutral", "2", "50.0% (9.4 to 90.5)", "happiness"]
    assert rows[1][-1] == "-"
