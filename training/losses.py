"""What a network is punished for: targets made of votes, and the cross-entropy against them."""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from fer_ros.config import Checked, setting

TARGETS = ("votes", "draw", "majority")


@dataclass(frozen=True)
class LossConfig(Checked):
    """How labels that people disagree on, and rare ones, are learned."""

    targets: str = setting(
        "votes",
        "votes: their distribution; draw: one of them each time; majority: the most frequent",
    )
    label_smoothing: float = setting(0.0, "share that all classes get alike", 0.0, 1.0)
    logit_adjustment: float = setting(0.0, "how far rare classes are evened out; 1: all", 0.0, 2.0)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.targets not in TARGETS:
            raise ValueError(f"targets: expected {', '.join(TARGETS)}, got {self.targets!r}")


def make_targets(
    votes: Tensor, config: LossConfig, generator: torch.Generator | None = None
) -> Tensor:
    """Targets (B, C) of vote distributions (B, C); rows add up to 1.

    ``votes`` and ``draw`` are CEL and PLD of Barsoum et al. (2016, section 3), ``majority`` their
    MV without the loss of undecided pictures.
    """
    classes = votes.shape[1]
    if config.targets == "majority":
        votes = F.one_hot(votes.argmax(dim=1), classes).to(votes)
    elif config.targets == "draw" and len(votes):
        drawn = torch.multinomial(votes, 1, generator=generator)[:, 0]
        votes = F.one_hot(drawn, classes).to(votes)
    return (1 - config.label_smoothing) * votes + config.label_smoothing / classes


class Loss:
    """Cross-entropy of logits (B, C) and targets (B, C), with logit adjustment.

    Adding the logarithm of the ``prior`` (C,) to the logits in training makes the bare logits
    answer as if all classes were equally frequent (Menon et al., 2021, section 4.2). Classes
    without any picture have no prior: they are not adjusted.
    """

    def __init__(self, prior: Tensor, config: LossConfig) -> None:
        known = torch.where(prior > 0, prior, 1.0)
        self._offset = config.logit_adjustment * known.log()

    def __call__(self, logits: Tensor, targets: Tensor) -> Tensor:
        """The mean over the batch."""
        return F.cross_entropy(logits.float() + self._offset.to(logits.device), targets)


def clip_gradient(network: nn.Module, largest: float, loss: float) -> None:
    """Shortens the gradient of ``loss`` to ``largest``, ahead of a step of the optimizer.

    ValueError, one line, when one of the two is not a finite number: no step should follow.
    """
    norm = nn.utils.clip_grad_norm_(network.parameters(), largest)
    if not math.isfinite(loss) or not norm.isfinite():
        raise ValueError(
            "the loss is not a number any more: lower the learning rate, or look at the data"
        )
