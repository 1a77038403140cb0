"""Reference outputs of published networks with deterministic weights: figures in test/data/."""

import json
import math
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

DATA = Path(__file__).with_name("data")

# How each kind of weight comes from normal deviates n of a shape.
RULES = {
    "var": lambda n: 1 + 0.2 * np.abs(n),
    "scale": lambda n: 1 + 0.1 * n,
    "matrix": lambda n: n / math.sqrt(math.prod(n.shape[1:])),
    "small": lambda n: 0.1 * n,
}


def load_figures(name: str) -> dict[str, Any]:
    """``state_dict``: [name, shape, kind] of each tensor; ``outputs`` by name."""
    return json.loads((DATA / f"{name}.json").read_text())


def shapes(figures: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(shape) for name, shape, _ in figures["state_dict"]}


def filled(figures: dict[str, Any]) -> dict[str, Tensor]:
    """The weights; those of kind "keep" are what a constructor makes, so they are not here."""
    return {
        name: _tensor(RULES[kind](_random(zlib.crc32(name.encode())).standard_normal(shape)))
        for name, shape, kind in figures["state_dict"]
        if kind != "keep"
    }


def make_image(*shape: int) -> Tensor:
    return _tensor(_random(7).uniform(-1, 1, size=shape))


def assert_statistics(values: Tensor, expected: list[float]) -> None:
    """``expected``: mean, standard deviation and the first values."""
    actual = torch.cat([torch.stack([values.mean(), values.std()]), values.flatten()])
    torch.testing.assert_close(
        actual[: len(expected)], torch.tensor(expected), rtol=1e-4, atol=1e-4
    )


def _random(seed: int) -> np.random.RandomState:
    return np.random.RandomState(seed)


def _tensor(values: np.ndarray) -> Tensor:
    return torch.tensor(values.astype(np.float32))
