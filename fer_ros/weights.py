"""Model folders: finds them, reads ``model.yaml`` and verifies the weights file. Knows no torch.

A model folder holds ``model.yaml`` (what the file is), the weights named there, CARD.md and
metrics.json. Shipped folders stand in ``models/``, in the source tree or under ``share/fer_ros``.
"""

import hashlib
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import yaml

from fer_ros.config import from_dict, setting
from fer_ros.labels import EMOTIONS

CARD_FILE = "model.yaml"
FORMAT = 1


class ModelError(ValueError):
    """A model cannot be used; the message is one line."""


@dataclass(frozen=True)
class InputSpec:
    """What a network expects: side in pixels, grey (Rec. 601) or RGB, mean and std of 0..1."""

    size_px: int = setting(112, "side of the picture that the network sees", 1, 4096)
    luma: bool = True
    mean: tuple[float, ...] = (0.5, 0.5, 0.5)
    std: tuple[float, ...] = (0.5, 0.5, 0.5)

    def __post_init__(self) -> None:
        for name in ("mean", "std"):
            values = getattr(self, name)
            if not isinstance(values, (list, tuple)) or len(values) != 3:
                raise ValueError(f"{name}: expected three numbers, got {values!r}")
            if not all(isinstance(value, (int, float)) for value in values):
                raise ValueError(f"{name}: expected three numbers, got {values!r}")
            object.__setattr__(self, name, tuple(float(value) for value in values))
        if min(self.std) <= 0:
            raise ValueError(f"std: expected numbers above 0, got {self.std}")
