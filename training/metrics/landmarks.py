"""Errors of landmarks."""

from torch import Tensor

from fer_ros.landmarks68 import OUTER_EYE_CORNERS


def nme(predicted: Tensor, target: Tensor) -> Tensor:
    """Mean error (B,) of points (B, 68, 2) over the distance of the outer eye corners."""
    left, right = OUTER_EYE_CORNERS
    eyes = (target[:, left] - target[:, right]).norm(dim=-1)
    return (predicted - target).norm(dim=-1).mean(dim=1) / eyes
