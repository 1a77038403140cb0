"""Test-time augmentation (horizontal flip) of the first prediction for a face.

A new face has no earlier predictions to be smoothed with. Its mirror image shows the same
expression, and the mean of both predictions is right more often (rows "flip" of the model cards).
Faces in still images are always new.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from fer_ros.blendshapes import MIRRORED_BLENDSHAPES
from fer_ros.types import FacePredictions


def add_mirrored(crops_rgb: NDArray[np.uint8], rows: Sequence[int]) -> NDArray[np.uint8]:
    """Crops (N, 112, 112, 3), followed by the mirror images of ``rows``."""
    if not rows:
        return crops_rgb
    return np.concatenate([crops_rgb, crops_rgb[list(rows), :, ::-1]])


def average_mirrored(predictions: FacePredictions, rows: Sequence[int]) -> FacePredictions:
    """Predictions of N crops from those of ``add_mirrored``.

    Probabilities and blendshapes are averaged; landmarks are those of the crop.
    """
    if not rows:
        return predictions
    count = len(predictions) - len(rows)
    plain, mirrored, chosen = predictions[:count], predictions[count:], list(rows)
    probabilities = plain.probabilities.copy()
    probabilities[chosen] = (probabilities[chosen] + mirrored.probabilities) / 2
    if plain.blendshapes is None or mirrored.blendshapes is None:
        return replace(plain, probabilities=probabilities)
    blendshapes = plain.blendshapes.copy()
    swapped = mirrored.blendshapes[:, list(MIRRORED_BLENDSHAPES)]
    blendshapes[chosen] = (blendshapes[chosen] + swapped) / 2
    return replace(plain, probabilities=probabilities, blendshapes=blendshapes)
