"""Predictions of a model on the faces of a dataset, computed as on the robot."""

import numpy as np
from numpy.typing import NDArray

from fer_ros.classifier import Classifier
from fer_ros.io.progress import progress_bar
from fer_ros.types import FacePredictions
from training.datasets.shards import CROP_SLICE, gray_to_rgb
from training.metrics.class_priors import at_each_prior, evaluated_priors

_BATCH = 32


def predict(classifier: Classifier, crops: NDArray[np.uint8], description: str) -> FacePredictions:
    """Predict gray crops (N, 112, 112); ``description`` labels the progress bar."""
    starts = range(0, max(1, len(crops)), _BATCH)
    parts = [
        classifier.classify(gray_to_rgb(crops[start : start + _BATCH]))
        for start in progress_bar(starts, description=description)
    ]
    return FacePredictions.concatenate(parts)


def predict_arrays(
    classifier: Classifier, crops: NDArray[np.uint8], description: str
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Points (N, 68, 2) in crop pixels and probabilities (N, 8) of gray crops (N, 112, 112)."""
    predictions = predict(classifier, crops, description)
    return predictions.points_xy, predictions.probabilities


def predict_with_flip(
    classifier: Classifier, padded_crops: NDArray[np.uint8]
) -> dict[str, NDArray[np.float32]]:
    """Probabilities (N, 8) of padded crops (N, 144, 144): plain, and averaged with the mirrored.

    At each class prior of the model (``training.metrics.class_priors``).
    """
    crops = padded_crops[:, CROP_SLICE, CROP_SLICE]
    plain = predict_arrays(classifier, crops, "plain")[1]
    mirrored = predict_arrays(classifier, crops[:, :, ::-1], "mirrored")[1]
    by_prior = at_each_prior({"": plain, "-mirrored": mirrored}, classifier.manifest)
    return {
        name + flip: probabilities
        for name in evaluated_priors(classifier.manifest)
        for flip, probabilities in {
            "": by_prior[name],
            "-flip": (by_prior[name] + by_prior[f"{name}-mirrored"]) * np.float32(0.5),
        }.items()
    }
