"""Probabilities of a model at each of its class priors, and accuracy by coverage.

Results at the natural prior have no suffix; those at equal class frequencies have ``-balanced``. A
model without priors assumes the class frequencies of its training data.
"""

import numpy as np
from numpy.typing import NDArray

from fer_ros.config import BALANCED, NATURAL
from fer_ros.inference.model_store import ModelManifest
from fer_ros.inference.priors import Prior

COVERAGES = (1.0, 0.9, 0.8, 0.7, 0.6, 0.5)


def evaluated_priors(manifest: ModelManifest) -> dict[str, Prior | None]:
    """The prior of each suffix of a name."""
    if not manifest.priors:
        return {"": None}
    return {"": manifest.priors[NATURAL], f"-{BALANCED}": manifest.priors[BALANCED]}


def at_each_prior(
    predictions: dict[str, NDArray[np.float32]], manifest: ModelManifest
) -> dict[str, NDArray[np.float32]]:
    """Probabilities (N, 8) by suffix, converted from equal frequencies to each prior of a model."""
    return {
        name + suffix: prior.apply(probabilities, manifest.temperature) if prior else probabilities
        for name, prior in evaluated_priors(manifest).items()
        for suffix, probabilities in predictions.items()
    }


def accuracy_by_coverage(
    probabilities: NDArray[np.float32], labels: NDArray[np.int64]
) -> dict[str, list[float]]:
    """Accuracy by coverage (El-Yaniv and Wiener, 2010), most confident predictions first.

    The confidence is the probability of the predicted emotion.
    """
    order = np.argsort(-probabilities.max(axis=1), kind="stable")
    is_correct = (probabilities.argmax(axis=1) == labels)[order]
    counts = [max(1, round(share * len(labels))) for share in COVERAGES]
    accuracy = [round(float(is_correct[:count].mean()), 4) for count in counts]
    return {"coverage": list(COVERAGES), "accuracy": accuracy}
