"""Rows of predictions."""

import numpy as np

from fer_ros.evaluation.predictions import NO_LABEL, FacePrediction

NOTHING = np.full(8, np.nan)


def row(
    stamp_s: float,
    face: str = "f1",
    emotion: int = 1,
    label: int = NO_LABEL,
    target_face: str = "ann",
):
    shares = NOTHING if emotion == NO_LABEL else 0.8 * np.eye(8)[emotion] + 0.025
    box = np.full(4, np.nan) if not face else np.array([1.234, 2, 30, 40.0])
    return FacePrediction(
        stamp_s, face, box, emotion, label, target_face if label != NO_LABEL else "", shares, shares
    )
