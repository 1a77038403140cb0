"""Runs of the commands that train: whole, killed, of two processes; and what they leave."""

import csv
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import yaml
from tree import ROOT

TWO_PROCESSES = (sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2")


def write_experiment(folder: Path, values: object) -> Path:
    """The YAML file of an experiment; a text stands in it as it is."""
    path = folder / "experiment.yaml"
    path.write_text(values if isinstance(values, str) else yaml.safe_dump(values))
    return path


def run(monkeypatch: pytest.MonkeyPatch, command: ModuleType, *arguments: object) -> None:
    """Runs a command in this process."""
    monkeypatch.setattr(sys, "argv", [command.__name__, *map(str, arguments)])
    command.main()


def run_and_kill(monkeypatch: pytest.MonkeyPatch, command: ModuleType, *arguments: object) -> None:
    """Runs a command that is killed in its second epoch."""

    def dies(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        epochs = iter([command.train_epoch, dies])
        patched.setattr(command, "train_epoch", lambda run, epoch: next(epochs)(run, epoch))
        run(patched, command, *arguments)


def run_in_two_processes(*command: object) -> None:
    """Runs a script or, behind ``-m``, a module of the project in two processes over gloo."""
    paths = [str(ROOT), str(ROOT / "test"), os.environ.get("PYTHONPATH", "")]
    done = subprocess.run(
        [*TWO_PROCESSES, "--standalone", *map(str, command)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def figures(out: Path) -> list[dict[str, float]]:
    """All figures of each epoch but the speed."""
    with (out / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    return [{key: float(row[key]) for key in row if key != "pictures_per_s"} for row in rows]
