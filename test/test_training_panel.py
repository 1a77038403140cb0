"""How far votes let anybody come, on made-up votes whose truth is known."""

import numpy as np
import pytest

from fer_ros.labels import EMOTIONS, FERPLUS_TO_EMOTIONS
from training.panel import concentrations, reach
from training.votes import majority

PANEL = 10
STRENGTH = 12.0
COLUMNS = np.argsort(FERPLUS_TO_EMOTIONS)


def panels(shares: np.ndarray, seed: int) -> np.ndarray:
    """Ten votes (N, 10), a tenth of them "unknown", of what people say (N, 8), in our order."""
    whole = np.concatenate([0.9 * shares[:, COLUMNS], np.full((len(shares), 2), 0.05)], axis=1)
    return np.random.default_rng(seed).multinomial(PANEL, whole)


def made(pictures: int = 4000) -> tuple[np.ndarray, np.ndarray]:
    """What a model answers (N, 8) and what all people say (N, 8)."""
    random = np.random.default_rng(1)
    answers = random.dirichlet([0.5] * 8, pictures)
    drawn = random.standard_gamma(STRENGTH * (0.95 * answers + 0.05 / 8))
    return answers, drawn / drawn.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("votes", [np.zeros((0, 10), np.int64), np.eye(10, dtype=np.int64)[-1:]])
def test_nobody_saw_an_emotion(votes):
    with pytest.raises(ValueError, match="expected pictures with votes"):
        reach(np.full((len(votes), 8), 0.125), votes)


def test_how_people_differ_is_found_from_their_votes():
    answers, shares = made()
    votes = panels(shares, 2)[:, FERPLUS_TO_EMOTIONS]
    assert concentrations(answers, votes).sum(axis=1) == pytest.approx(STRENGTH, rel=0.1)


def test_what_other_people_would_say_is_told_without_them():
    answers, shares = made()
    votes = panels(shares, 2)
    found, labels = reach(answers, votes), majority(votes)
    again = majority(panels(shares, 3)) == labels
    assert found["pictures"] == len(votes)
    assert found["repeated"] == pytest.approx(again.mean(), abs=0.02)
    assert found["known"] == pytest.approx((shares.argmax(axis=1) == labels).mean(), abs=0.02)
    assert found["halves"] == pytest.approx(found["halves_drawn"], abs=0.02)
    assert found["halves"] < found["repeated"] < found["known"] < 1


def test_a_model_that_knows_nothing_and_is_sure_spoils_nothing():
    votes = panels(made(50)[1], 2)
    found = reach(np.eye(8)[np.arange(50) % 8], votes)
    assert 0 < found["repeated"] < found["known"] < 1


def test_people_of_one_mind_say_it_again():
    votes = np.eye(10, dtype=np.int64).repeat(20, axis=0) * PANEL
    answers = np.eye(10)[:, FERPLUS_TO_EMOTIONS].repeat(20, axis=0)
    found = reach(answers, votes)
    assert found["pictures"] == 20 * len(EMOTIONS)
    assert found["halves"] == 1
    assert found["repeated"] > 0.99
