"""Settings of an experiment of ``training.pretrain``."""

from dataclasses import dataclass, field

from fer_ros.config import ValidatedConfig, check_choice, config_field
from training.config import LoopConfig
from training.datasets.splits import DataConfig
from training.ssl.dino import DinoConfig
from training.ssl.mae import MaeConfig
from training.ssl.multicrop import ViewConfig

METHODS = ("dino", "mae")


@dataclass(frozen=True)
class PretrainOptimizerConfig(ValidatedConfig):
    """AdamW, with cosine schedules of learning rate and weight decay."""

    lr: float = config_field(5e-4, "highest learning rate", 0.0, 1.0)
    final_lr: float = config_field(1e-6, "learning rate in the end", 0.0, 1.0)
    warmup: float = config_field(0.1, "fraction of the steps in which the rate rises", 0.0, 1.0)
    weight_decay: float = config_field(
        0.04, "weight decay of all parameters except vectors, at first", 0.0, 1.0
    )
    final_weight_decay: float = config_field(0.2, "weight decay in the end", 0.0, 1.0)
    beta2: float = config_field(0.999, "decay of the second moments", 0.0, 0.999999)
    max_grad_norm: float = config_field(3.0, "gradients are clipped to this norm", 0.0, 1e6)


@dataclass(frozen=True)
class PretrainConfig(LoopConfig):
    """An experiment. Faces of the probe's ``valid`` and ``test`` datasets are not trained on."""

    method: str = config_field("dino", f"one of {', '.join(METHODS)}")
    backbone: str = config_field("vits8", "a vision transformer of fer_ros.models.backbones")
    weights: str = config_field("", "file of a backbone to start from; empty: fresh weights")
    drop_path: float = config_field(0.1, "highest probability to skip a block", 0.0, 0.9)
    datasets: list[str] = field(
        default_factory=list,
        metadata={"description": "folders below DATA; empty: ferplus_train"},
    )
    views: ViewConfig = field(default_factory=ViewConfig)
    dino: DinoConfig = field(default_factory=DinoConfig)
    mae: MaeConfig = field(default_factory=MaeConfig)
    optimizer: PretrainOptimizerConfig = field(default_factory=PretrainOptimizerConfig)
    probe: DataConfig = field(default_factory=DataConfig)
    probe_interval: int = config_field(5, "epochs between two k-NN probes; 0: none", 0, 10000)
    epochs: int = config_field(100, "passes over the faces", 1, 100000)
    batch_size: int = config_field(512, "samples in a step, of all processes together", 2, 65536)
    activation_checkpointing: bool = config_field(False, "recompute activations to save memory")

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("method", self.method, METHODS)
        object.__setattr__(self, "datasets", self.datasets or ["ferplus_train"])
        for name in self.datasets:
            held_out = self.probe.names_held_out()
            if not isinstance(name, str) or name in held_out:
                raise ValueError(f"datasets: expected names beside {held_out}, found {name!r}")
