"""Where a run stands, and how it is kept so that a kill costs one epoch at most."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from pickle import UnpicklingError
from typing import TYPE_CHECKING, Any, Protocol

import torch
from safetensors.torch import save_file
from torch import Tensor

from fer_ros.files import whole_file
from training.settings import TrainConfig

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

    from training.train import Run

_MAY_CHANGE = {"epochs", "patience", "compile"}  # of a run that is resumed


@dataclass
class RunState:
    """``epoch`` are the completed ones; ``rows`` their figures; ``best`` is the best accuracy."""

    epoch: int = 0
    best: float = -1.0
    best_epoch: int = 0
    rows: list[dict[str, Any]] = field(default_factory=list)

    def add(self, row: dict[str, Any]) -> bool:
        """Takes the figures of a completed epoch; whether it is the best one so far."""
        self.epoch += 1
        if row["valid_accuracy"] <= self.best:
            return False
        self.best, self.best_epoch = row["valid_accuracy"], self.epoch
        return True

    def is_over(self, config: TrainConfig) -> bool:
        """All epochs are done, or none of the last ones was better."""
        stuck = config.patience and self.epoch - self.best_epoch >= config.patience
        return bool(stuck) or self.epoch >= config.epochs

    def save(self, path: Path, run: "Run") -> None:
        """Writes the whole file or, when killed meanwhile, leaves the old one."""
        write_state(path, run.config, dataclasses.asdict(self), _parts(run))

    @classmethod
    def load(cls, path: Path, run: "Run") -> "RunState":
        """Brings the run to where it was; a new state when there is no file.

        ValueError, one line, when the file is broken or of another experiment.
        """
        return cls(**read_state(path, run.config, _parts(run)))


class Part(Protocol):
    """A network, an optimizer: what knows how to be kept."""

    def state_dict(self) -> dict[str, Any]:
        """What it is made of."""
        ...

    def load_state_dict(self, state_dict: dict[str, Any]) -> Any:
        """Makes it that again."""
        ...


def _parts(run: "Run") -> dict[str, Part]:
    return {"network": run.network, "ema": run.ema, "optimizer": run.optimizer}


def write_weights(path: Path, state: Mapping[str, Tensor]) -> None:
    """Writes a whole safetensors file or, when killed meanwhile, leaves the old one."""
    with whole_file(path) as file:
        save_file({name: value.cpu().contiguous() for name, value in state.items()}, file)


def write_state(
    path: Path, config: "DataclassInstance", state: dict[str, Any], parts: Mapping[str, Part]
) -> None:
    """Writes the whole file or, when killed meanwhile, leaves the old one."""
    values = {"state": state, "config": dataclasses.asdict(config)}
    values |= {name: part.state_dict() for name, part in parts.items()}
    with whole_file(path) as file:
        torch.save(values, file)


def read_state(
    path: Path, config: "DataclassInstance", parts: Mapping[str, Part]
) -> dict[str, Any]:
    """Brings the parts to where they were, and returns the state; empty when there is no file.

    ValueError, one line, when the file is broken or of another experiment.
    """
    if not path.exists():
        return {}
    try:
        values = torch.load(path, map_location="cpu", weights_only=True)
    except (UnpicklingError, RuntimeError, EOFError):
        raise ValueError(f"{path}: damaged; delete it to start afresh") from None
    if not isinstance(values, dict) or not {"state", "config", *parts} <= values.keys():
        raise ValueError(f"{path}: not of this command; give another folder, or delete it")
    usual = dataclasses.asdict(type(config)())
    other = _first_difference(values["config"], dataclasses.asdict(config), usual)
    if other:
        raise ValueError(
            f"{path}: is of another experiment: {other}; give another folder, or delete it"
        )
    try:
        for name, part in parts.items():
            part.load_state_dict(values[name])
    except (RuntimeError, ValueError):  # such as a network whose code has changed since
        raise ValueError(
            f"{path}: its {name} does not fit into this program's: give another folder, or delete "
            "it to start afresh"
        ) from None
    return values["state"]


def _first_difference(then: dict[str, Any], now: dict[str, Any], usual: dict[str, Any]) -> str:
    """In words; a setting that is younger than the file had the value that is ``usual``."""
    for key, value in now.items():
        before = then.get(key, usual.get(key))
        if key in _MAY_CHANGE or before == value:
            continue
        if isinstance(value, dict) and isinstance(before, dict):
            inside = _first_difference(before, value, usual.get(key, {}))
            if inside:
                return f"{key}.{inside}"
            if before.keys() <= value.keys():
                continue
        return f"{key} was {before!r}, is {value!r}"
    return ""
