"""The training loop of ``training.train``, ``training.pretrain`` and ``training.train_landmarks``.

A ``Task`` provides the network, the batches, the loss and the validation. The ``Trainer`` provides
what all tasks need: gradient accumulation, several processes, bfloat16, gradient clipping, averaged
weights (EMA), checkpoints after each epoch, early stopping and logs.
"""

import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, nullcontext
from pathlib import Path
from typing import Any

import torch
from timm.utils import ModelEmaV3
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer

from fer_ros.io.progress import progress_bar
from training.config import LoopConfig
from training.engine.checkpoint import Stateful, TrainingState, load_checkpoint, save_checkpoint
from training.engine.distributed import DistributedContext
from training.engine.metrics_logger import MetricsLogger
from training.engine.optimizer import Schedule

CHECKPOINT = "last.pt"
_CHECK_INTERVAL_S = 1.0  # between two checks of the loss, each of which waits for the GPU


class Task(ABC):
    """A network and how it is trained. Subclasses set the attributes in their constructor.

    ``optimizer`` and ``schedule`` are those of ``network``. ``keeps_best``: ``save`` is called for
    epochs with a new best score only, not for every epoch. ``uses_sam``: the optimizer takes the
    gradient twice in each step. ``curves``: names of metrics to plot, by label of the axis.
    """

    network: nn.Module
    optimizer: Optimizer
    schedule: Schedule
    steps_per_epoch: int
    max_grad_norm: float
    keeps_best = False
    uses_sam = False
    curves: Mapping[str, Sequence[str]]

    @abstractmethod
    def batches(self, epoch: int) -> Iterator[tuple[Tensor, ...]]:
        """This process's batches of an epoch: tensors (n, ...), equally long within a batch."""

    @abstractmethod
    def compute_loss(
        self, network: nn.Module, batch: tuple[Tensor, ...], step: int
    ) -> dict[str, Tensor]:
        """``loss``, the mean over a batch, and other scalars to log.

        ``network`` is that of the task, or its wrapper for several processes; ``step`` counts
        over all epochs. Called in an autocast context when ``bf16`` is set.
        """

    def after_backward(self, step: int) -> None:  # noqa: B027
        """Change the gradients before they are clipped."""

    def after_step(self, step: int) -> None:  # noqa: B027
        """Called after each change of the weights, for example to update a teacher."""

    @abstractmethod
    def validate(self, network: nn.Module, epoch: int) -> dict[str, float]:
        """Metrics of the (averaged) network after an epoch; called in process 0 only."""

    @abstractmethod
    def score(self, row: dict[str, Any]) -> float:
        """What decides which epoch is the best, from its metrics; higher is better."""

    @abstractmethod
    def save(self, network: nn.Module, out: Path) -> None:
        """Write the result of the epoch validated last to the folder ``out``."""


class Trainer:
    """Runs the epochs of a task, starting from the last checkpoint in ``out``."""

    def __init__(
        self, task: Task, config: LoopConfig, context: DistributedContext, out: Path
    ) -> None:
        """Load the checkpoint, if there is one. Raises ValueError when it cannot be used."""
        self.task, self.config, self.context, self.out = task, config, context, out
        self._wrapped = context.wrap_ddp(task.network)
        self._ema: ModelEmaV3 | None = None
        if config.ema_decay:
            self._ema = ModelEmaV3(task.network, decay=config.ema_decay, use_warmup=True)
        self._state = load_checkpoint(out / CHECKPOINT, config, self._parts())

    @property
    def averaged_network(self) -> nn.Module:
        """The network with averaged weights, or as it is when there is no average."""
        return self.task.network if self._ema is None else self._ema.module

    def run(self) -> None:
        """Train all epochs that are missing; process 0 writes to ``out``.

        Raises ValueError when the loss is not finite.
        """
        state = self._state
        if not self.context.is_main:
            while not self._is_finished(state):
                self.train_epoch(state.epoch)
                state.complete_epoch(self.context.broadcast_from_main(0.0))
            return
        with closing(MetricsLogger(self.out, state.rows, self.task.curves)) as log:
            while not self._is_finished(state):
                row = self._train_and_validate(state.epoch)
                score = self.context.broadcast_from_main(self.task.score(row))
                is_best = state.complete_epoch(score)
                log.add(row)
                if is_best or not self.task.keeps_best:
                    self.task.save(self.averaged_network, self.out)
                save_checkpoint(self.out / CHECKPOINT, self.config, state, self._parts())
                metrics = (f"{name} {value:.4g}" for name, value in list(row.items())[1:])
                print(f"epoch {row['epoch']}: {', '.join(metrics)}", flush=True)

    def _parts(self) -> dict[str, Stateful]:
        parts: dict[str, Stateful] = {
            "network": self.task.network,
            "optimizer": self.task.optimizer,
        }
        return parts if self._ema is None else {**parts, "ema": self._ema}

    def _is_finished(self, state: TrainingState) -> bool:
        return state.is_finished(self.config.epochs, self.config.patience)

    def _train_and_validate(self, epoch: int) -> dict[str, Any]:
        """The row of an epoch in ``metrics.csv``."""
        start_s = time.monotonic()
        metrics = self.train_epoch(epoch)
        duration_s = time.monotonic() - start_s
        self.averaged_network.eval()
        return {
            "epoch": epoch + 1,
            "lr": self.task.optimizer.param_groups[-1]["lr"],
            **{f"train_{name}": value for name, value in metrics.items()},
            **self.task.validate(self.averaged_network, epoch),
            "images_per_s": self.task.steps_per_epoch * self.config.batch_size / duration_s,
        }

    def train_epoch(self, epoch: int) -> dict[str, float]:
        """Run one pass over the data; the means of the metrics of its steps.

        Raises ValueError when the loss or its gradient is not finite.
        """
        task, steps = self.task, self.task.steps_per_epoch
        self.context.seed(self.config.seed, epoch)
        task.network.train()
        totals: dict[str, Tensor] = {}
        checked_s = time.monotonic()
        progress = progress_bar(
            task.batches(epoch),
            description=f"epoch {epoch + 1}/{self.config.epochs}",
            total=steps,
            hidden=not self.context.is_main,
        )
        for index, batch in enumerate(progress):
            for name, value in self._step(batch, epoch * steps + index).items():
                totals[name] = totals[name] + value if name in totals else value
            if time.monotonic() - checked_s >= _CHECK_INTERVAL_S:
                _check_finite(totals)
                loss = totals["loss"].item() / (index + 1)
                progress.set_postfix(loss=f"{loss:.3f}", refresh=False)
                checked_s = time.monotonic()
        _check_finite(totals)
        return {name: self.context.mean(total.item() / steps) for name, total in totals.items()}

    def _step(self, batch: tuple[Tensor, ...], step: int) -> dict[str, Tensor]:
        """Change the weights once; metrics before it, as float64 on the device."""
        task = self.task
        task.schedule.step_update(step)
        metrics = self._backward(batch, step)
        if task.uses_sam:
            from pytorch_optimizer import disable_running_stats, enable_running_stats

            def backward_again() -> None:  # the batch statistics have been counted already
                disable_running_stats(task.network)
                metrics["grad_norm"] = self._backward(batch, step)["grad_norm"]
                enable_running_stats(task.network)

            task.optimizer.step(backward_again)  # type: ignore[arg-type]
        else:
            task.optimizer.step()
        task.after_step(step)
        if self._ema is not None:
            self._ema.update(task.network, step=step)  # the warm-up of its decay needs the step
        return metrics

    def _backward(self, batch: tuple[Tensor, ...], step: int) -> dict[str, Tensor]:
        """Compute the clipped gradient of a batch, in parts; its metrics, as float64."""
        task, config = self.task, self.config
        task.optimizer.zero_grad(set_to_none=True)
        metrics: dict[str, Tensor] = {}
        parts = list(
            zip(*(values.chunk(config.accumulation_steps) for values in batch), strict=True)
        )
        for index, part in enumerate(parts):
            weight = len(part[0]) / len(batch[0])
            with self._synchronized(index + 1 == len(parts)):
                with torch.autocast(self.context.device.type, torch.bfloat16, enabled=config.bf16):
                    part_metrics = task.compute_loss(self._wrapped, part, step)
                (part_metrics["loss"] * weight).backward()
            for name, value in part_metrics.items():
                weighted = value.detach().double() * weight
                metrics[name] = metrics[name] + weighted if name in metrics else weighted
        task.after_backward(step)
        norm = nn.utils.clip_grad_norm_(task.network.parameters(), task.max_grad_norm)
        return {**metrics, "grad_norm": norm.double()}

    def _synchronized(self, is_last: bool) -> Any:
        """Average the gradients of all processes after the last part of a batch only."""
        if isinstance(self._wrapped, DistributedDataParallel) and not is_last:
            return self._wrapped.no_sync()
        return nullcontext()


def _check_finite(totals: dict[str, Tensor]) -> None:
    if not (totals["loss"].isfinite() & totals["grad_norm"].isfinite()):
        raise ValueError("the loss is not finite: lower the learning rate, or check the data")
