"""Optimizer and schedule of self-supervised pretraining."""

from lightly.utils.scheduler import cosine_schedule, cosine_warmup_schedule
from torch import nn
from torch.optim import AdamW, Optimizer

from training.ssl.config import PretrainOptimizerConfig


def make_pretraining_optimizer(network: nn.Module, config: PretrainOptimizerConfig) -> AdamW:
    """AdamW with two groups: matrices, and vectors, which are not decayed."""
    values = [value for value in network.parameters() if value.requires_grad]
    groups = [
        {"params": [value for value in values if (value.ndim > 1) == decays], "decays": decays}
        for decays in (True, False)
    ]
    return AdamW(groups, lr=config.lr, betas=(0.9, config.beta2), weight_decay=0.0)


class PretrainingSchedule:
    """Cosines of learning rate, after a warm-up, and of weight decay (DINO)."""

    def __init__(self, optimizer: Optimizer, config: PretrainOptimizerConfig, steps: int) -> None:
        self._optimizer, self._config, self._steps = optimizer, config, steps

    def step_update(self, num_updates: int) -> None:
        """Set both rates of every group."""
        config, steps = self._config, self._steps
        warmup = round(config.warmup * steps)
        lr = cosine_warmup_schedule(num_updates, steps, config.lr, config.final_lr, warmup, 0.0)
        decay = cosine_schedule(num_updates, steps, config.weight_decay, config.final_weight_decay)
        for group in self._optimizer.param_groups:
            group["lr"] = lr
            group["weight_decay"] = decay if group["decays"] else 0.0
