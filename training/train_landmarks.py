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

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from fer_ros.inference.model_store import InputSpec
from fer_ros.models.backbones.pretrained import load_pretrained
from fer_ros.models.mobilefacenet import MobileFaceNet
from fer_ros.models.wrapper import FaceInput
from training.augment import (
    RandomDraws,
    identity_affines,
    photometric_augment,
    random_affines,
    sample_crops,
    transform_landmarks,
)
from training.config import LandmarksConfig
from training.datasets.landmarks import load_landmarks
from training.datasets.shards import FaceDataset
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
        raise ValueError(
            "train, valid: expected names of datasets, found none; set them in the experiment file"
        )
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
    trainer = Trainer(task, config, context, out)
    if context.is_main:
        hashes = {"train": sha256_of_tensors(*faces), "valid": sha256_of_tensors(*valid)}
        write_settings(out, config, hashes)
    trainer.run()


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line."""
    return run_command(train_landmarks, LandmarksConfig, __doc__, argv)


if __name__ == "__main__":
    raise SystemExit(main())
