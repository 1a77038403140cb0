"""``python -m training.pretrain EXPERIMENT.yaml DATA OUT [KEY=VALUE ...]``: a pretrained backbone.

Self-supervised learning of the backbone of an image stream, from faces without labels. DATA holds
the datasets of ``training.prepare``. OUT gets ``run.yaml``, ``metrics.csv``, ``curves.png``,
``last.pt`` and ``backbone.safetensors``, from which ``training.train`` starts with
``network.image_weights=OUT/backbone.safetensors``. Run the same command again to resume a run that
was killed. When ``train_feature_std`` in ``metrics.csv`` goes to 0, the features have collapsed:
they are the same for all faces.

Several GPUs or machines: ``torchrun --nproc-per-node N -m training.pretrain ...``; ``batch_size``
is that of all processes together.
"""

import copy
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fer_ros.models.backbones.vit import VitBackbone
from training.augment import RandomDraws
from training.datasets.shards import FaceDataset, load_padded_crops
from training.datasets.splits import (
    Faces,
    duplicates_of,
    load_splits,
    open_held_out,
    random_subset,
    sha256_of_tensors,
    subsample,
)
from training.engine.checkpoint import save_weights
from training.engine.command import in_distributed_context, run_command
from training.engine.distributed import DistributedContext, epoch_generator
from training.engine.metrics_logger import write_settings
from training.engine.trainer import Task, Trainer
from training.ssl.base import SelfSupervisedMethod, make_pretraining_backbone
from training.ssl.config import PretrainConfig
from training.ssl.dino import Dino
from training.ssl.knn import knn_accuracy
from training.ssl.mae import Mae
from training.ssl.multicrop import make_view
from training.ssl.optimizer import PretrainingSchedule, make_pretraining_optimizer

BACKBONE = "backbone.safetensors"


def load_training_crops(folder: Path, names: list[str], held_out: list[str]) -> Tensor:
    """Padded crops (N, 144, 144) uint8 of datasets, without those that are in ``held_out`` too.

    Raises ValueError when a dataset cannot be used. A held-out one may be missing.
    """
    others = open_held_out(folder, held_out)
    return torch.from_numpy(
        load_padded_crops([_without(FaceDataset.open(folder / name), others) for name in names])
    )


def _without(
    dataset: FaceDataset, held_out: list[FaceDataset]
) -> tuple[FaceDataset, NDArray[np.bool_]]:
    """The dataset, and which of its samples (N,) are in none of the others."""
    dataset.verify()
    keep = np.ones(len(dataset), np.bool_)
    for other in held_out:
        keep &= ~duplicates_of(dataset, other)
    return dataset, keep


def make_method(config: PretrainConfig) -> tuple[SelfSupervisedMethod, VitBackbone]:
    """The network to train, and the backbone that takes its weights in the end.

    Raises ValueError when the settings do not fit together.
    """
    backbone = make_pretraining_backbone(config.backbone, config.drop_path, config.weights)
    shape = (copy.deepcopy(backbone.trunk), backbone.side_px, config.views.area)
    if config.method == "dino":
        return Dino(*shape, config.dino), backbone
    return Mae(*shape, config.mae, pretrained=bool(config.weights)), backbone


class PretrainingTask(Task):
    """A self-supervised method on faces, and a k-NN probe of its features."""

    curves = {  # noqa: RUF012
        "loss": ("train_loss", "train_dino", "train_ibot", "train_koleo"),
        "features": ("knn_accuracy", "train_feature_std"),
    }

    def __init__(
        self,
        config: PretrainConfig,
        padded_crops: Tensor,
        labeled: tuple[Faces, Faces] | None,
        context: DistributedContext,
    ) -> None:
        """``labeled``: faces with known labels and faces to classify; None: no probe."""
        self.config, self.context, self.labeled = config, context, labeled
        self.padded_crops = padded_crops.to(context.device)
        method, self.backbone = make_method(config)
        self.network = method.to(context.device)
        for encoder in method.encoders():
            encoder.set_grad_checkpointing(config.activation_checkpointing)
            if config.compile:
                encoder.compile(dynamic=False)
        self.steps_per_epoch = len(padded_crops) // config.batch_size
        self.total_steps = config.epochs * self.steps_per_epoch
        self.max_grad_norm = config.optimizer.max_grad_norm
        self.optimizer = make_pretraining_optimizer(method, config.optimizer)
        self.schedule = PretrainingSchedule(self.optimizer, config.optimizer, self.total_steps)

    @property
    def method(self) -> SelfSupervisedMethod:
        """The network to train."""
        return cast(SelfSupervisedMethod, self.network)

    def batches(self, epoch: int) -> Iterator[tuple[Tensor, ...]]:
        """Views (n, 1, side, side) of each kind, then random numbers (n, k) on the CPU.

        Random numbers are drawn for the global batch.
        """
        config, method = self.config, self.method
        generator = epoch_generator(config.seed, epoch)
        own = self.context.batch_slice(config.batch_size)
        order = torch.randperm(len(self.padded_crops), generator=generator)
        order = order[: self.steps_per_epoch * config.batch_size]
        for chosen in order.to(self.context.device).split(config.batch_size):
            padded_crops = self.padded_crops[chosen[own]]
            draws = RandomDraws.generated(generator, config.batch_size, own)
            views = [
                make_view(padded_crops, draws, spec, config.views) for spec in method.view_specs
            ]
            shape = (config.batch_size, method.num_random_draws)
            yield (*views, torch.rand(shape, generator=generator)[own])

    def compute_loss(
        self, network: nn.Module, batch: tuple[Tensor, ...], step: int
    ) -> dict[str, Tensor]:
        """Losses of the method, and the spread of its features."""
        *views, numbers = batch
        return network(views, numbers, step, self.total_steps)

    def after_backward(self, step: int) -> None:
        """Let the method change the gradients."""
        self.method.after_backward(step // self.steps_per_epoch)

    def after_step(self, step: int) -> None:
        """Let the method update its other networks, such as a teacher."""
        self.method.after_step(step, self.total_steps)

    def validate(self, network: nn.Module, epoch: int) -> dict[str, float]:
        """Accuracy of the k-NN probe; NaN in epochs without one."""
        is_last = epoch + 1 == self.config.epochs
        if self.labeled is None or not (is_last or (epoch + 1) % self.config.probe_interval == 0):
            return {"knn_accuracy": float("nan")}
        method = cast(SelfSupervisedMethod, network)
        return {"knn_accuracy": knn_accuracy(method, *self.labeled, self.context.device)}

    def score(self, row: dict[str, Any]) -> float:
        """The lowest loss is the best."""
        return -row["train_loss"]

    def save(self, network: nn.Module, out: Path) -> None:
        """The backbone as ``training.train`` loads it."""
        self.backbone.trunk.load_state_dict(cast(SelfSupervisedMethod, network).trunk.state_dict())
        save_weights(out / BACKBONE, self.backbone.to_published_state_dict())


@in_distributed_context
def pretrain(config: PretrainConfig, data: Path, out: Path, context: DistributedContext) -> None:
    """Run or resume an experiment. Raises ValueError or OSError."""
    torch.manual_seed(config.seed)
    padded_crops = load_training_crops(data, config.datasets, config.probe.names_held_out())
    if config.max_samples:
        chosen = random_subset(len(padded_crops), config.max_samples, config.seed)
        padded_crops = padded_crops[chosen]
    if len(padded_crops) < config.batch_size:
        raise ValueError(
            f"{data}: expected at least a batch of {config.batch_size} samples, "
            f"found {len(padded_crops)}"
        )
    context.batch_slice(config.batch_size)
    labeled = None
    if config.probe_interval and context.is_main:
        splits = load_splits(config.probe, data)
        labeled = subsample(splits, config.max_samples, config.seed)
    task = PretrainingTask(config, padded_crops, labeled, context)
    trainer = Trainer(task, config, context, out)
    if context.is_main:
        write_settings(out, config, {"train": sha256_of_tensors(padded_crops)})
    trainer.run()


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line."""
    return run_command(pretrain, PretrainConfig, __doc__, argv)


if __name__ == "__main__":
    raise SystemExit(main())
