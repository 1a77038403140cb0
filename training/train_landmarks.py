"""``python -m training.train_landmarks EXPERIMENT.yaml DATA OUT [KEY=VALUE ...]``: 68 landmarks.

DATA holds datasets of ``training.prepare`` with ``landmarks68``: those of 300-W and WFLW as people
annotated them, others as ``training.label_landmarks`` found them. The loss is the Wing loss (Feng
et al., 2018). The reported error is the mean point distance over the distance of the outer eye
corners (NME) on the datasets of ``valid``. An image that is in one of them and in ``train`` ends
the run before it begins.

OUT gets ``landmarks.safetensors``, the weights of the last epoch, ``run.yaml``, ``metrics.csv``,
``curves.png`` and ``last.pt``. Run the same command again to resume a run that was killed. Several
GPUs or machines: ``torchrun --nproc-per-node N -m training.train_landmarks ...``.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from fer_ros.config import config_field
from fer_ros.inference.model_store import InputSpec
from fer_ros.models.backbones.pretrained import load_pretrained
from fer_ros.models.mobilefacenet import MobileFaceNet
from fer_ros.models.wrapper import FaceInput
from training.augment import (
    AugmentConfig,
    RandomDraws,
    identity_affines,
    photometric_augment,
    random_affines,
    sample_crops,
    transform_landmarks,
)
from training.config import LoopConfig, OptimizerConfig
from training.datasets.shards import FaceDataset, load_padded_crops
from training.datasets.splits import duplicates_of, random_subset, sha256_of_tensors
from training.engine.checkpoint import save_weights
from training.engine.command import in_distributed_context, run_command
from training.engine.distributed import DistributedContext, epoch_generator
from training.engine.metrics_logger import write_settings
from training.engine.optimizer import OneCycleSchedule, make_optimizer
from training.engine.trainer import Task, Trainer
from training.losses import wing_loss
from training.metrics.landmarks import nme

WEIGHTS = "landmarks.safetensors"
_VALIDATION_BATCH = 128


@dataclass(frozen=True)
class LandmarkAugmentConfig(AugmentConfig):
    """Stronger views than those for emotions: landmarks move with the face."""

    rotate_deg: float = config_field(30.0, "to either side", 0.0, 180.0)
    scale: float = config_field(0.2, "fraction by which faces grow and shrink", 0.0, 0.5)
    shift: float = config_field(0.1, "fraction of the crop's side, in both directions", 0.0, 0.5)
    low_resolution: float = config_field(0.4, "probability of lost resolution", 0.0, 1.0)
    erase: float = config_field(0.4, "probability of a covered rectangle", 0.0, 1.0)
    mixup: float = config_field(0.0, "always off: landmarks cannot be mixed", 0.0, 0.0)
    cutmix: float = config_field(0.0, "always off: landmarks cannot be mixed", 0.0, 0.0)


@dataclass(frozen=True)
class LandmarkOptimizerConfig(OptimizerConfig):
    """Optimizer with a one-cycle schedule; the network has no backbone."""

    lr: float = config_field(2e-3, "highest learning rate", 0.0, 1.0)
    warmup: float = config_field(0.15, "fraction of the steps in which the rate rises", 0.0, 1.0)
    weight_decay: float = config_field(0.01, "of all parameters", 0.0, 1.0)


@dataclass(frozen=True)
class LandmarksConfig(LoopConfig):
    """An experiment of ``training.train_landmarks``."""

    train: list[str] = field(
        default_factory=list, metadata={"description": "training datasets: folders below DATA"}
    )
    valid: list[str] = field(
        default_factory=list,
        metadata={"description": "validation datasets: folders below DATA"},
    )
    weights: str = config_field("", "file of weights to start from; empty: fresh ones")
    augment: LandmarkAugmentConfig = field(default_factory=LandmarkAugmentConfig)
    optimizer: LandmarkOptimizerConfig = field(default_factory=LandmarkOptimizerConfig)
    epochs: int = config_field(4, "passes over the faces", 1, 100000)
    batch_size: int = config_field(64, "samples in a step, of all processes together", 2, 65536)

    def __post_init__(self) -> None:
        super().__post_init__()
        for split in ("train", "valid"):
            invalid = [
                name for name in getattr(self, split) if not isinstance(name, str) or not name
            ]
            if invalid:
                raise ValueError(f"{split}: expected names of datasets, got {invalid[0]!r}")


def load_landmarks(folders: list[Path]) -> tuple[Tensor, Tensor]:
    """Padded crops (N, 144, 144) uint8 and landmarks (N, 68, 2) of all faces that have any.

    Raises ValueError when a dataset cannot be used, or no face has landmarks.
    """
    datasets = [FaceDataset.open(folder) for folder in folders]
    landmarks = [dataset.column("landmarks68") for dataset in datasets]
    known = [~np.isnan(points).any(axis=(1, 2)) for points in landmarks]
    padded_crops = load_padded_crops(list(zip(datasets, known, strict=True)))
    if len(padded_crops) == 0:
        raise ValueError(f"{folders[0]}: expected faces with landmarks, found none")
    points = np.concatenate(
        [points_of_dataset[keep] for points_of_dataset, keep in zip(landmarks, known, strict=True)]
    )
    return torch.from_numpy(padded_crops), torch.from_numpy(points)


def _subset(faces: tuple[Tensor, Tensor], count: int, seed: int) -> tuple[Tensor, Tensor]:
    padded_crops, points = faces
    chosen = random_subset(len(points), count, seed)
    return padded_crops[chosen], points[chosen]


def check_leaks(train: list[Path], valid: list[Path]) -> None:
    """Raise ValueError when an image is in a dataset of both."""
    for dataset in map(FaceDataset.open, train):
        for valid_dataset in map(FaceDataset.open, valid):
            shared = dataset.column("name")[duplicates_of(dataset, valid_dataset)]
            if len(shared):
                raise ValueError(
                    f"{dataset} and {valid_dataset} share {len(shared)} images, such as "
                    f"{shared[0]}: prepare splits that share none"
                )


def init_output_bias(network: MobileFaceNet, mean: Tensor) -> None:
    """Start with predictions close to the mean face (68, 2)."""
    last = network.output_layer.bn
    nn.init.constant_(last.weight, 0.1)
    last.bias.data = mean.flatten().clone()


def replace_prelu_by_relu(network: MobileFaceNet) -> None:
    """Fix the negative slopes of all activations to 0.

    ONNX Runtime fuses a ReLU into the convolution before it; a PReLU is a pass of its own.
    """
    for module in network.modules():
        if isinstance(module, nn.PReLU):
            nn.init.zeros_(module.weight.requires_grad_(False))


class LandmarkTask(Task):
    """Wing loss of MobileFaceNet against landmarks in random views."""

    curves = {  # noqa: RUF012
        "Wing loss": ("train_loss",),
        "NME on the validation split": ("valid_nme_mean", "valid_nme_median", "valid_nme_p95"),
    }

    def __init__(
        self,
        config: LandmarksConfig,
        faces: tuple[Tensor, Tensor],
        valid: tuple[Tensor, Tensor],
        context: DistributedContext,
    ) -> None:
        """``faces`` and ``valid``: padded crops (N, 144, 144) and landmarks (N, 68, 2)."""
        self.config, self.context = config, context
        self.padded_crops, self.points = (values.to(context.device) for values in faces)
        self.valid = tuple(values.to(context.device) for values in valid)
        net = MobileFaceNet()
        if config.weights:
            load_pretrained(net, Path(config.weights))
        else:
            init_output_bias(net, faces[1].mean(dim=0))
        replace_prelu_by_relu(net)
        net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.network = nn.Sequential(FaceInput(InputSpec()), net).to(context.device)
        if config.compile:
            self.network.compile()
        self.steps_per_epoch = len(self.points) // config.batch_size
        self.max_grad_norm = config.optimizer.max_grad_norm
        self.uses_sam = config.optimizer.sam_rho > 0
        parameters = [value for value in net.parameters() if value.requires_grad]
        groups = [{"params": parameters, "weight_decay": config.optimizer.weight_decay}]
        self.optimizer = make_optimizer(groups, config.optimizer)
        self.schedule = OneCycleSchedule(
            self.optimizer, config.optimizer, config.epochs * self.steps_per_epoch
        )

    def batches(self, epoch: int) -> Iterator[tuple[Tensor, ...]]:
        """Views (n, 1, 112, 112) and landmarks (n, 68, 2) in them, as fractions of the view."""
        config, device = self.config, self.context.device
        generator = epoch_generator(config.seed, epoch)
        own = self.context.batch_slice(config.batch_size)
        order = torch.randperm(len(self.points), generator=generator)
        order = order[: self.steps_per_epoch * config.batch_size]
        for chosen in order.to(device).split(config.batch_size):
            draws = RandomDraws.generated(generator, config.batch_size, own)
            maps, mirrored = random_affines(draws, config.augment)
            crops = photometric_augment(
                sample_crops(self.padded_crops[chosen[own]], maps), draws, config.augment
            )
            points = transform_landmarks(
                self.points[chosen[own]], maps.to(device), mirrored.to(device)
            )
            yield crops, points

    def compute_loss(
        self, network: nn.Module, batch: tuple[Tensor, ...], step: int
    ) -> dict[str, Tensor]:
        """Wing loss."""
        crops, points = batch
        return {"loss": wing_loss(network(crops).float(), points)}

    @torch.no_grad()
    def validate(self, network: nn.Module, epoch: int) -> dict[str, float]:
        """NME of aligned faces without augmentation."""
        parts = zip(*(values.split(_VALIDATION_BATCH) for values in self.valid), strict=True)
        errors = torch.cat(
            [
                nme(network(sample_crops(crops, identity_affines(len(crops)))), points)
                for crops, points in parts
            ]
        )
        return {
            "valid_nme_mean": errors.mean().item(),
            "valid_nme_median": errors.median().item(),
            "valid_nme_p95": errors.quantile(0.95).item(),
        }

    def score(self, row: dict[str, Any]) -> float:
        """The lowest error is the best."""
        return -row["valid_nme_mean"]

    def save(self, network: nn.Module, out: Path) -> None:
        """The weights as ``network.landmarks`` of ``training.train`` takes them."""
        net = cast(nn.Sequential, network)[1]
        save_weights(out / WEIGHTS, net.state_dict())


@in_distributed_context
def train_landmarks(
    config: LandmarksConfig, data: Path, out: Path, context: DistributedContext
) -> None:
    """Run or resume an experiment. Raises ValueError or OSError."""
    torch.manual_seed(config.seed)
    train_folders, valid_folders = (
        [data / name for name in names] for names in (config.train, config.valid)
    )
    if not train_folders or not valid_folders:
        raise ValueError("expected names of datasets in train and in valid, found none")
    check_leaks(train_folders, valid_folders)
    faces, valid = load_landmarks(train_folders), load_landmarks(valid_folders)
    if config.max_samples:
        faces = _subset(faces, config.max_samples, config.seed)
        valid = _subset(valid, config.max_samples, seed=0)
    if len(faces[1]) < config.batch_size:
        raise ValueError(
            f"{data}: expected at least a batch of {config.batch_size} samples, "
            f"found {len(faces[1])}"
        )
    task = LandmarkTask(config, faces, valid, context)
    if context.is_main:
        hashes = {"train": sha256_of_tensors(*faces), "valid": sha256_of_tensors(*valid)}
        write_settings(out, config, hashes)
    Trainer(task, config, context, out).run()


def main() -> None:
    """Run the command line."""
    run_command(train_landmarks, LandmarksConfig, __doc__)


if __name__ == "__main__":
    main()
