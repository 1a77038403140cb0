"""Checkpoints of a training run: a killed run loses at most one epoch."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from pickle import UnpicklingError
from typing import TYPE_CHECKING, Any, Protocol

import torch
from safetensors.torch import save_file
from torch import Tensor

from fer_ros.io.atomic_write import atomic_write

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

_RESUMABLE_CHANGES = {"epochs", "patience", "compile"}
"""Settings that may differ between a checkpoint and the run that resumes it."""


class Stateful(Protocol):
    """An object with a state that can be saved: a network, an optimizer."""

    def state_dict(self) -> dict[str, Any]:
        """The state."""
        ...

    def load_state_dict(self, state_dict: dict[str, Any]) -> Any:
        """Restore a state."""
        ...


@dataclass
class TrainingState:
    """Progress of a run: completed epochs, the best score and its epoch, metrics of each epoch."""

    epoch: int = 0
    best_score: float = float("-inf")
    best_epoch: int = 0
    rows: list[dict[str, Any]] = field(default_factory=list)

    def complete_epoch(self, score: float) -> bool:
        """Count an epoch; whether its score is the best one so far."""
        self.epoch += 1
        if not score > self.best_score:  # a score that is NaN is never the best
            return False
        self.best_score, self.best_epoch = score, self.epoch
        return True

    def is_finished(self, epochs: int, patience: int) -> bool:
        """Whether all epochs are done, or the last ``patience`` ones brought no improvement."""
        exhausted = patience > 0 and self.epoch - self.best_epoch >= patience
        return exhausted or self.epoch >= epochs


def save_weights(path: Path, state: Mapping[str, Tensor]) -> None:
    """Write a safetensors file atomically."""
    with atomic_write(path) as file:
        save_file({name: value.cpu().contiguous() for name, value in state.items()}, file)


def save_checkpoint(
    path: Path, config: "DataclassInstance", state: TrainingState, parts: Mapping[str, Stateful]
) -> None:
    """Write a checkpoint atomically: progress, settings, and the state of each part by name."""
    values = {"state": dataclasses.asdict(state), "config": dataclasses.asdict(config)}
    values |= {name: part.state_dict() for name, part in parts.items()}
    with atomic_write(path) as file:
        torch.save(values, file)


def load_checkpoint(
    path: Path, config: "DataclassInstance", parts: Mapping[str, Stateful]
) -> TrainingState:
    """Restore the parts and return the progress; a new ``TrainingState`` when there is no file.

    Raises ValueError when the file is damaged, or of another experiment.
    """
    if not path.exists():
        return TrainingState()
    try:
        values = torch.load(path, map_location="cpu", weights_only=True)
    except (UnpicklingError, RuntimeError, EOFError):
        raise ValueError(f"{path}: damaged; delete it to start again") from None
    if not isinstance(values, dict) or not {"state", "config", *parts} <= values.keys():
        raise ValueError(
            f"{path}: not a checkpoint of this command; give another folder, or delete it"
        )
    defaults = dataclasses.asdict(type(config)())
    difference = _first_difference(values["config"], dataclasses.asdict(config), defaults)
    if difference:
        raise ValueError(
            f"{path}: is of another experiment: {difference}; give another folder, or delete it"
        )
    try:
        for name, part in parts.items():
            part.load_state_dict(values[name])
        return TrainingState(**values["state"])
    except (RuntimeError, ValueError, TypeError):  # such as a network whose code has changed
        raise ValueError(
            f"{path}: its state does not fit this version of the program; give another folder, or "
            "delete it to start again"
        ) from None


def _first_difference(
    saved: dict[str, Any], current: dict[str, Any], defaults: dict[str, Any]
) -> str:
    """The first setting that differs, as text; one that the file lacks had its default."""
    for key, value in current.items():
        before = saved.get(key, defaults.get(key))
        if key in _RESUMABLE_CHANGES or before == value:
            continue
        if isinstance(value, dict) and isinstance(before, dict):
            inside = _first_difference(before, value, defaults.get(key, {}))
            if inside:
                return f"{key}.{inside}"
            if before.keys() <= value.keys():
                continue
        return f"{key} was {before!r}, is {value!r}"
    return ""
