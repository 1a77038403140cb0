"""Answers for other frequencies of the emotions."""

from dataclasses import replace

import numpy as np
import pytest

from fer_ros.classifier import Classifier
from fer_ros.config import ClassifierConfig
from fer_ros.inference.model_store import (
    InputSpec,
    ModelError,
    ModelManifest,
    read_manifest,
    write_manifest,
)
from fer_ros.inference.priors import Prior, parse_priors, select_prior
from fer_ros.models import build_model
from fer_ros.models.checkpoint import save_model
from fer_ros.models.wrapper import FaceNetwork

SHARES = (0.4, 0.2, 0.1, 0.1, 0.05, 0.05, 0.05, 0.05)
ANSWERS = np.array([[0.3, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1], [0.125] * 8], np.float32)


def test_no_face() -> None:
    assert Prior(1.0, SHARES).apply(np.zeros((0, 8), np.float32), 1.0).shape == (0, 8)


def test_equal_frequencies_change_nothing() -> None:
    np.testing.assert_allclose(Prior().apply(ANSWERS, 1.0), ANSWERS, rtol=1e-6)
    np.testing.assert_allclose(Prior(1.0, (3.0,) * 8).apply(ANSWERS, 1.0), ANSWERS, rtol=1e-6)


def test_other_frequencies_follow_the_rule_of_bayes() -> None:
    expected = ANSWERS * SHARES
    expected /= expected.sum(axis=1, keepdims=True)
    weighted = Prior(1.0, SHARES).apply(ANSWERS, 1.0)
    np.testing.assert_allclose(weighted, expected, rtol=1e-5)
    assert weighted.dtype == np.float32


def test_the_temperature_is_that_of_the_prior() -> None:
    """Logits divided by 2 before are divided by 0.5 instead."""
    logits = np.log(ANSWERS) * 2
    expected = np.exp(logits / 0.5) / np.exp(logits / 0.5).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(Prior(0.5).apply(ANSWERS, 2.0), expected, rtol=1e-5)


def test_a_probability_of_zero_stays_finite() -> None:
    sure = np.eye(8, dtype=np.float32)[:1]
    weighted = Prior(0.5, SHARES).apply(sure, 1.0)
    assert np.isfinite(weighted).all()
    assert weighted[0, 0] == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ([], "priors: expected a mapping"),
        ({"natural": 1}, "priors.natural: expected temperature and shares"),
        ({"natural": {"share": [1]}}, "priors.natural: expected temperature and shares"),
        ({"natural": {"shares": [1, 2]}}, "priors.natural: shares: expected 8 numbers above 0"),
        ({"natural": {"shares": [0] * 8}}, "priors.natural: shares: expected 8 numbers above 0"),
        ({"natural": {"shares": ["a"] * 8}}, "priors.natural: could not convert"),
        ({"natural": {"shares": 1}}, "priors.natural: 'int' object"),
        ({"balanced": {"temperature": 0}}, "priors.balanced: temperature: expected a number"),
    ],
)
def test_invalid_values_are_reported(values: object, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        parse_priors(values)


def test_manifests_keep_priors(tmp_path) -> None:
    manifest = ModelManifest("small", "two_stream", "weights.safetensors", "0" * 64)
    manifest = replace(manifest, folder=tmp_path)
    write_manifest(manifest)
    assert "priors" not in (tmp_path / "model.yaml").read_text()
    assert read_manifest(tmp_path).priors == {}
    priors = {"balanced": Prior(0.9), "natural": Prior(1.1, SHARES)}
    write_manifest(replace(manifest, priors=priors))
    assert read_manifest(tmp_path).priors == priors
    path = tmp_path / "model.yaml"
    path.write_text(path.read_text().replace("temperature: 0.9", "temperature: -1"))
    with pytest.raises(ModelError, match=r"priors.balanced: temperature: expected a number above"):
        read_manifest(tmp_path)


SELECTED = Prior(1.3, (3.0, *[1.0] * 7))
OWN = "3, 1, 1, 1, 1, 1, 1, 1"


@pytest.mark.parametrize(
    ("priors", "setting", "selected"),
    [
        ({}, "balanced", None),
        ({"balanced": Prior(1.3)}, "balanced", Prior(1.3)),
        ({"balanced": Prior(1.3), "natural": Prior(1.1, SHARES)}, "natural", Prior(1.1, SHARES)),
        ({"balanced": Prior(1.3)}, OWN, SELECTED),
    ],
)
def test_the_setting_selects_a_prior(priors, setting, selected) -> None:
    assert select_prior(priors, setting) == selected


@pytest.mark.parametrize(
    ("priors", "setting"), [({}, "natural"), ({}, OWN), ({"balanced": Prior()}, "natural")]
)
def test_a_prior_that_a_model_lacks_is_an_error(priors, setting) -> None:
    with pytest.raises(ValueError, match=r"^classifier.prior '.*' needs the prior '.*, found "):
        select_prior(priors, setting)


@pytest.mark.parametrize(
    "setting", ["", "even", "1", "1,1,1,1,1,1,1", "1,1,1,1,1,1,1,0", "nan,1,1,1,1,1,1,1"]
)
def test_invalid_settings_are_reported(setting) -> None:
    with pytest.raises(ValueError, match="prior: expected balanced, natural or 8 numbers above 0"):
        ClassifierConfig(prior=setting)


def test_a_classifier_applies_its_prior(tmp_path) -> None:
    network = FaceNetwork(build_model("vgg13"), InputSpec(size_px=64), temperature=1.7)
    saved = save_model(network, tmp_path, "vgg13")
    priors = {"balanced": Prior(1.3), "natural": Prior(1.1, SHARES)}
    write_manifest(replace(saved, priors=priors))
    crops = np.random.default_rng(0).integers(0, 256, (2, 112, 112, 3), np.uint8)

    def read(prior):
        config = ClassifierConfig(model=str(tmp_path), device="cpu", threads=1, prior=prior)
        return Classifier(config).classify(crops).probabilities

    balanced, natural = read("balanced"), read("natural")
    np.testing.assert_allclose(natural, priors["natural"].apply(balanced, 1.3), atol=1e-5)
    assert (balanced != natural).all()


def test_a_model_without_priors_is_rejected_with_the_missing_prior(tmp_path) -> None:
    network = FaceNetwork(build_model("vgg13"), InputSpec(size_px=64))
    save_model(network, tmp_path, "vgg13")
    with pytest.raises(ModelError, match=r"classifier.prior 'natural' needs the prior 'natural'"):
        Classifier(ClassifierConfig(model=str(tmp_path), prior="natural"))
