"""The label ceiling of synthetic votes whose population is known."""

import numpy as np
import pytest

from fer_ros.emotions import EMOTIONS, FERPLUS_TO_EMOTIONS
from training.datasets.ferplus_votes import majority
from training.metrics.annotator_agreement import concentrations, estimate_annotator_agreement

PANEL = 10
STRENGTH = 12.0
COLUMNS = np.argsort(FERPLUS_TO_EMOTIONS)


def panels(shares: np.ndarray, seed: int) -> np.ndarray:
    """Ten votes (N, 10), a tenth of them "unknown", of what people say (N, 8), in our order."""
    whole = np.concatenate([0.9 * shares[:, COLUMNS], np.full((len(shares), 2), 0.05)], axis=1)
    return np.random.default_rng(seed).multinomial(PANEL, whole)


def synthetic_votes(images: int = 4000) -> tuple[np.ndarray, np.ndarray]:
    """Predictions of a model (N, 8) and the votes of the population (N, 8)."""
    random = np.random.default_rng(1)
    predictions = random.dirichlet([0.5] * 8, images)
    drawn = random.standard_gamma(STRENGTH * (0.95 * predictions + 0.05 / 8))
    return predictions, drawn / drawn.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("votes", [np.zeros((0, 10), np.int64), np.eye(10, dtype=np.int64)[-1:]])
def test_no_votes_for_emotions(votes):
    with pytest.raises(ValueError, match="expected images with votes"):
        estimate_annotator_agreement(np.full((len(votes), 8), 0.125), votes)


def test_disagreement_is_estimated_from_votes():
    predictions, shares = synthetic_votes()
    votes = panels(shares, 2)[:, FERPLUS_TO_EMOTIONS]
    assert concentrations(predictions, votes).sum(axis=1) == pytest.approx(STRENGTH, rel=0.1)


def test_agreement_of_other_annotators_is_estimated():
    predictions, shares = synthetic_votes()
    votes = panels(shares, 2)
    agreement, labels = estimate_annotator_agreement(predictions, votes), majority(votes)
    again = majority(panels(shares, 3)) == labels
    assert agreement["images"] == len(votes)
    assert agreement["reannotation_agreement"] == pytest.approx(again.mean(), abs=0.02)
    assert agreement["population_majority_agreement"] == pytest.approx(
        (shares.argmax(axis=1) == labels).mean(), abs=0.02
    )
    assert agreement["split_half_observed"] == pytest.approx(
        agreement["split_half_simulated"], abs=0.02
    )
    assert (
        agreement["split_half_observed"]
        < agreement["reannotation_agreement"]
        < agreement["population_majority_agreement"]
        < 1
    )


def test_a_wrong_confident_model_does_not_bias_the_estimate():
    votes = panels(synthetic_votes(50)[1], 2)
    agreement = estimate_annotator_agreement(np.eye(8)[np.arange(50) % 8], votes)
    assert 0 < agreement["reannotation_agreement"] < agreement["population_majority_agreement"] < 1


def test_an_image_may_have_fewer_votes():
    votes = np.zeros((30, 10), np.int64)
    votes[:, 0] = PANEL
    votes[::3, 0] -= 1
    agreement = estimate_annotator_agreement(np.eye(8)[np.zeros(30, int)], votes)
    assert agreement["split_half_observed"] == 1


def test_unanimous_votes_are_repeated():
    votes = np.eye(10, dtype=np.int64).repeat(20, axis=0) * PANEL
    predictions = np.eye(10)[:, FERPLUS_TO_EMOTIONS].repeat(20, axis=0)
    agreement = estimate_annotator_agreement(predictions, votes)
    assert agreement["images"] == 20 * len(EMOTIONS)
    assert agreement["split_half_observed"] == 1
    assert agreement["reannotation_agreement"] > 0.99
