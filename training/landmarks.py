"""``python -m training.landmarks``: MobileFaceNet-68 from annotated landmarks, or a teacher's.

Packs are those of ``training.prepare`` with ``points68`` (N, 68, 2), fractions of the crop: of
300-W and WFLW as people set them, of other packs those of ``training.teacher``, NaN where it found
no face. The loss is the Wing loss (Feng et al., 2018) in pixels of the crop; the reported error is
the mean point distance over the distance of the outer eye corners (NME), on the packs of
``--valid``. A picture that is in one of them and of ``--train`` ends the run before it begins.

``--out`` gets the weights of the last epoch that was completed.
"""

import argparse
import sys
import time
from pathlib import Path

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
from training.data import stands_in
from training.losses import clip_gradient
from training.packs import Pack, gather
from training.state import write_weights

STRONG = AugmentConfig(rotate_deg=30.0, scale=0.2, shift=0.1, low_resolution=0.4, erase=0.4)


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
    """All that a training holds while it runs."""

    def __init__(self, arguments: argparse.Namespace, mean: Tensor, pictures: int) -> None:
        core = MobileFaceNet()
        if arguments.weights:
            load_published(core, arguments.weights)
        else:
            start_at(core, mean)
        rectify(core)
        self.core = core.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.network = nn.Sequential(FaceInput(InputSpec()), core).to(mean.device)
        self.stepped = torch.compile(self.network) if arguments.compile else self.network
        self.bf16, self.batch = arguments.bf16, arguments.batch
        self.steps = pictures // arguments.batch
        self.optimizer = torch.optim.AdamW(core.parameters(), lr=arguments.lr, weight_decay=1e-2)
        self.schedule: LRScheduler = OneCycleLR(
            self.optimizer, arguments.lr, total_steps=arguments.epochs * self.steps, pct_start=0.15
        )


def learn(run: Run, crops: Tensor, target: Tensor) -> float:
    """One step; the loss before it. ValueError when it is not a number."""
    with torch.autocast(crops.device.type, torch.bfloat16, enabled=run.bf16):
        predicted = run.stepped(crops)
    loss = wing(predicted.float(), target)
    run.optimizer.zero_grad(set_to_none=True)
    loss.backward()
    clip_gradient(run.core, 5.0, loss.item())
    run.optimizer.step()
    run.schedule.step()
    return loss.item()


def train(arguments: argparse.Namespace) -> None:
    """The whole run: ``arguments`` are those of the command line. ValueError, one line."""
    torch.manual_seed(arguments.seed)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    check_leaks(arguments.train, arguments.valid)
    (canvases, points), valid = (
        [each.to(device) for each in load(paths)] for paths in (arguments.train, arguments.valid)
    )
    if len(canvases) < arguments.batch:
        found = f"found {len(canvases)} faces"
        raise ValueError(f"--train: expected at least a batch of {arguments.batch}, {found}")
    run, started = Run(arguments, points.mean(dim=0), len(canvases)), time.monotonic()
    for epoch in range(arguments.epochs):
        order = torch.randperm(len(canvases))[: run.steps * run.batch].to(device)
        bar = tqdm(order.split(run.batch), desc=f"epoch {epoch + 1}/{arguments.epochs}")
        for chosen in bar:
            loss = learn(run, *batch(canvases[chosen], points[chosen]))
            bar.set_postfix(loss=f"{loss:.3f}", refresh=False)
        errors = evaluate(run.network, *valid)
        print(
            f"epoch {epoch + 1}: {(time.monotonic() - started) / 60:.1f} min, valid NME mean "
            f"{errors.mean():.4f}, median {errors.median():.4f}, p95 {errors.quantile(0.95):.4f}",
            flush=True,
        )
        write_weights(arguments.out, run.core.state_dict())


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--train", type=Path, nargs="+", required=True, help="packs")
    parser.add_argument("--valid", type=Path, nargs="+", required=True, help="packs")
    parser.add_argument("--out", type=Path, required=True, help="safetensors file")
    parser.add_argument("--weights", type=Path, metavar="FILE", help="of an earlier run, to go on")
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--bf16", action="store_true")
    parser.add_argument("--compile", action="store_true")
    try:
        train(parser.parse_args())
    except (ValueError, OSError) as error:
        sys.exit(f"landmarks: {error}")


if __name__ == "__main__":
    main()
