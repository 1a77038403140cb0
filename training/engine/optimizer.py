"""Optimizers and schedules of learning rate and weight decay."""

import math
from typing import Any, Protocol, cast

from timm.optim import create_optimizer_v2, get_optimizer_class, get_optimizer_info
from timm.scheduler import CosineLRScheduler
from torch import nn
from torch.optim import Optimizer

from training.config import FineTuningOptimizerConfig, OptimizerConfig


class Schedule(Protocol):
    """Sets the rates of an optimizer."""

    def step_update(self, num_updates: int) -> object:
        """Set the rates for the step with this number, counted from 0 over all epochs."""
        ...


def parameter_groups(
    network: nn.Module,
    config: FineTuningOptimizerConfig,
    backbone_blocks: list[list[nn.Parameter]],
) -> list[dict]:
    """Parameter groups by learning rate and weight decay; vectors are not decayed.

    ``backbone_blocks``: parameters of the pretrained backbone by block, from the input on. Their
    rate is scaled by ``backbone_lr_scale``, and by ``layer_decay`` for each block above.
    """
    top_lr = config.lr * config.backbone_lr_scale
    rates = {
        id(value): top_lr * config.layer_decay**blocks_above
        for blocks_above, block in enumerate(reversed(backbone_blocks))
        for value in block
    }
    groups: dict[tuple[float, bool], list[nn.Parameter]] = {}
    for value in network.parameters():
        if value.requires_grad:
            key = (rates.get(id(value), config.lr), value.ndim > 1)
            groups.setdefault(key, []).append(value)
    return [
        {"params": values, "lr": lr, "weight_decay": config.weight_decay if decay else 0.0}
        for (lr, decay), values in groups.items()
    ]


def make_optimizer(groups: list[dict], config: OptimizerConfig) -> Optimizer:
    """An optimizer of timm, inside SAM if ``sam_rho`` is set.

    Raises ValueError when timm has no optimizer of this name.
    """
    if config.sam_rho:
        from pytorch_optimizer import SAM  # not a requirement of runs without it

        kind = cast(type[Optimizer], get_optimizer_class(config.name))
        momentum: dict[str, Any] = (
            {"momentum": 0.9} if get_optimizer_info(config.name).has_momentum else {}
        )
        return SAM(groups, kind, rho=config.sam_rho, lr=config.lr, **momentum)
    return create_optimizer_v2(groups, opt=config.name, lr=config.lr)


def make_cosine_schedule(
    optimizer: Optimizer, config: OptimizerConfig, steps: int
) -> CosineLRScheduler:
    """A cosine over all ``steps`` with a linear warm-up, of each group from its own rate."""
    warmup = round(config.warmup * steps)
    return CosineLRScheduler(
        optimizer, t_initial=max(1, steps), warmup_t=warmup, warmup_lr_init=0.0, t_in_epochs=False
    )


class OneCycleSchedule:
    """One cycle of learning rate and first momentum (Smith and Topin, 2018).

    The values are those of ``torch.optim.lr_scheduler.OneCycleLR``, for any step in any order.
    """

    def __init__(self, optimizer: Optimizer, config: OptimizerConfig, steps: int) -> None:
        self._optimizer, self._max_lr = optimizer, config.lr
        self._peak, self._last = config.warmup * steps - 1, steps - 1

    def step_update(self, num_updates: int) -> None:
        """Set both rates of every group."""
        start_lr = self._max_lr / 25
        if num_updates <= self._peak:
            progress = num_updates / self._peak if self._peak > 0 else 1.0
            lr = _cosine(start_lr, self._max_lr, progress)
            momentum = _cosine(0.95, 0.85, progress)
        else:
            progress = min(1.0, (num_updates - self._peak) / max(1e-9, self._last - self._peak))
            lr = _cosine(self._max_lr, start_lr / 1e4, progress)
            momentum = _cosine(0.85, 0.95, progress)
        for group in self._optimizer.param_groups:
            group["lr"] = lr
            if "betas" in group:
                group["betas"] = (momentum, *group["betas"][1:])


def _cosine(start: float, end: float, progress: float) -> float:
    return end + (start - end) / 2 * (1 + math.cos(math.pi * progress))
