"""``python -m training.train EXPERIMENT.yaml DATA OUT [KEY=VALUE ...]``: an emotion classifier.

DATA holds the datasets of ``training.prepare``. OUT gets ``run.yaml``, ``metrics.csv``, plots,
``last.pt`` and, in ``OUT/model/<name of OUT>``, the model folder of the epoch with the best score
so far: accuracy on the validation dataset and, where ``data.balanced_valid`` names another one, the
mean of that and of accuracy and balanced accuracy there at equal class priors. Run the same command
again to resume a run that was killed: the result is the same as without the interruption.
``KEY=VALUE`` replaces a setting of the file, such as ``optimizer.lr=1e-4`` or
``network.image_weights=FILE``.

Several GPUs or machines: ``torchrun --nproc-per-node N -m training.train ...``; ``batch_size`` is
that of all processes together.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from numpy.typing import NDArray
from torch import Tensor, nn

from fer_ros.blendshapes import MIRRORED_BLENDSHAPES, NUM_BLENDSHAPES
from fer_ros.config import BALANCED, NATURAL
from fer_ros.emotions import EMOTIONS
from fer_ros.evaluation.metrics.classification import balanced_accuracy, confusion_matrix
from fer_ros.inference.priors import Prior
from fer_ros.models.checkpoint import save_model
from fer_ros.models.wrapper import FaceNetwork
from training.augment import (
    RandomDraws,
    identity_affines,
    mix,
    photometric_augment,
    random_affines,
    sample_crops,
)
from training.calibration import fit_temperature
from training.config import TrainConfig
from training.datasets.splits import Faces, load_balanced_valid, load_splits, subsample
from training.engine.command import in_distributed_context, run_command
from training.engine.distributed import DistributedContext, epoch_generator
from training.engine.metrics_logger import write_settings
from training.engine.optimizer import make_cosine_schedule, make_optimizer, parameter_groups
from training.engine.trainer import Task, Trainer
from training.losses import BlendshapeLoss, LogitAdjustedCrossEntropy, make_targets
from training.models.distillation import add_teacher_targets
from training.models.factory import backbone_blocks, build, resolve_architecture
from training.reports.plots import draw_classes, draw_confusion

_VALIDATION_BATCH = 32
_MIN_SHARE = 1e-3  # of a class that no training face shows
_TARGETS = [len(EMOTIONS), len(EMOTIONS), NUM_BLENDSHAPES, 1]
"""Columns of targets, offsets of the logits, blendshapes, and whether those are known."""


class EmotionTask(Task):
    """Cross-entropy of a face network against targets made of labels."""

    keeps_best = True
    curves = {  # noqa: RUF012
        "cross-entropy": ("train_loss", "valid_loss"),
        "validation split": ("valid_accuracy", "valid_balanced_accuracy"),
    }

    def __init__(
        self,
        config: TrainConfig,
        network: FaceNetwork,
        faces: Faces,
        valid: Faces,
        balanced_valid: Faces | None,
        context: DistributedContext,
    ) -> None:
        self.config, self.context, self.valid = config, context, valid
        self.balanced_valid = balanced_valid
        self.faces = faces.to(context.device)
        network.to(context.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        if config.compile:
            network.compile()
        self.network = network
        self.steps_per_epoch = (config.epoch_samples or len(faces)) // config.batch_size
        self.max_grad_norm = config.optimizer.max_grad_norm
        self.uses_sam = config.optimizer.sam_rho > 0
        groups = parameter_groups(network, config.optimizer, backbone_blocks(network))
        self.optimizer = make_optimizer(groups, config.optimizer)
        self.schedule = make_cosine_schedule(
            self.optimizer, config.optimizer, config.epochs * self.steps_per_epoch
        )
        self.loss = LogitAdjustedCrossEntropy(config.loss)
        self.blendshape_loss = (
            BlendshapeLoss(faces.blendshapes.to(context.device))
            if config.loss.blendshape_weight
            else None
        )
        self.priors: dict[str, Prior] = {}
        self._confusion: NDArray[np.int64] = np.zeros((len(EMOTIONS), len(EMOTIONS)), np.int64)

    def batches(self, epoch: int) -> Iterator[tuple[Tensor, ...]]:
        """Crops (n, 1, 112, 112) and their targets (n, ...) in the columns of ``_TARGETS``.

        Random numbers are of the global batch.
        """
        config, faces, device = self.config, self.faces, self.context.device
        generator = epoch_generator(config.seed, epoch)
        own = self.context.batch_slice(config.batch_size)
        order = epoch_order(faces, config, generator)
        order = order[: self.steps_per_epoch * config.batch_size]
        places = order.to(device)
        for chosen, on_device in zip(
            order.split(config.batch_size), places.split(config.batch_size), strict=True
        ):
            votes, labels = faces.targets[chosen], faces.labels[chosen]
            targets = make_targets(votes, labels, config.loss, generator, config.data.classes)
            targets = targets * faces.weights[chosen, None]  # the cross-entropy is linear in them
            draws = RandomDraws.generated(generator, config.batch_size, own)
            maps, mirrored = random_affines(draws, config.augment)
            crops = photometric_augment(
                sample_crops(faces.padded_crops[on_device[own]], maps), draws, config.augment
            )
            offsets = self.loss.offsets(faces.priors[chosen[own]])
            shapes = mirror_blendshapes(faces.blendshapes[chosen[own]], mirrored)
            known = shapes.isfinite().all(dim=1, keepdim=True)
            all_targets = torch.cat([targets[own], offsets, shapes.nan_to_num(), known], dim=1)
            yield mix(crops, all_targets.to(device, non_blocking=True), config.augment)

    def compute_loss(
        self, network: nn.Module, batch: tuple[Tensor, ...], step: int
    ) -> dict[str, Tensor]:
        """Cross-entropy and, if it has a weight, the error of the blendshapes.

        Raises ValueError when the blendshapes have a weight, but the network has none.
        """
        crops, all_targets = batch
        targets, offsets, shapes, known = all_targets.split(_TARGETS, dim=1)
        # Of two mixed faces, one without blendshapes adds 0 to the sum and 0 to its weight.
        shapes = shapes / known.clamp_min(torch.finfo(known.dtype).tiny)
        output = network(crops)
        loss = self.loss(output.logits, targets, offsets)
        if self.blendshape_loss is None:
            return {"loss": loss}
        if output.blendshapes is None:
            raise ValueError("loss.blendshape_weight: expected a network with blendshapes: true")
        error = self.blendshape_loss(output.blendshapes, shapes, known)
        weighted = self.config.loss.blendshape_weight * error
        return {"loss": loss + weighted, "blendshape_loss": error}

    def validate(self, network: nn.Module, epoch: int) -> dict[str, float]:
        """Metrics on the validation datasets; sets the temperature of the network.

        On ``valid`` the logits get the class shares of the first training dataset, if the loss took
        them off; on ``balanced_valid`` they never do.
        """
        network = cast(FaceNetwork, network)
        shares = self.faces.priors[0]
        offsets = self.loss.offsets(shares)
        logits = predict_logits(network, self.valid, self.context.device, self.config.bf16)
        temperature = fit_temperature(logits, self.valid.targets, offsets)
        logits = logits / temperature + offsets  # as Prior.apply does
        predicted = logits.argmax(dim=1)
        self._confusion = confusion_matrix(self.valid.labels.numpy(), predicted.numpy())
        metrics = {
            "valid_loss": F.cross_entropy(logits, self.valid.targets).item(),
            "valid_accuracy": (predicted == self.valid.labels).float().mean().item(),
            "valid_balanced_accuracy": balanced_accuracy(self._confusion).item(),
            "temperature": temperature,
        }
        if self.balanced_valid is not None:
            metrics |= self._validate_balanced(network)
        if self.config.loss.logit_adjustment:
            natural = Prior(temperature, tuple(shares.clamp_min(_MIN_SHARE).tolist()))
            temperature = metrics.get("balanced_valid_temperature", temperature)
            self.priors = {BALANCED: Prior(temperature), NATURAL: natural}
        network.temperature.fill_(temperature)
        return metrics

    def _validate_balanced(self, network: FaceNetwork) -> dict[str, float]:
        faces = cast(Faces, self.balanced_valid)
        logits = predict_logits(network, faces, self.context.device, self.config.bf16)
        if not (self.config.loss.logit_adjustment or self.config.class_balanced_sampling):
            logits = logits - self.faces.priors[0].clamp_min(_MIN_SHARE).log()
        predicted = logits.argmax(dim=1)
        confusion = confusion_matrix(faces.labels.numpy(), predicted.numpy())
        return {
            "balanced_valid_accuracy": (predicted == faces.labels).float().mean().item(),
            "balanced_valid_balanced_accuracy": balanced_accuracy(confusion).item(),
            "balanced_valid_temperature": fit_temperature(logits, faces.labels),
        }

    def score(self, row: dict[str, Any]) -> float:
        """Accuracy on the validation split, or its mean with those of the balanced one."""
        if "balanced_valid_accuracy" not in row:
            return row["valid_accuracy"]
        balanced = (row["balanced_valid_accuracy"] + row["balanced_valid_balanced_accuracy"]) / 2
        return (row["valid_accuracy"] + balanced) / 2

    def save(self, network: nn.Module, out: Path) -> None:
        """The model folder and a plot of its confusion matrix."""
        network = cast(FaceNetwork, network)
        config = self.config.network
        folder = out / "model" / out.name
        save_model(network, folder, config.architecture, self.priors, **config.config)
        draw_confusion(self._confusion, out / "confusion.png")


def epoch_order(faces: Faces, config: TrainConfig, generator: torch.Generator) -> Tensor:
    """Indices (N,) of an epoch.

    ``epoch_samples`` are drawn by the sampling weights of their datasets, with repetition only
    where a weight demands it; ``class_balanced_sampling`` draws classes equally often, with
    repetition.
    """
    if config.class_balanced_sampling:
        counts = torch.bincount(faces.labels, minlength=len(EMOTIONS))
        weights = 1.0 / counts[faces.labels]
        return torch.multinomial(weights, len(faces), replacement=True, generator=generator)
    if config.epoch_samples:
        return _draw_by_weight(faces.sampling_weights, config.epoch_samples, generator)
    return torch.randperm(len(faces), generator=generator)


def _draw_by_weight(weights: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """``count`` indices in random order, the number of each within 1 of what its weight demands.

    ``weights`` (N,) are relative. Systematic sampling (Madow, 1949) of a random order in which
    equal weights are neighbors, so that their sum is drawn within 1, too.
    """
    order = torch.randperm(len(weights), generator=generator)
    order = order[weights[order].argsort(stable=True)]
    ends = weights[order].double().cumsum(0)
    points = torch.arange(count) + torch.rand(1, generator=generator, dtype=torch.float64)
    drawn = order[torch.searchsorted(ends, points * (ends[-1] / count), right=True)]
    return drawn[torch.randperm(count, generator=generator)]


def mirror_blendshapes(blendshapes: Tensor, mirrored: Tensor) -> Tensor:
    """Blendshapes (B, 52), with the sides swapped where faces are ``mirrored`` (B,)."""
    swapped = blendshapes[:, list(MIRRORED_BLENDSHAPES)]
    return torch.where(mirrored[:, None], swapped, blendshapes)


@torch.no_grad()
def predict_logits(network: nn.Module, faces: Faces, device: torch.device, bf16: bool) -> Tensor:
    """Logits (N, 8) of the aligned crops, without augmentation, on the CPU."""
    logits = []
    for part in faces.padded_crops.split(_VALIDATION_BATCH):
        crops = sample_crops(part.to(device), identity_affines(len(part)))
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            logits.append(network(crops).logits.float())
    return torch.cat(logits).cpu()


@in_distributed_context
def train(config: TrainConfig, data: Path, out: Path, context: DistributedContext) -> None:
    """Run or resume an experiment. Raises ValueError or OSError."""
    torch.manual_seed(config.seed)
    config = replace(config, network=resolve_architecture(config.network))
    network = build(config.network)
    splits = load_splits(config.data, data)
    faces, valid = subsample(splits, config.max_samples, config.seed)
    balanced_valid = load_balanced_valid(config.data, data, config.max_samples)
    if len(faces) < config.batch_size or len(valid) == 0:
        raise ValueError(
            f"{data}: expected at least a batch of {config.batch_size} samples to train on and one "
            f"to validate with, found {len(faces)} and {len(valid)}"
        )
    faces = add_teacher_targets(faces, config.data, context, out / "teachers.safetensors")
    task = EmotionTask(config, network, faces, valid, balanced_valid, context)
    trainer = Trainer(task, config, context, out)
    if context.is_main:
        write_settings(out, config, {"train": faces.sha256(), "valid": valid.sha256()})
        draw_classes({"train": faces.counts(), "valid": valid.counts()}, out / "classes.png")
    trainer.run()


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line."""
    return run_command(train, TrainConfig, __doc__, argv)


if __name__ == "__main__":
    raise SystemExit(main())
