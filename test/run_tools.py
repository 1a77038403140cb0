"""Runs of the training commands: complete, killed, rejected, or in two processes."""

import csv
import io
import os
import re
import subprocess
import sys
from contextlib import redirect_stderr
from datetime import timedelta
from pathlib import Path
from types import ModuleType

import pytest
import torch
import yaml
from tree import ROOT

from training.engine.trainer import Trainer

TWO_PROCESSES = (sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2")
STORE_TIMEOUT = timedelta(seconds=60)


def write_experiment(folder: Path, values: object) -> Path:
    """Write the YAML file of an experiment; a string is written unchanged."""
    path = folder / "experiment.yaml"
    path.write_text(values if isinstance(values, str) else yaml.safe_dump(values))
    return path


def run(command: ModuleType, *arguments: object) -> None:
    """Run a command in this process. SystemExit with the line of its error when it fails."""
    stderr = io.StringIO()
    try:
        with redirect_stderr(stderr):
            code = command.main([*map(str, arguments)])
    finally:
        sys.stderr.write(stderr.getvalue())
    if code:
        program = command.__name__.rpartition(".")[2]
        error = re.search(rf"^{program}: .*", stderr.getvalue(), re.MULTILINE | re.DOTALL)
        raise SystemExit(error.group().rstrip("\n") if error else code)


def skip_plots(monkeypatch: pytest.MonkeyPatch) -> None:
    """Draw nothing in the runs of this test: plots take more time than small networks."""
    for name in (
        "training.reports.plots.draw_curves",
        "training.train.draw_classes",
        "training.train.draw_confusion",
    ):
        monkeypatch.setattr(name, lambda *_: None)


def run_and_kill(monkeypatch: pytest.MonkeyPatch, command: ModuleType, *arguments: object) -> None:
    """Run a command that is killed in its second epoch."""

    def kill(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        epochs = iter([Trainer.train_epoch, kill])
        patched.setattr(Trainer, "train_epoch", lambda self, epoch: next(epochs)(self, epoch))
        run(command, *arguments)


def check_rejected(message: str, command: ModuleType, *arguments: object) -> None:
    """Run a command that ends with one line that matches ``message``."""
    with pytest.raises(SystemExit, match=message) as error:
        run(command, *arguments)
    assert "\n" not in str(error.value.code)


def run_with_torchrun(command: ModuleType, *arguments: object) -> None:
    """Run a command as users do, in two new processes over gloo."""
    paths = [str(ROOT), os.environ.get("PYTHONPATH", "")]
    done = subprocess.run(
        [*TWO_PROCESSES, "--standalone", "-m", command.__name__, *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def run_in_two_forks(command: ModuleType, *arguments: object) -> None:
    """Run a command in two processes over gloo, which have all that was imported and patched here.

    Their environment is that of ``torchrun``.
    """
    store = torch.distributed.TCPStore(
        "127.0.0.1", 0, is_master=True, wait_for_workers=False, timeout=STORE_TIMEOUT
    )
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(torch.cuda, "is_available", lambda: False)  # it cannot be forked
        patched.setenv("WORLD_SIZE", "2")
        patched.setenv("MASTER_ADDR", "127.0.0.1")
        patched.setenv("MASTER_PORT", str(store.port))
        patched.setenv("TORCHELASTIC_USE_AGENT_STORE", "True")
        torch.multiprocessing.start_processes(
            _run_rank, (command, *map(str, arguments)), nprocs=2, start_method="fork"
        )


def _run_rank(rank: int, command: ModuleType, *arguments: str) -> None:
    torch.set_num_threads(1)  # the threads of OpenMP, which earlier tests started, are not forked
    os.environ["RANK"] = os.environ["LOCAL_RANK"] = str(rank)
    assert command.main(arguments) == 0


def figures(out: Path) -> list[dict[str, float]]:
    """Metrics of each epoch, except the speed."""
    with (out / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    return [{key: float(row[key]) for key in row if key != "images_per_s"} for row in rows]
