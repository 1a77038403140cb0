"""Data-parallel training: one process, or several that ``torchrun`` started."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

_SEED_STRIDE = 100_003  # between the seeds of two runs, so that their epochs draw other numbers


@dataclass(frozen=True)
class DistributedContext:
    """Rank of this process, number of processes, and the device that it computes on."""

    rank: int
    size: int
    device: torch.device

    @property
    def is_main(self) -> bool:
        """Whether this process writes files and shows progress."""
        return self.rank == 0

    def batch_slice(self, batch_size: int) -> slice:
        """This process's samples of a global batch.

        Raises ValueError when the batch cannot be divided evenly.
        """
        if batch_size % self.size:
            raise ValueError(
                f"batch_size: expected a multiple of {self.size} processes, found {batch_size}"
            )
        share = batch_size // self.size
        return slice(self.rank * share, (self.rank + 1) * share)

    def seed(self, seed: int, epoch: int) -> None:
        """Seed the global generator of this process for an epoch (dropout, noise)."""
        torch.manual_seed(seed * _SEED_STRIDE + epoch * self.size + self.rank)

    def mean(self, value: float) -> float:
        """Mean of a value over all processes."""
        if self.size == 1:
            return value
        total = torch.tensor(value, device=self.device)
        distributed.all_reduce(total)
        return total.item() / self.size

    def broadcast_from_main(self, value: float) -> float:
        """The value of process 0, in every process."""
        if self.size == 1:
            return value
        received = torch.tensor(value, dtype=torch.float64, device=self.device)
        distributed.broadcast(received, src=0)
        return received.item()

    def shard(self, values: Tensor) -> Tensor:
        """This process's part of ``values`` (N, ...), split along the first dimension."""
        return values.tensor_split(self.size)[self.rank]

    def all_gather(self, values: Tensor) -> Tensor:
        """The shards of all processes, concatenated in the order of ``shard``, on the CPU."""
        if self.size == 1:
            return values
        shards = [values] * self.size
        distributed.all_gather_object(shards, values)
        return torch.cat(shards)

    def wrap_ddp(self, network: nn.Module) -> nn.Module:
        """The network with averaged gradients; on GPUs with synchronized batch statistics too."""
        if self.size == 1:
            return network
        if self.device.type == "cuda":
            network = nn.SyncBatchNorm.convert_sync_batchnorm(network)
        # Such as the scale that `two_stream` with two scales does not use.
        return DistributedDataParallel(network, find_unused_parameters=True)


def epoch_generator(seed: int, epoch: int) -> torch.Generator:
    """A CPU generator that is equal in all processes: the order of samples and their views."""
    return torch.Generator().manual_seed(seed * _SEED_STRIDE + epoch)


@contextmanager
def distributed_context() -> Iterator[DistributedContext]:
    """Join the process group of ``torchrun``, if there is one, and leave it at the end."""
    size, rank = int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("RANK", "0"))
    cuda = torch.cuda.is_available()
    device = torch.device(f"cuda:{os.environ.get('LOCAL_RANK', '0')}" if cuda else "cpu")
    if cuda:
        torch.cuda.set_device(device)
        torch.set_float32_matmul_precision("high")  # TF32
        torch.backends.cudnn.benchmark = True  # all batches have one shape
    if size > 1:
        distributed.init_process_group(
            "nccl" if cuda else "gloo", device_id=device if cuda else None
        )
    try:
        yield DistributedContext(rank, size, device)
    finally:
        if size > 1:
            distributed.destroy_process_group()
