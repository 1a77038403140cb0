"""Records of a training run: ``run.yaml``, ``metrics.csv``, ``curves.png``, TensorBoard."""

import csv
import dataclasses
import io
import subprocess
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from fer_ros.io.atomic_write import atomic_write

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

_PACKAGES = (
    *("torch", "torchvision", "timm", "lightly", "pytorch-optimizer"),
    *("numpy", "opencv-python-headless"),
)


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically."""
    with atomic_write(path) as file:
        file.write_text(text, encoding="utf-8")


def write_settings(out: Path, config: "DataclassInstance", data_sha256: dict[str, str]) -> None:
    """Write ``run.yaml``: all settings, versions of packages, and a hash of each split's faces.

    The version of a package that is not installed is None.
    """
    values = {
        "revision": _revision(),
        "versions": {name: _version(name) for name in _PACKAGES},
        "data_sha256": data_sha256,
        **dataclasses.asdict(config),
    }
    write_text(out / "run.yaml", yaml.safe_dump(values, sort_keys=False))


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _revision() -> str:
    package = str(Path(__file__).parent)  # not the current directory
    command = ["git", "-C", package, "describe", "--always", "--dirty", "--abbrev=40"]
    try:
        result = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "unknown: not in a git checkout"
    return result.stdout.strip()


class MetricsLogger:
    """Writes the metrics of each epoch to ``metrics.csv``, TensorBoard and ``curves.png``."""

    def __init__(
        self, out: Path, rows: list[dict[str, Any]], curves: Mapping[str, Sequence[str]]
    ) -> None:
        """``rows``: metrics of the epochs before a resumed one; ``curves``: names by axis."""
        from torch.utils.tensorboard import SummaryWriter  # slow to import

        self.rows, self._out, self._curves = rows, out, curves
        self._board = SummaryWriter(str(out / "tensorboard"), purge_step=len(rows) + 1)

    def add(self, row: dict[str, Any]) -> None:
        """Write the metrics of the next epoch."""
        from training.reports.plots import draw_curves  # needs matplotlib

        self.rows.append(row)
        text = io.StringIO()
        names = dict.fromkeys(name for known in self.rows for name in known)
        writer = csv.DictWriter(text, names, lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.rows)
        write_text(self._out / "metrics.csv", text.getvalue())
        for name, value in row.items():
            self._board.add_scalar(name, value, row["epoch"])
        draw_curves(self.rows, self._curves, self._out / "curves.png")

    def close(self) -> None:
        """Flush TensorBoard's events."""
        self._board.close()
