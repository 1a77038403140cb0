"""``python -m training.train CONFIG.yaml DATA OUT``: a classifier from FER+ votes.

DATA holds the packs of ``training.prepare``. OUT becomes a model folder that the robot loads,
written anew after every epoch; the temperature is fitted on the validation split at the end.
"""

import argparse
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import torch
import torch.nn.functional as F  # noqa: N812
import yaml
from timm.utils import ModelEmaV3
from torch import Tensor, nn
from tqdm import tqdm

from fer_ros.config import Checked, from_dict, setting
from fer_ros.model import build_model
from fer_ros.model.checkpoint import save_model
from fer_ros.model.network import FaceNetwork
from fer_ros.model.published import load_published, load_trunk
from fer_ros.model.two_stream import TwoStream
from fer_ros.weights import InputSpec
from training.augment import AugmentConfig, centre_maps, degrade, random_maps, view
from training.data import Faces, load_ferplus
from training.imagenet import IMAGENET


@dataclass(frozen=True)
class TrainConfig(Checked):
    """One experiment."""

    architecture: str = setting("two_stream_small", "a name in fer_ros.model.MODELS")
    image: str = setting("efficientnet_lite0", "a name in fer_ros.model.image_stream.IMAGE_STREAMS")
    landmarks: str = setting("", "safetensors file of training.landmarks")
    image_weights: str = setting("", "published weights of the image stream; empty: ImageNet's")
    freeze_image: bool = setting(False, "the image stream keeps these weights")
    epochs: int = setting(5, "passes over the training split", 1, 1000)
    batch: int = setting(32, "pictures in a step", 1, 4096)
    lr: float = setting(1e-3, "highest learning rate", 0.0, 1.0)
    trunk_lr_ratio: float = setting(0.5, "of the image stream", 0.0, 1.0)
    layer_decay: float = setting(1.0, "of each of its blocks over that of the next", 0.0, 1.0)
    weight_decay: float = setting(0.05, "of AdamW", 0.0, 1.0)
    ema_decay: float = setting(0.998, "of the averaged weights, which are the ones kept", 0.0, 1.0)
    seed: int = setting(0, "of all random draws", 0, 2**31)


def build(config: TrainConfig) -> FaceNetwork:
    """The network with the weights that it starts from. ModelError names a file that is no use."""
    core = build_model(config.architecture, image=config.image)
    if not isinstance(core, TwoStream):
        raise ValueError(
            f"architecture: expected a two-stream network, got {config.architecture!r}"
        )
    if not config.landmarks:
        raise ValueError("landmarks: expected a file of training.landmarks, found none")
    load_published(core.landmarks, Path(config.landmarks))
    if config.image_weights:
        load_trunk(core.image, Path(config.image_weights))
    elif config.image in IMAGENET:
        core.image.trunk.load_state_dict(core.image.translate(IMAGENET[config.image]()))
    if config.freeze_image:
        core.image.freeze()
    return FaceNetwork(core, InputSpec(size_px=core.side_px))


def parameter_groups(network: FaceNetwork, config: TrainConfig) -> list[dict]:
    """The trunk of the image stream slower than what starts from nothing; no decay for vectors."""
    blocks = cast(TwoStream, network.core).image.layer_groups()
    top = config.lr * config.trunk_lr_ratio
    rates = {
        id(value): top * config.layer_decay**above
        for above, block in enumerate(reversed(blocks))
        for value in block
    }
    groups: dict[tuple[float, bool], list[nn.Parameter]] = {}
    for value in network.parameters():
        if value.requires_grad:
            key = (rates.get(id(value), config.lr), value.ndim > 1)
            groups.setdefault(key, []).append(value)
    return [
        {"params": values, "lr": lr, "weight_decay": config.weight_decay if decay else 0.0}
        for (lr, decay), values in groups.items()
    ]


def batches(faces: Faces, size: int, title: str) -> Iterator[tuple[Tensor, Tensor]]:
    """One pass in random order: augmented crops (size, 1, 112, 112) and targets (size, 8)."""
    config = AugmentConfig()
    order = torch.randperm(len(faces))[: len(faces) // size * size]
    for chosen in tqdm(order.split(size), desc=title, mininterval=20):
        maps, _ = random_maps(size, config)
        yield degrade(view(faces.canvases[chosen], maps), config), faces.targets[chosen]


@torch.no_grad()
def predict_logits(network: nn.Module, faces: Faces) -> Tensor:
    """Logits (N, 8) of the aligned crops, without augmentation."""
    parts = faces.canvases.split(128)
    return torch.cat([network(view(part, centre_maps(len(part)))).logits for part in parts])


def fit_temperature(logits: Tensor, targets: Tensor) -> float:
    """The temperature that makes the vote distribution most likely (Guo et al., 2017)."""
    log_temperature = torch.zeros((), requires_grad=True)
    optimizer = torch.optim.LBFGS([log_temperature], max_iter=50)

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = F.cross_entropy(logits / log_temperature.exp(), targets)
        loss.backward()
        return loss

    optimizer.step(closure)
    return log_temperature.exp().item()


def train(config: TrainConfig, data: Path, out: Path, fast: bool) -> None:
    """The whole run."""
    torch.manual_seed(config.seed)
    network = build(config)
    faces, valid = load_ferplus(data, "train"), load_ferplus(data, "valid")
    if len(faces) < config.batch or len(valid) == 0:
        found = f"{len(faces)} pictures to train on and {len(valid)} to validate with"
        raise ValueError(f"{data}: expected at least a batch of {config.batch}, found {found}")
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    step = torch.compile(network) if fast else network
    ema = ModelEmaV3(network, decay=config.ema_decay, use_warmup=True)
    optimizer = torch.optim.AdamW(parameter_groups(network, config))
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer,
        max_lr=[group["lr"] for group in optimizer.param_groups],
        total_steps=config.epochs * (len(faces) // config.batch),
        pct_start=0.15,
    )
    started = time.monotonic()
    for epoch in range(config.epochs):
        network.train()
        for crops, targets in batches(faces, config.batch, f"epoch {epoch + 1}"):
            with torch.autocast("cpu", torch.bfloat16, enabled=fast):
                logits = step(crops).logits
            loss = F.cross_entropy(logits.float(), targets)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(network.parameters(), 5.0)
            optimizer.step()
            schedule.step()
            ema.update(network)
        logits = predict_logits(ema.module.eval(), valid)
        accuracy = (logits.argmax(dim=1) == valid.labels).float().mean()
        minutes = (time.monotonic() - started) / 60
        print(f"epoch {epoch + 1}: {minutes:.1f} min, valid accuracy {accuracy:.4f}", flush=True)
        ema.module.temperature.fill_(fit_temperature(logits, valid.targets))
        save_model(ema.module, out, config.architecture, image=config.image)


def read_config(path: Path, image_weights: str | None = None) -> TrainConfig:
    """The experiment of a YAML file. ValueError names an unknown key or a wrong value."""
    values = yaml.safe_load(path.read_text(encoding="utf-8"))
    config = from_dict(TrainConfig, values, str(path))
    return replace(config, image_weights=image_weights) if image_weights else config


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("config", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--image-weights", metavar="FILE", help="in place of the configured ones")
    parser.add_argument("--fast", action="store_true", help="compiled, in bfloat16")
    arguments = parser.parse_args()
    try:
        config = read_config(arguments.config, arguments.image_weights)
        train(config, arguments.data, arguments.out, arguments.fast)
    except (ValueError, OSError) as error:
        sys.exit(f"train: {error}")


if __name__ == "__main__":
    main()
