"""Settings of an experiment, as the YAML files in ``training/configs`` give them."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from fer_ros.config import ValidatedConfig, config_field, from_dict
from fer_ros.io.yaml_file import parse_yaml
from training.augment import AugmentConfig
from training.datasets.splits import DataConfig
from training.losses import LossConfig

T = TypeVar("T")


@dataclass(frozen=True)
class NetworkConfig(ValidatedConfig):
    """The network and the weights that it starts from."""

    architecture: str = config_field("two_stream_small", "a name in fer_ros.models.MODELS")
    config: dict[str, Any] = field(
        default_factory=dict, metadata={"description": "arguments of the architecture"}
    )
    landmarks: str = config_field(
        "", "landmark weights of a two-stream network, written by training.train_landmarks"
    )
    image_weights: str = config_field(
        "", "weights file of the image backbone; empty: those of an installed package"
    )
    average_with: list[str] = field(
        default_factory=list,
        metadata={
            "description": "weights files of the same image backbone; it starts from their mean "
            "with image_weights (model soups, Wortsman et al., 2022)"
        },
    )
    freeze_image: bool = config_field(False, "freeze the trunk of the image backbone")
    frozen_blocks: int = config_field(
        0,
        "number of first blocks of a convolutional backbone to freeze, together with the stem; "
        "0: none",
        0,
        99,
    )
    head_of: str = config_field(
        "",
        "two-stream model with more scales or blocks; the layers both have start from its weights",
    )
    model: str = config_field("", "model to start from: its folder, or the name of a shipped one")

    def __post_init__(self) -> None:
        super().__post_init__()
        invalid = [name for name in self.config if not isinstance(name, str)]
        if invalid:
            raise ValueError(f"config: expected names of arguments, found {invalid[0]!r}")
        if self.average_with and not self.image_weights:
            raise ValueError(
                "average_with: expected image_weights as well, found none; set image_weights, or "
                "remove average_with"
            )
        for name in ("landmarks", "image_weights", "head_of"):
            if self.model and getattr(self, name):
                raise ValueError(
                    f"{name}: all weights are those of model {self.model}: remove this setting"
                )


@dataclass(frozen=True)
class OptimizerConfig(ValidatedConfig):
    """Optimizer, learning rates and clipping."""

    name: str = config_field("adamw", "an optimizer of timm.optim")
    lr: float = config_field(1e-3, "highest learning rate", 0.0, 1.0)
    warmup: float = config_field(0.1, "fraction of the steps in which the rate rises", 0.0, 1.0)
    weight_decay: float = config_field(
        0.05, "weight decay of all parameters except vectors", 0.0, 1.0
    )
    max_grad_norm: float = config_field(5.0, "gradients are clipped to this norm", 0.0, 1e6)
    sam_rho: float = config_field(0.0, "radius of SAM (Foret et al., 2021); 0: off", 0.0, 1.0)


@dataclass(frozen=True)
class FineTuningOptimizerConfig(OptimizerConfig):
    """Lower learning rates for a pretrained backbone."""

    backbone_lr_scale: float = config_field(
        0.5, "learning rate of the backbone over that of the rest", 0.0, 1.0
    )
    layer_decay: float = config_field(
        1.0, "learning rate of each block of the backbone over that of the next", 0.0, 1.0
    )


@dataclass(frozen=True)
class LoopConfig(ValidatedConfig):
    """Settings of ``training.engine.trainer``, which every experiment has."""

    max_samples: int = config_field(0, "random samples of each split; 0: all", 0, 10**9)
    epochs: int = config_field(5, "passes over the training split", 1, 100000)
    patience: int = config_field(
        0, "stop after this number of epochs without improvement; 0: off", 0, 10000
    )
    batch_size: int = config_field(32, "samples in a step, of all processes together", 1, 65536)
    accumulation_steps: int = config_field(
        1, "parts in which a process computes its gradient, to save memory", 1, 1024
    )
    ema_decay: float = config_field(0.0, "decay of the averaged weights; 0: no average", 0.0, 1.0)
    bf16: bool = config_field(False, "use bfloat16 autocast")
    compile: bool = config_field(False, "use torch.compile")
    seed: int = config_field(0, "seed of all random draws", 0, 2**31)


@dataclass(frozen=True)
class TrainConfig(LoopConfig):
    """An experiment of ``training.train``."""

    data: DataConfig = field(default_factory=DataConfig)
    network: NetworkConfig = field(default_factory=NetworkConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    optimizer: FineTuningOptimizerConfig = field(default_factory=FineTuningOptimizerConfig)
    epoch_samples: int = config_field(
        0,
        "faces drawn for an epoch, by the sampling weights of their datasets; 0: each once",
        0,
        10**9,
    )
    class_balanced_sampling: bool = config_field(False, "draw every emotion equally often")
    ema_decay: float = config_field(0.998, "decay of the averaged weights; 0: no average", 0.0, 1.0)

    def __post_init__(self) -> None:
        super().__post_init__()
        if 0 < self.epoch_samples < self.batch_size:
            raise ValueError(
                f"epoch_samples: expected 0 or a batch of {self.batch_size} and more, found "
                f"{self.epoch_samples}"
            )
        if self.epoch_samples and self.class_balanced_sampling:
            raise ValueError(
                "epoch_samples: expected 0 with class_balanced_sampling, "
                f"found {self.epoch_samples}"
            )
        self._check_sampling()
        self._check_targets()

    def _check_sampling(self) -> None:
        weighted = [use for use in self.data.train if use.sampling_weight != 1]
        if weighted and not self.epoch_samples:
            raise ValueError(
                f"data.train: sampling_weight of {weighted[0].dataset}: expected 1 without "
                f"epoch_samples, found {weighted[0].sampling_weight}; set epoch_samples"
            )
        if self.class_balanced_sampling and self.loss.logit_adjustment:
            raise ValueError(
                "loss.logit_adjustment: expected false with class_balanced_sampling, found true: "
                "both make up for the class shares; remove one of them"
            )

    def _check_targets(self) -> None:
        if self.loss.targets != "majority":
            return
        softened = [use for use in self.data.train if use.smoothing or use.teacher_weight]
        if softened:
            raise ValueError(
                f"data.train: smoothing and teacher_weight of {softened[0].dataset}: expected 0 "
                "with loss.targets: majority, which replaces all other targets; remove them"
            )
        if self.loss.logit_adjustment:
            raise ValueError(
                "loss.logit_adjustment: expected false with loss.targets: majority, found true: "
                "class shares are those of the votes; use loss.targets: votes"
            )


@dataclass(frozen=True)
class LandmarkAugmentConfig(AugmentConfig):
    """Stronger views than those for emotions: landmarks move with the face."""

    rotate_deg: float = config_field(30.0, "maximum rotation to either side, degrees", 0.0, 180.0)
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
    weight_decay: float = config_field(0.01, "weight decay of all parameters", 0.0, 1.0)


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
                raise ValueError(f"{split}: expected names of datasets, found {invalid[0]!r}")


def read_config(path: Path, kind: type[T], overrides: Sequence[str] = ()) -> T:
    """Read settings from a YAML file; ``overrides`` (``optimizer.lr=1e-4``) replace values of it.

    Raises ValueError when a key is unknown or a value is wrong, OSError when there is no such file.
    """
    try:
        values = parse_yaml(path.read_bytes())
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    for override in overrides:
        _set(values, override)
    return from_dict(kind, values, str(path))


def _set(values: Any, override: str) -> None:
    """Apply ``key.key=value`` to nested mappings."""
    key, equals, text = override.partition("=")
    *parents, name = key.split(".")
    try:
        value = parse_yaml(text.encode())
    except ValueError as error:
        raise ValueError(f"{override}: {error}") from None
    for parent in parents:
        values = values.setdefault(parent, {}) if isinstance(values, dict) else None
    if not equals or not isinstance(values, dict):
        raise ValueError(f"{override}: expected KEY=VALUE such as optimizer.lr=1e-4")
    values[name] = value
