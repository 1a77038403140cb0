"""``python -m training.landmarks``: MobileFaceNet-68 from landmarks of a teacher.

Packs are those of ``training.prepare`` with ``points68`` (N, 68, 2), fractions of the crop, NaN
where the teacher found no face (``training.teacher``). The loss is the Wing loss (Feng et al.,
2018) in pixels of the crop; the reported error is the mean point distance over the distance of the
outer eye corners (NME).
"""

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from tqdm import tqdm

from fer_ros.model.mobilefacenet import MobileFaceNet
from fer_ros.model.network import FaceInput
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
from training.packs import Pack, gather

face_input = FaceInput(InputSpec())

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
    """Canvases (N, 144, 144) uint8 and landmarks (N, 68, 2) of all faces the teacher found."""
    packs = [Pack.open(path) for path in paths]
    taught = [pack.column("points68") for pack in packs]
    known = [~np.isnan(each).any(axis=(1, 2)) for each in taught]
    points = [each[keep] for each, keep in zip(taught, known, strict=True)]
    canvases = gather(list(zip(packs, known, strict=True)))
    return torch.from_numpy(canvases), torch.from_numpy(np.concatenate(points))


@torch.no_grad()
def evaluate(network: MobileFaceNet, canvases: Tensor, points: Tensor) -> Tensor:
    """NME of every face (N,), aligned, without augmentation."""
    network.eval()
    errors = []
    for part, target in zip(canvases.split(128), points.split(128), strict=True):
        crops = face_input(view(part, centre_maps(len(part))))
        errors.append(nme(network(crops), target))
    network.train()
    return torch.cat(errors)


def start_at(network: MobileFaceNet, mean: Tensor) -> None:
    """Makes the first answers vary a little around the mean face (68, 2)."""
    last = network.output_layer.bn
    nn.init.constant_(last.weight, 0.1)
    last.bias.data = mean.flatten().clone()


def train(arguments: argparse.Namespace) -> None:
    """The whole run: ``arguments`` are those of the command line."""
    torch.manual_seed(arguments.seed)
    canvases, points = load(arguments.train)
    valid = load(arguments.valid)
    network = MobileFaceNet()
    start_at(network, points.mean(dim=0))
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    step = torch.compile(network) if arguments.compile else network
    optimizer = torch.optim.AdamW(network.parameters(), lr=arguments.lr, weight_decay=1e-2)
    steps = arguments.epochs * (len(canvases) // arguments.batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=arguments.lr, total_steps=steps, pct_start=0.15
    )
    done, started = 0, time.monotonic()
    for epoch in range(arguments.epochs):
        order = torch.randperm(len(canvases))[: steps // arguments.epochs * arguments.batch]
        bar = tqdm(order.split(arguments.batch), desc=f"epoch {epoch + 1}", mininterval=20)
        for chosen in bar:
            draws = Draws.fresh(len(chosen))
            maps, mirrored = random_maps(draws, STRONG)
            crops = face_input(degrade(view(canvases[chosen], maps), draws, STRONG))
            target = move_points(points[chosen], maps, mirrored)
            with torch.autocast("cpu", torch.bfloat16, enabled=arguments.bf16):
                predicted = step(crops)
            loss = wing(predicted.float(), target)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), 5.0)
            optimizer.step()
            schedule.step()
            done += 1
            bar.set_postfix(loss=f"{loss.item():.3f}", refresh=False)
        errors = evaluate(network, *valid)
        print(
            f"epoch {epoch + 1}: {(time.monotonic() - started) / 60:.1f} min, valid NME median "
            f"{errors.median():.4f}, p95 {errors.quantile(0.95):.4f}",
            flush=True,
        )
        state = {name: value.contiguous() for name, value in network.state_dict().items()}
        save_file(state, arguments.out)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--train", type=Path, nargs="+", required=True)
    parser.add_argument("--valid", type=Path, nargs="+", required=True)
    parser.add_argument("--out", type=Path, required=True, help="safetensors file")
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--bf16", action="store_true")
    parser.add_argument("--compile", action="store_true")
    train(parser.parse_args())


if __name__ == "__main__":
    main()
