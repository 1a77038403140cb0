"""Loss functions, and targets made of votes."""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from fer_ros.config import ValidatedConfig, check_choice, config_field
from fer_ros.types import CROP_SIZE_PX

TARGETS = ("votes", "sampled", "majority")


@dataclass(frozen=True)
class LossConfig(ValidatedConfig):
    """Targets from ambiguous labels, and the weighting of rare classes."""

    targets: str = config_field(
        "votes",
        "votes: their distribution; sampled: one of them each time; majority: the most frequent",
    )
    label_smoothing: float = config_field(0.0, "label smoothing factor", 0.0, 1.0)
    logit_adjustment: bool = config_field(
        False, "logit adjustment (Menon et al., 2021) by the class shares of each dataset"
    )
    blendshape_weight: float = config_field(
        0.0, "weight of the blendshapes' error in the loss", 0.0, 100.0
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("targets", self.targets, TARGETS)


def make_targets(
    votes: Tensor,
    labels: Tensor,
    config: LossConfig,
    generator: torch.Generator | None = None,
    classes: int | None = None,
) -> Tensor:
    """Targets (B, C) of vote distributions (B, C) and labels (B,); rows add up to 1.

    Labels are smoothed over the first ``classes``, by default over all.

    Barsoum et al. (2016, section 3) call ``votes`` CEL, ``sampled`` PLD and ``majority`` MV;
    MV drops undecided images there. ``labels`` break ties as in all metrics.
    """
    columns = votes.shape[1]
    if config.targets == "majority":
        votes = F.one_hot(labels, columns).to(votes)
    elif config.targets == "sampled" and len(votes):
        sampled = torch.multinomial(votes, 1, generator=generator)[:, 0]
        votes = F.one_hot(sampled, columns).to(votes)
    classes = classes or columns
    even = (torch.arange(columns, device=votes.device) < classes) / classes
    return (1 - config.label_smoothing) * votes + config.label_smoothing * even


class LogitAdjustedCrossEntropy:
    """Cross-entropy of logits (B, C) and targets (B, C), with logit adjustment.

    Adding the logarithm of the class shares of a face's dataset to its logits makes the bare
    logits assume that all classes are equally frequent (Menon et al., 2021, section 4.2),
    whatever the shares in each of several datasets are.
    """

    def __init__(self, config: LossConfig) -> None:
        self._adjusts = config.logit_adjustment

    def offsets(self, priors: Tensor) -> Tensor:
        """What is added to the logits of faces whose datasets have the shares ``priors`` (B, C).

        Classes without any face in a dataset are not adjusted.
        """
        return self._adjusts * torch.where(priors > 0, priors, 1.0).log()

    def __call__(self, logits: Tensor, targets: Tensor, offsets: Tensor) -> Tensor:
        """The mean over the batch, in float32 within an autocast context too."""
        with torch.autocast(logits.device.type, enabled=False):
            return F.cross_entropy(logits.float() + offsets, targets)


class BlendshapeLoss:
    """Squared error of blendshapes, each divided by its variance over the training faces."""

    _MIN_VARIANCE = 0.002  # or blendshapes that rarely change would outweigh the others

    def __init__(self, blendshapes: Tensor) -> None:
        """``blendshapes``: those of the training faces (N, 52), with NaN where they are unknown.

        Raises ValueError when fewer than two faces have any.
        """
        known = blendshapes[blendshapes.isfinite().all(dim=1)]
        if len(known) < 2:
            raise ValueError(
                "loss.blendshape_weight: expected datasets with blendshapes, found none: run "
                "training.label_blendshapes, or set it to 0"
            )
        self._scale = 1 / (known.var(dim=0) + self._MIN_VARIANCE)

    def __call__(self, predicted: Tensor, target: Tensor, known: Tensor) -> Tensor:
        """The mean over the faces of a batch that are ``known`` (B, 1); values are (B, 52)."""
        with torch.autocast(predicted.device.type, enabled=False):
            scale = self._scale.to(predicted.device)
            error = ((predicted.float() - target) ** 2 * scale).mean(dim=1, keepdim=True)
            return (error * known).sum() / known.sum().clamp_min(1)


def wing_loss(
    predicted: Tensor, target: Tensor, width_px: float = 8.0, curvature_px: float = 2.0
) -> Tensor:
    """Wing loss (Feng et al., 2018) in pixels of the crop.

    ``predicted`` and ``target``: points (B, 68, 2) in fractions of the crop.
    """
    distance = (predicted - target).abs() * CROP_SIZE_PX
    offset = width_px - width_px * math.log1p(width_px / curvature_px)
    near = width_px * torch.log1p(distance / curvature_px)
    return torch.where(distance < width_px, near, distance - offset).mean()
