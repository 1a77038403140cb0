"""``python -m training.landmarks``: MobileFaceNet-68 from annotated landmarks, or a teacher's.

Packs are those of ``training.prepare`` with ``points68`` (N, 68, 2), fractions of the crop: of
300-W and WFLW as people set them, of other packs those of ``training.teacher``, NaN where it found
no face. The loss is the Wing loss (Feng et al., 2018) in pixels of the crop; the reported error is
the mean point distance over the distance of the outer eye corners (NME), on the packs of
``--valid``. A picture that is in one of them and of ``--train`` ends the run before it begins.

``--out NAME.safetensors`` gets the weights of the last epoch that was completed, the folder NAME
beside it ``run.yaml``, ``metrics.csv`` and ``last.pt``. The same command goes on with a run that
was killed, from the last epoch that was completed, to the same numbers.
"""

import argparse
import sys
import time
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LRScheduler, OneCycleLR
from tqdm import tqdm

from fer_ros.model.mobilefacenet import MobileFaceNet
from fer_ros.model.network import FaceInput
from fer_ros.model.published import load_published
from fer_ros.types import CROP_SIZE_PX
from fer_ros.weights import InputSpec
from training.augment import (
    AugmentConfig,
    Draws,
    centre_maps,
    degrade,
    move_points,
    random_maps,
    view,
)
from training.data import sha256_of_tensors, stands_in
from training.losses import clip_gradient
from training.packs import Pack, gather
from training.processes import epoch_numbers
from training.runlog import RunLog, write_settings
from training.state import Part, read_state, write_state, write_weights

STRONG = AugmentConfig(rotate_deg=30.0, scale=0.2, shift=0.1, low_resolution=0.4, erase=0.4)


@dataclass(frozen=True)
class LandmarksConfig:
    """The command line, but for where the packs and the outcome lie."""

    train: list[str] = field(default_factory=list)  # names of packs
    valid: list[str] = field(default_factory=list)
    weights: str = ""
    epochs: int = 4
    batch: int = 64
    lr: float = 2e-3
    seed: int = 0
    bf16: bool = False
    compile: bool = False


def wing(predicted: Tensor, target: Tensor, width: float = 8.0, curvature: float = 2.0) -> Tensor:
    """Wing loss of points (B, 68, 2) in fractions of the crop; width and curvature in pixels."""
    distance = (predicted - target).abs() * CROP_SIZE_PX
    offset = width - width * float(np.log1p(width / curvature))
    small = width * torch.log1p(distance / curvature)
    return torch.where(distance < width, small, distance - offset).mean()


def nme(predicted: Tensor, target: Tensor) -> Tensor:
    """Mean error of each face (B,) over the distance of its outer eye corners."""
    eyes = (target[:, 36] - target[:, 45]).norm(dim=-1)
    return (predicted - target).norm(dim=-1).mean(dim=1) / eyes


def load(paths: list[Path]) -> tuple[Tensor, Tensor]:
    """Canvases (N, 144, 144) uint8 and landmarks (N, 68, 2) of all faces that have any.

    ValueError, one line, when a pack cannot be used or no face has landmarks.
    """
    packs = [Pack.open(path) for path in paths]
    taught = [pack.column("points68") for pack in packs]
    known = [~np.isnan(each).any(axis=(1, 2)) for each in taught]
    points = [each[keep] for each, keep in zip(taught, known, strict=True)]
    canvases = gather(list(zip(packs, known, strict=True)))
    if len(canvases) == 0:
        raise ValueError(f"{paths[0]}: expected faces with landmarks, found none")
    return torch.from_numpy(canvases), torch.from_numpy(np.concatenate(points))


def check_leaks(train: list[Path], valid: list[Path]) -> None:
    """ValueError, one line, when a picture stands in a pack of both."""
    for pack in map(Pack.open, train):
        for other in map(Pack.open, valid):
            shared = pack.column("name")[stands_in(pack, other)]
            if len(shared):
                raise ValueError(
                    f"{pack} and {other} share {len(shared)} pictures, such as {shared[0]}: "
                    "prepare splits that share none"
                )


@torch.no_grad()
def evaluate(network: nn.Module, canvases: Tensor, points: Tensor) -> Tensor:
    """NME of every face (N,), aligned, without augmentation."""
    network.eval()
    errors = []
    for part, target in zip(canvases.split(128), points.split(128), strict=True):
        errors.append(nme(network(view(part, centre_maps(len(part)))), target))
    network.train()
    return torch.cat(errors)


def start_at(network: MobileFaceNet, mean: Tensor) -> None:
    """Makes the first answers vary a little around the mean face (68, 2)."""
    last = network.output_layer.bn
    nn.init.constant_(last.weight, 0.1)
    last.bias.data = mean.flatten().clone()


def rectify(network: MobileFaceNet) -> None:
    """Makes its activations ReLUs, the slopes below zero being 0 for good.

    ONNX Runtime computes a ReLU within the convolution before it, a PReLU in passes of its own.
    """
    for module in network.modules():
        if isinstance(module, nn.PReLU):
            nn.init.zeros_(module.weight.requires_grad_(False))


def batch(canvases: Tensor, points: Tensor) -> tuple[Tensor, Tensor]:
    """Random views (B, 1, 112, 112) of canvases and where their points (B, 68, 2) are then."""
    draws = Draws.fresh(len(canvases))
    maps, mirrored = random_maps(draws, STRONG)
    crops = degrade(view(canvases, maps), draws, STRONG)
    return crops, move_points(points, maps.to(points.device), mirrored.to(points.device))


class Run:
    """All that a training holds while it runs; ``canvases`` and ``points`` are what it learns."""

    def __init__(self, config: LandmarksConfig, canvases: Tensor, points: Tensor) -> None:
        self.config, self.canvases, self.points = config, canvases, points
        core = MobileFaceNet()
        if config.weights:
            load_published(core, Path(config.weights))
        else:
            start_at(core, points.mean(dim=0))
        rectify(core)
        self.core = core.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.network = nn.Sequential(FaceInput(InputSpec()), core).to(points.device)
        self.stepped = torch.compile(self.network) if config.compile else self.network
        self.steps = len(canvases) // config.batch
        self.optimizer = torch.optim.AdamW(core.parameters(), lr=config.lr, weight_decay=1e-2)
        self.schedule: LRScheduler = OneCycleLR(
            self.optimizer, config.lr, total_steps=config.epochs * self.steps, pct_start=0.15
        )

    def resume(self, path: Path) -> list[dict[str, Any]]:
        """Goes on from the state in a file, if there is one; the figures of its epochs.

        ValueError, one line, when it is broken or of another run.
        """
        rows = read_state(path, self.config, self._parts()).get("rows", [])
        self.schedule.last_epoch = len(rows) * self.steps  # it counts steps
        return rows

    def keep(self, path: Path, rows: list[dict[str, Any]]) -> None:
        """Writes the state that ``resume`` reads."""
        write_state(path, self.config, {"rows": rows}, self._parts())

    def _parts(self) -> dict[str, Part]:
        return {"network": self.core, "optimizer": self.optimizer}


def learn(run: Run, crops: Tensor, target: Tensor) -> float:
    """One step; the loss before it. ValueError when it is not a number."""
    with torch.autocast(crops.device.type, torch.bfloat16, enabled=run.config.bf16):
        predicted = run.stepped(crops)
    loss = wing(predicted.float(), target)
    run.optimizer.zero_grad(set_to_none=True)
    loss.backward()
    clip_gradient(run.core, 5.0, loss.item())
    run.optimizer.step()
    run.schedule.step()
    return loss.item()


def train_epoch(run: Run, epoch: int) -> float:
    """One pass over the faces, with random numbers of its own; the mean loss."""
    torch.manual_seed(epoch_numbers(run.config.seed, epoch).initial_seed())
    order = torch.randperm(len(run.canvases))[: run.steps * run.config.batch]
    total = 0.0
    bar = tqdm(
        order.to(run.canvases.device).split(run.config.batch),
        desc=f"epoch {epoch + 1}/{run.config.epochs}",
    )
    for step, chosen in enumerate(bar):
        total += learn(run, *batch(run.canvases[chosen], run.points[chosen]))
        bar.set_postfix(loss=f"{total / (step + 1):.3f}", refresh=False)
    return total / run.steps


def complete_epoch(run: Run, epoch: int, valid: list[Tensor]) -> dict[str, Any]:
    """Trains and validates one epoch; its figures."""
    started = time.monotonic()
    lr, loss = run.optimizer.param_groups[0]["lr"], train_epoch(run, epoch)
    spent_s = time.monotonic() - started
    errors = evaluate(run.network, *valid)
    return {
        "epoch": epoch + 1,
        "lr": lr,
        "train_loss": loss,
        "valid_nme_mean": errors.mean().item(),
        "valid_nme_median": errors.median().item(),
        "valid_nme_p95": errors.quantile(0.95).item(),
        "pictures_per_s": run.steps * run.config.batch / spent_s,
    }


def run_epochs(run: Run, valid: list[Tensor], out: Path) -> None:
    """From where the run stands to its end; ``out`` is the file of the weights."""
    folder = out.with_suffix("")
    log = RunLog(folder, run.resume(folder / "last.pt"))
    for epoch in range(len(log.rows), run.config.epochs):
        row = complete_epoch(run, epoch, valid)
        log.add(row)
        write_weights(out, run.core.state_dict())
        run.keep(folder / "last.pt", log.rows)
        print(
            f"epoch {row['epoch']}: valid NME mean {row['valid_nme_mean']:.4f}, median "
            f"{row['valid_nme_median']:.4f}, p95 {row['valid_nme_p95']:.4f}, "
            f"{row['pictures_per_s']:.0f} pictures/s",
            flush=True,
        )
    log.close()


def train(config: LandmarksConfig, packs: list[Path], valid_packs: list[Path], out: Path) -> None:
    """The whole run. ValueError or OSError, one line, when it cannot be."""
    if out.suffix != ".safetensors":
        raise ValueError(f"--out: expected a file NAME.safetensors, found {out}: give it that end")
    torch.manual_seed(config.seed)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    check_leaks(packs, valid_packs)
    (canvases, points), valid = (
        [each.to(device) for each in load(paths)] for paths in (packs, valid_packs)
    )
    if len(canvases) < config.batch:
        found = f"found {len(canvases)} faces"
        raise ValueError(f"--train: expected at least a batch of {config.batch}, {found}")
    run = Run(config, canvases, points)
    hashes = {
        "train": sha256_of_tensors(canvases, points),
        "valid": sha256_of_tensors(*valid),
    }
    write_settings(out.with_suffix(""), config, hashes)
    run_epochs(run, valid, out)


def main() -> None:
    """Command line."""
    usual = LandmarksConfig()
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--train", type=Path, nargs="+", required=True, help="packs")
    parser.add_argument("--valid", type=Path, nargs="+", required=True, help="packs")
    parser.add_argument("--out", type=Path, required=True, help="safetensors file")
    parser.add_argument(
        "--weights", metavar="FILE", default=usual.weights, help="of an earlier run, to start from"
    )
    parser.add_argument("--epochs", type=int, default=usual.epochs)
    parser.add_argument("--batch", type=int, default=usual.batch)
    parser.add_argument("--lr", type=float, default=usual.lr)
    parser.add_argument("--seed", type=int, default=usual.seed)
    parser.add_argument("--bf16", action="store_true")
    parser.add_argument("--compile", action="store_true")
    arguments = parser.parse_args()
    values = {each.name: getattr(arguments, each.name) for each in fields(LandmarksConfig)}
    for split in ("train", "valid"):
        values[split] = [path.resolve().name for path in values[split]]
    try:
        train(LandmarksConfig(**values), arguments.train, arguments.valid, arguments.out)
    except (ValueError, OSError) as error:
        sys.exit(f"landmarks: {error}")


if __name__ == "__main__":
    main()
