"""All that the YAML file of a pre-training may say."""

from dataclasses import dataclass, field

from fer_ros.config import Checked, setting
from training.data import DataConfig
from training.dino import DinoConfig
from training.mae import MaeConfig
from training.multicrop import ViewConfig

METHODS = ("dino", "mae")


@dataclass(frozen=True)
class RateConfig(Checked):
    """How the weights change: AdamW, with a cosine for both rates."""

    lr: float = setting(5e-4, "highest learning rate", 0.0, 1.0)
    last_lr: float = setting(1e-6, "learning rate in the end", 0.0, 1.0)
    warmup: float = setting(0.1, "share of the steps in which it rises", 0.0, 1.0)
    weight_decay: float = setting(0.04, "of all but vectors, in the beginning", 0.0, 1.0)
    last_weight_decay: float = setting(0.2, "of all but vectors, in the end", 0.0, 1.0)
    beta2: float = setting(0.999, "memory of squared gradients", 0.0, 0.999999)
    clip: float = setting(3.0, "largest norm of the gradient", 0.0, 1e6)


@dataclass(frozen=True)
class PretrainConfig(Checked):
    """One experiment. What ``probe`` judges with is never learned from, without labels neither."""

    method: str = setting("dino", f"one of {', '.join(METHODS)}")
    stream: str = setting("vits8", "the image stream whose trunk it is")
    weights: str = setting("", "a trunk to go on from: of this program, or published")
    drop_path: float = setting(0.1, "highest probability that a block is left out", 0.0, 0.9)
    packs: list[str] = field(default_factory=list, metadata={"about": "empty: ferplus_train"})
    views: ViewConfig = field(default_factory=ViewConfig)
    dino: DinoConfig = field(default_factory=DinoConfig)
    mae: MaeConfig = field(default_factory=MaeConfig)
    optimizer: RateConfig = field(default_factory=RateConfig)
    probe: DataConfig = field(default_factory=DataConfig)
    probe_every: int = setting(5, "epochs between two looks at labelled faces; 0: none", 0, 10000)
    pictures: int = setting(0, "drawn by chance from the packs; 0: all", 0, 10**9)
    epochs: int = setting(100, "passes over the faces", 1, 100000)
    batch: int = setting(512, "faces in a step, of all processes together", 2, 65536)
    bf16: bool = setting(False, "computes in bfloat16 where that is safe")
    compile: bool = setting(False, "compiles the trunks first")
    recompute: bool = setting(False, "saves memory: computes twice what it would keep")
    seed: int = setting(0, "of all random draws", 0, 2**31)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.method not in METHODS:
            raise ValueError(f"method: expected {' or '.join(METHODS)}, got {self.method!r}")
        object.__setattr__(self, "packs", self.packs or ["ferplus_train"])
        for name in self.packs:
            if not isinstance(name, str) or name in self.held_out:
                raise ValueError(f"packs: expected names beside {self.held_out}, got {name!r}")

    @property
    def held_out(self) -> list[str]:
        """Packs of which nothing is learned."""
        return [name for name in (self.probe.valid, self.probe.test) if name]
