"""Calibration of a network's outputs as probabilities of the label."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fer_ros.evaluation.metrics.classification import calibration_bins, expected_calibration_error
from training.calibration import fit_temperature
from training.metrics.classification import MIN_PROBABILITY


def calibrate_to_labels(
    valid: tuple[NDArray[np.float32], Tensor], test: tuple[NDArray[np.float32], Tensor]
) -> dict[str, Any]:
    """Calibration of probabilities (N, 8) as probabilities of the labels (N,), by split.

    The network's temperature makes them shares of the votes. Here a second one, ``temperature``, is
    fitted to the labels of ``valid``; ``ece`` is then the error on ``test``.
    """
    (fitted, labels), (test_probabilities, truth) = valid, test
    temperature = fit_temperature(_logarithm(fitted), labels)
    probabilities = (_logarithm(test_probabilities) / temperature).softmax(dim=1).numpy()
    ece = expected_calibration_error(calibration_bins(truth.numpy(), probabilities))
    return {"temperature": round(temperature, 4), "ece": round(float(ece), 4)}


def _logarithm(probabilities: NDArray[np.float32]) -> Tensor:
    return torch.from_numpy(probabilities).clamp_min(MIN_PROBABILITY).log()
