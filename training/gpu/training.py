"""The training step at 112 px with all data on the device, and a training within given minutes."""

import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast
from zipfile import BadZipFile

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from timm.utils import ModelEmaV3
from torch import Tensor

from fer_ros.emotions import EMOTIONS
from fer_ros.evaluation.metrics.classification import (
    accuracy,
    balanced_accuracy,
    confusion_matrix,
)
from fer_ros.inference.model_store import find_model, read_manifest
from fer_ros.models.checkpoint import load_model, save_model
from fer_ros.models.complexity import complexity_of
from fer_ros.models.wrapper import FaceNetwork
from training.augment import (
    AugmentConfig,
    RandomDraws,
    change_contrast,
    identity_affines,
    random_affines,
    sample_crops,
)
from training.calibration import fit_temperature
from training.datasets.shards import PADDED_CROP_PX
from training.gpu.clock import Scale, time_stream

MODEL = "two_stream_small"
MAX_BYTES = 60 * 2**20
"""Of the file of faces, so that it can be sent to a machine with a GPU."""
_MAX_LR, _WEIGHT_DECAY, _WARMUP = 3e-3, 0.05, 0.05
_NOISE = 0.03
_VALIDATION_BATCH = 256
_AUGMENT = AugmentConfig()


@dataclass(frozen=True)
class FaceFile:
    """Faces on a device.

    ``padded_crops`` (N, 144, 144) uint8 gray crops with margin, ``targets`` (N, 8) distributions,
    ``is_valid`` (N,) marks the validation split.
    """

    padded_crops: Tensor
    targets: Tensor
    is_valid: Tensor

    def __len__(self) -> int:
        return len(self.padded_crops)

    def subset(self, mask: Tensor) -> "FaceFile":
        """The faces where ``mask`` (N,) is true."""
        return FaceFile(self.padded_crops[mask], self.targets[mask], self.is_valid[mask])


def load_faces(path: Path | None, device: str, count: int) -> FaceFile:
    """Read a file of ``--export-faces``; without one, ``count`` random faces. Raises ValueError."""
    if path is None:
        generator = torch.Generator().manual_seed(0)
        shape = (count, PADDED_CROP_PX, PADDED_CROP_PX)
        padded_crops = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
        votes = F.one_hot(torch.arange(count) % len(EMOTIONS), len(EMOTIONS)).float()
        is_valid = torch.arange(count) % 4 == 0
        return FaceFile(padded_crops.to(device), votes.to(device), is_valid.to(device))
    try:
        with np.load(path, allow_pickle=False) as arrays:
            faces, votes, split = (arrays[name] for name in ("faces", "votes", "is_valid"))
    except (OSError, EOFError, KeyError, ValueError, BadZipFile) as error:
        raise ValueError(f"{path}: expected a file of --export-faces: {error}") from None
    if faces.dtype != np.uint8 or faces.ndim != 3 or not len(faces) == len(votes) == len(split):
        raise ValueError(f"{path}: expected faces (N, S, S), votes (N, 8), is_valid (N,) in uint8")
    chunks = torch.from_numpy(faces).split(1024)
    padded_crops = torch.cat([_enlarge(chunk.to(device)) for chunk in chunks])
    targets = torch.from_numpy(votes).to(device).float()
    targets /= targets.sum(dim=1, keepdim=True)
    return FaceFile(padded_crops, targets, torch.from_numpy(split).to(device).bool())


def _enlarge(faces: Tensor) -> Tensor:
    size = (PADDED_CROP_PX, PADDED_CROP_PX)
    large = F.interpolate(faces[:, None].float(), size, mode="bilinear", antialias=True)
    return large[:, 0].round().clamp(0, 255).byte()


class Training:
    """AdamW in bfloat16 with a cosine schedule, averaged weights and augmentation on the device."""

    def __init__(self, faces: FaceFile, device: str, batch: int) -> None:
        manifest = read_manifest(find_model(MODEL))
        self.architecture, self.config = manifest.architecture, manifest.config
        self.device, self.batch = device, batch
        self.train_faces = faces.subset(~faces.is_valid)
        self.valid_faces = faces.subset(faces.is_valid)
        network = load_model(MODEL).to(device).train()
        self.network = cast(
            FaceNetwork,
            network.to(memory_format=torch.channels_last),  # type: ignore[call-overload]
        )
        parameters = [value for value in self.network.parameters() if value.requires_grad]
        self.optimizer = torch.optim.AdamW(
            parameters,
            lr=0.0,
            weight_decay=_WEIGHT_DECAY,
            fused=device.startswith("cuda"),
        )
        self.average = ModelEmaV3(self.network, decay=0.998, use_warmup=True)
        # Logit adjustment (Menon et al., 2021): predictions assume equally frequent classes.
        shares = self.train_faces.targets.mean(dim=0).clamp_min(1e-4)
        self._log_shares = (shares / shares.sum()).log()
        self._generator = torch.Generator(device).manual_seed(0)
        self.steps = 0

    def step(self, progress: float) -> Tensor:
        """One step; ``progress`` 0..1 sets the learning rate. Does not wait for the device."""
        warmed = min(1.0, progress / _WARMUP) if progress < _WARMUP else 1.0
        rate = _MAX_LR * warmed * 0.5 * (1 + float(np.cos(np.pi * progress)))
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        crops, targets = self._draw()
        is_cuda = self.device.startswith("cuda")
        with torch.autocast("cuda", torch.bfloat16, enabled=is_cuda):
            logits = self.network(crops).logits
        loss = F.cross_entropy(logits.float() + self._log_shares, targets)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        self.average.update(self.network, self.steps)
        self.steps += 1
        return loss.detach()

    def _draw(self) -> tuple[Tensor, Tensor]:
        """A batch of augmented crops, without a copy to or from the host."""
        options: dict[str, Any] = {"device": self.device, "generator": self._generator}
        rows = torch.randint(len(self.train_faces), (self.batch,), **options)
        draws = RandomDraws.generated(self._generator, self.batch)
        maps, _ = random_affines(draws, _AUGMENT)
        crops = sample_crops(self.train_faces.padded_crops[rows], maps)
        crops = change_contrast(crops, draws, _AUGMENT)
        noise = _NOISE * torch.randn(crops.shape, **options)
        return (crops + noise).clamp(0, 1), self.train_faces.targets[rows]

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """Accuracy and balanced accuracy of the averaged weights at equal class shares."""
        network = cast(FaceNetwork, self.average.module).eval()
        logits = torch.cat(
            [
                network(
                    sample_crops(padded_crops, identity_affines(len(padded_crops)))
                ).logits.float()
                for padded_crops in self.valid_faces.padded_crops.split(_VALIDATION_BATCH)
            ]
        )
        labels, predicted = self.valid_faces.targets.argmax(dim=1), logits.argmax(dim=1)
        confusion = confusion_matrix(labels.cpu().numpy(), predicted.cpu().numpy())
        temperature = fit_temperature(logits.cpu(), self.valid_faces.targets.cpu())
        network.temperature.fill_(temperature)
        return {
            "steps": self.steps,
            "accuracy": accuracy(confusion).item() if len(labels) else 0.0,
            "balanced_accuracy": balanced_accuracy(confusion).item() if len(labels) else 0.0,
            "temperature": temperature,
        }

    def save(self, folder: Path) -> None:
        """Write the averaged weights as a model folder."""
        network = cast(FaceNetwork, self.average.module)
        save_model(network, folder, self.architecture, **self.config)


def _benchmark_convolutions() -> AbstractContextManager[None]:
    """Let cuDNN try its algorithms for the fixed batch shape, as ``training.train`` does."""
    return torch.backends.cudnn.flags(
        enabled=True, benchmark=True, deterministic=False, allow_tf32=True
    )


def measure_step(
    faces: FaceFile, device: str, scale: Scale, ceilings: dict[str, float]
) -> dict[str, Any]:
    """Images per second of the training step, and its share of the bf16 matmul ceiling."""
    training = Training(faces, device, scale.training_batch)
    with _benchmark_convolutions():
        seconds = time_stream(lambda: training.step(0.5), device, scale.training_steps)
    images_s = training.batch / seconds
    macs = complexity_of(training.architecture, **training.config).macs
    frozen = complexity_of("mobilefacenet").macs  # the landmark stream has no backward pass
    tflop = 2 * (macs + 2 * (macs - frozen)) / 1e12
    return {
        "network": MODEL,
        "batch": training.batch,
        "images_s": images_s,
        "share_of_bf16_matmul": images_s * tflop / ceilings["matmul_bf16_tflops"],
    }


def train(
    faces: FaceFile, device: str, minutes: float, scale: Scale, out: Path
) -> Iterator[dict[str, Any]]:
    """Train for some minutes; ``out`` gets the model folder with the best balanced accuracy."""
    training = Training(faces, device, scale.training_batch)
    seconds, best = minutes * 60, -1.0
    start = validated = time.monotonic()
    while True:
        now = time.monotonic()
        progress = min(1.0, (now - start) / seconds) if seconds else 1.0
        with _benchmark_convolutions():
            training.step(progress)
        is_finished = progress >= 1.0
        if is_finished or now - validated >= scale.validation_interval_s:
            validated = now
            row = training.validate()
            if row["balanced_accuracy"] > best:
                best = row["balanced_accuracy"]
                training.save(out / MODEL)
            yield row | {"seconds": round(now - start, 1), "best_balanced_accuracy": best}
        if is_finished:
            return


def export_faces(data: Path, out: Path) -> FaceFile:
    """Write the faces of ``training.prepare``'s ferplus_train and ferplus_valid to one file.

    They are reduced as far as needed for a file of ``MAX_BYTES``.
    """
    from training.datasets.splits import load_faces as load_dataset

    splits = [load_dataset(data / name) for name in ("ferplus_train", "ferplus_valid")]
    padded_crops = torch.cat([split.padded_crops for split in splits])
    side = min(PADDED_CROP_PX, int((MAX_BYTES / max(1, len(padded_crops))) ** 0.5) - 1)
    small = F.interpolate(padded_crops[:, None].float(), (side, side), mode="area")
    votes = torch.cat([split.targets for split in splits]).mul(255).round().byte()
    is_valid = torch.cat([torch.full((len(split),), i) for i, split in enumerate(splits)]).byte()
    faces = small[:, 0].round().byte()
    with out.open("wb") as file:
        np.savez(file, faces=faces.numpy(), votes=votes.numpy(), is_valid=is_valid.numpy())
    return FaceFile(faces, votes, is_valid)
