"""One process, or several of ``torchrun`` on this machine or others, that train together."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

_EPOCHS_APART = 100_003  # between the seeds of two runs, so that their epochs draw other numbers


@dataclass(frozen=True)
class World:
    """This process is number ``rank`` of ``size``; number 0 writes the files."""

    rank: int
    size: int
    device: torch.device

    @property
    def writes(self) -> bool:
        """Whether this process is the one that writes files and shows progress."""
        return self.rank == 0

    def part(self, batch: int) -> slice:
        """Which pictures of a batch are this process's. ValueError when they cannot be shared."""
        if batch % self.size:
            raise ValueError(f"batch: expected a multiple of {self.size} processes, got {batch}")
        share = batch // self.size
        return slice(self.rank * share, (self.rank + 1) * share)

    def seed(self, seed: int, epoch: int) -> None:
        """Of what every process draws for itself in an epoch, such as dropout."""
        torch.manual_seed(seed * _EPOCHS_APART + epoch * self.size + self.rank)

    def mean(self, value: float) -> float:
        """The mean of all processes' values."""
        if self.size == 1:
            return value
        total = torch.tensor(value, device=self.device)
        distributed.all_reduce(total)
        return total.item() / self.size

    def agreed(self, value: float) -> float:
        """What process 0 found: batch statistics, and so figures, of the others may differ."""
        if self.size == 1:
            return value
        found = torch.tensor(value, dtype=torch.float64, device=self.device)
        distributed.broadcast(found, src=0)
        return found.item()

    def own(self, rows: Tensor) -> Tensor:
        """Of some rows, those that are this process's."""
        return rows.tensor_split(self.size)[self.rank]

    def joined(self, rows: Tensor) -> Tensor:
        """What all processes made of their ``own`` rows, on the CPU, in the order of the rows."""
        if self.size == 1:
            return rows
        parts = [rows] * self.size
        distributed.all_gather_object(parts, rows)
        return torch.cat(parts)

    def spread(self, network: nn.Module) -> nn.Module:
        """The network as all processes train it: their gradients are averaged."""
        if self.size == 1:
            return network
        if self.device.type == "cuda":
            network = nn.SyncBatchNorm.convert_sync_batchnorm(network)
        return DistributedDataParallel(network)


def epoch_numbers(seed: int, epoch: int) -> torch.Generator:
    """Of what all processes draw alike in an epoch: the order of faces, their views."""
    return torch.Generator().manual_seed(seed * _EPOCHS_APART + epoch)


@contextmanager
def world() -> Iterator[World]:
    """Joins the other processes, if ``torchrun`` started several, and leaves them at the end."""
    size, rank = int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("RANK", "0"))
    cuda = torch.cuda.is_available()
    device = torch.device(f"cuda:{os.environ.get('LOCAL_RANK', '0')}" if cuda else "cpu")
    if cuda:
        torch.cuda.set_device(device)
    if size > 1:
        distributed.init_process_group("nccl" if cuda else "gloo")
    try:
        yield World(rank, size, device)
    finally:
        if size > 1:
            distributed.destroy_process_group()
