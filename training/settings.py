"""One experiment on one page: everything that a YAML file of ``training/configs`` may say."""

import argparse
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from fer_ros.config import Checked, from_dict, parse_yaml, setting
from training.augment import AugmentConfig
from training.data import DataConfig
from training.losses import LossConfig

T = TypeVar("T")


@dataclass(frozen=True)
class NetworkConfig(Checked):
    """The network and the weights that it starts from."""

    architecture: str = setting("two_stream_small", "a name in fer_ros.model.MODELS")
    config: dict[str, Any] = field(default_factory=dict, metadata={"about": "its arguments"})
    landmarks: str = setting("", "of a two-stream: a file of training.landmarks")
    image_weights: str = setting("", "of its trunk, a file; empty: those of a package")
    freeze_image: bool = setting(False, "the image stream keeps these weights")
    model: str = setting("", "a model to go on from: its folder, or the name of a shipped one")

    def __post_init__(self) -> None:
        super().__post_init__()
        wrong = [name for name in self.config if not isinstance(name, str)]
        if wrong:
            raise ValueError(f"config: expected names of arguments, got {wrong[0]!r}")
        for name in ("landmarks", "image_weights"):
            if self.model and getattr(self, name):
                raise ValueError(
                    f"{name}: all weights are those of model {self.model}: leave it away"
                )


@dataclass(frozen=True)
class OptimizerConfig(Checked):
    """How the weights change."""

    name: str = setting("adamw", "an optimizer of timm.optim")
    lr: float = setting(1e-3, "highest learning rate", 0.0, 1.0)
    warmup: float = setting(0.1, "share of the steps in which it rises; then a cosine", 0.0, 1.0)
    weight_decay: float = setting(0.05, "of all but vectors", 0.0, 1.0)
    trunk_lr_ratio: float = setting(0.5, "learning rate of the trunk over that of the rest", 0, 1)
    layer_decay: float = setting(1.0, "of each block of the trunk over that of the next", 0.0, 1.0)
    clip: float = setting(5.0, "largest norm of the gradient", 0.0, 1e6)
    sam_rho: float = setting(0.0, "radius of SAM (Foret et al., 2021); 0: off", 0.0, 1.0)


@dataclass(frozen=True)
class TrainConfig(Checked):
    """One experiment."""

    data: DataConfig = field(default_factory=DataConfig)
    network: NetworkConfig = field(default_factory=NetworkConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    pictures: int = setting(0, "of each split, drawn by chance; 0: all", 0, 10**9)
    balanced: bool = setting(False, "rare emotions are drawn as often as frequent ones")
    epochs: int = setting(5, "passes over the training split", 1, 10000)
    patience: int = setting(0, "ends after so many epochs without a better one; 0: never", 0, 10000)
    batch: int = setting(32, "pictures in a step, of all processes together", 1, 65536)
    accumulate: int = setting(1, "parts that a process works through in a step", 1, 1024)
    ema_decay: float = setting(0.998, "of the averaged weights, which are the ones kept", 0.0, 1.0)
    bf16: bool = setting(False, "computes in bfloat16 where that is safe")
    compile: bool = setting(False, "compiles the network first")
    seed: int = setting(0, "of all random draws", 0, 2**31)


def experiment_parser(about: str) -> argparse.ArgumentParser:
    """The command line of what runs an experiment: ``experiment``, ``data`` and ``out``."""
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("experiment", type=Path, help="its YAML file")
    parser.add_argument("data", type=Path, help="folder with the packs of training.prepare")
    parser.add_argument("out", type=Path, help="folder for all that comes of it")
    return parser


def read_settings(path: Path, kind: type[T]) -> T:
    """The settings of a YAML file. ValueError names an unknown key or a wrong value."""
    try:
        values = parse_yaml(path.read_bytes())
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    return from_dict(kind, values, str(path))


def read_config(path: Path, image_weights: str | None = None) -> TrainConfig:
    """The experiment of a YAML file. ValueError names an unknown key or a wrong value."""
    config = read_settings(path, TrainConfig)
    if image_weights:
        config = replace(config, network=replace(config.network, image_weights=image_weights))
    return config
