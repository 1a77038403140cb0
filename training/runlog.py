"""What a run leaves behind for people: its settings, its figures, its pictures."""

import csv
import dataclasses
import io
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from torch.utils.tensorboard import SummaryWriter

from fer_ros.files import whole_file

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

_PACKAGES = (
    *("torch", "torchvision", "timm", "lightly", "pytorch-optimizer"),
    *("numpy", "opencv-python-headless"),
)


def write_text(path: Path, text: str) -> None:
    """Writes a whole file or, when the process is killed meanwhile, nothing."""
    with whole_file(path) as file:
        file.write_text(text, encoding="utf-8")


def write_settings(out: Path, config: "DataclassInstance", data_sha256: dict[str, str]) -> None:
    """``run.yaml``: the experiment as it ran, with a hash of each split's faces."""
    values = {
        "revision": _revision(),
        "versions": {name: version(name) for name in _PACKAGES},
        "data_sha256": data_sha256,
        **dataclasses.asdict(config),
    }
    write_text(out / "run.yaml", yaml.safe_dump(values, sort_keys=False))


def _revision() -> str:
    here = str(Path(__file__).parent)  # not where the command is given
    command = ["git", "-C", here, "describe", "--always", "--dirty", "--abbrev=40"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "unknown: not in a git checkout"
    return done.stdout.strip()


class RunLog:
    """``metrics.csv`` and TensorBoard's files, one row for each epoch."""

    def __init__(self, out: Path, rows: list[dict[str, Any]]) -> None:
        """``rows``: those of a run that is resumed."""
        self.rows = rows
        self._path = out / "metrics.csv"
        self._board = SummaryWriter(str(out / "tensorboard"), purge_step=len(rows) + 1)

    def add(self, row: dict[str, Any]) -> None:
        """The figures of the next epoch."""
        self.rows.append(row)
        text = io.StringIO()
        writer = csv.DictWriter(text, list(row), lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.rows)
        write_text(self._path, text.getvalue())
        for name, value in row.items():
            self._board.add_scalar(name, value, row["epoch"])

    def close(self) -> None:
        """Writes what is still in memory."""
        self._board.close()
