"""Blendshapes of a network against those of its teacher."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fer_ros.blendshapes import BLENDSHAPES

MIN_ACTIVE_STD = 0.05
"""A blendshape is active in a dataset when its standard deviation there is at least this."""


def blendshape_scores(
    predicted: NDArray[np.float32], teacher: NDArray[np.float32]
) -> dict[str, Any]:
    """Mean absolute error of all and Pearson correlation of the active ones.

    Both (N, 52); rows in which the teacher found no face, NaN, do not count. Raises ValueError when
    fewer than two are left.
    """
    known = np.isfinite(teacher).all(axis=1)
    if known.sum() < 2:
        raise ValueError("expected faces with blendshapes of the teacher, found fewer than two")
    values, truth = predicted[known].astype(np.float64), teacher[known].astype(np.float64)
    errors = np.abs(values - truth).mean(axis=0)
    active = np.flatnonzero(truth.std(axis=0) >= MIN_ACTIVE_STD)
    correlations = {
        BLENDSHAPES[i]: round(_correlation(values[:, i], truth[:, i]), 3) for i in active
    }
    return {
        "images": int(known.sum()),
        "mean_absolute_error": round(float(errors.mean()), 4),
        "active": len(active),
        "median_correlation": round(float(np.median(list(correlations.values()))), 3)
        if correlations
        else None,
        "correlation": correlations,
        "absolute_error": {
            name: round(float(error), 4) for name, error in zip(BLENDSHAPES, errors, strict=True)
        },
    }


def _correlation(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    """0 when one of the two never changes."""
    spread = first.std() * second.std()
    covariance = ((first - first.mean()) * (second - second.mean())).mean()
    return float(covariance / spread) if spread > 0 else 0.0
