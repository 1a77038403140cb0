"""Batch statistics in the training loop."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from training.config import LoopConfig, OptimizerConfig
from training.engine.distributed import DistributedContext
from training.engine.optimizer import make_optimizer
from training.engine.trainer import Task, Trainer

ALONE = DistributedContext(rank=0, size=1, device=torch.device("cpu"))


class NormalizedTask(Task):
    """Four steps, at a rate of 0, of a network with batch statistics."""

    steps_per_epoch, max_grad_norm, curves = 4, 1.0, {}

    def __init__(self, sam_rho: float) -> None:
        self.network = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
        config = OptimizerConfig(name="sgd", lr=0.0, sam_rho=sam_rho)
        self.optimizer = make_optimizer([{"params": self.network.parameters()}], config)
        self.uses_sam = sam_rho > 0
        self.schedule = self

    def step_update(self, num_updates: int) -> None:
        """Keep the rate."""

    def batches(self, epoch: int) -> Iterator[tuple[Tensor, ...]]:
        """Equal in all runs."""
        generator = torch.Generator().manual_seed(0)
        return ((torch.randn(8, 2, generator=generator),) for _ in range(self.steps_per_epoch))

    def compute_loss(self, network: nn.Module, batch: Any, step: int) -> dict[str, Tensor]:
        """A loss that moves all weights."""
        return {"loss": (network(batch[0]) - 1).square().mean()}

    def validate(self, network: nn.Module, epoch: int) -> dict[str, float]:
        """Not called."""
        raise NotImplementedError

    def score(self, row: dict[str, Any]) -> float:
        """Not called."""
        raise NotImplementedError

    def save(self, network: nn.Module, out: Path) -> None:
        """Not called."""
        raise NotImplementedError


def batch_statistics(out: Path, sam_rho: float) -> dict[str, Tensor]:
    torch.manual_seed(0)
    task = NormalizedTask(sam_rho)
    Trainer(task, LoopConfig(), ALONE, out).train_epoch(0)
    assert task.network[1].momentum == 0.1
    return {name: value for name, value in task.network.state_dict().items() if "running" in name}


@pytest.mark.parametrize("sam_rho", [0.05, 1.0])
def test_sam_counts_each_batch_once(tmp_path, sam_rho):
    plain, sam = batch_statistics(tmp_path, 0.0), batch_statistics(tmp_path, sam_rho)
    assert plain
    for name, value in plain.items():
        torch.testing.assert_close(sam[name], value)
