"""Predictions at each class prior, and accuracy by coverage."""

from dataclasses import replace

import numpy as np
import pytest

from fer_ros.inference.model_store import ModelManifest
from fer_ros.inference.priors import Prior
from training.metrics.class_priors import COVERAGES, accuracy_by_coverage, at_each_prior

PLAIN = ModelManifest("small", "two_stream", "weights.safetensors", "0" * 64)
SHARES = (0.5, 0.1, 0.1, 0.1, 0.05, 0.05, 0.05, 0.05)
ANSWERS = np.array([[0.2, 0.3, 0.1, 0.1, 0.1, 0.1, 0.05, 0.05]], np.float32)


def test_a_model_without_priors_has_one_prior():
    by_prior = at_each_prior({"": ANSWERS, "-flip": ANSWERS}, PLAIN)
    assert list(by_prior) == ["", "-flip"]
    assert by_prior[""] is ANSWERS


def test_names_without_a_suffix_are_of_the_natural_prior():
    manifest = replace(PLAIN, priors={"balanced": Prior(), "natural": Prior(1.0, SHARES)})
    by_prior = at_each_prior({"": ANSWERS, "-flip": ANSWERS}, manifest)
    assert list(by_prior) == ["", "-flip", "-balanced", "-balanced-flip"]
    assert by_prior[""].argmax() == 0
    np.testing.assert_allclose(by_prior["-balanced"], ANSWERS, rtol=1e-6)


@pytest.mark.parametrize("count", [1, 10])
def test_accuracy_by_coverage_starts_with_the_most_confident(count):
    sure = np.linspace(0.9, 0.3, count)
    probabilities = np.zeros((count, 8), np.float32)
    probabilities[:, 0], probabilities[:, 1] = sure, 1 - sure
    probabilities = probabilities.clip(0.0, 0.95)
    labels = probabilities.argmax(axis=1)
    labels[probabilities.max(axis=1).argmin()] = 7  # the least sure one is wrong
    curve = accuracy_by_coverage(probabilities[::-1], labels[::-1])
    assert curve["coverage"] == list(COVERAGES)
    assert curve["accuracy"] == ([0.0] * 6 if count == 1 else [0.9] + [1.0] * 5)
