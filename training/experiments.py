"""``python -m training.experiments DATA OUT``: the experiments of Da Re's thesis.

G. Da Re: "Attention mechanism and Visual Transformer models for Facial Emotion Recognition in
natural settings", Politecnico di Milano, 2022-2023.

Trains each experiment of ``EXPERIMENTS``, or each that is named, with its file in
``training/configs``. ``--epochs``, ``--max-samples`` and ``--batch-size`` give all of them the same
smaller budget; ``--seeds`` repeats each with other seeds. The name ``ablations`` stands for the
small model and variants of it. OUT gets a folder for each experiment and ``table.md`` with the best
validation accuracy and the accuracy on AffectNet by Da Re. An experiment that fails, such as
one whose weights are missing, is reported and the others run; run the same command again to
complete it.
"""

import argparse
import csv
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import mean, stdev
from textwrap import shorten
from typing import Any, NamedTuple

from fer_ros.models.complexity import complexity_of
from training.command_line import report_error
from training.config import LandmarksConfig, TrainConfig, read_config
from training.engine.metrics_logger import write_text
from training.experiment_graph import (
    Experiment,
    config_path,
    read_experiment,
    rebase_paths,
    resolve_dependencies,
)
from training.pretrain import pretrain
from training.ssl.config import PretrainConfig
from training.train import train
from training.train_landmarks import train_landmarks

EXPERIMENTS = {
    "vit_base_scratch": None,
    "vit_base_in1k": None,
    "vit_large_in1k": 38.65,
    "swin_in1k": 34.16,
    "two_stream_no_landmarks": 55.01,
    "two_stream_dino_celeba": 55.54,
    "two_stream": 57.39,
    "poster_v2": 63.77,
    "two_stream_ferplus": None,
}
"""Accuracy in % on AffectNet-8: Da Re's (table 1), and POSTER++'s by its authors."""

ABLATIONS = (
    "two_stream_ferplus",
    "small_one_stage",
    "small_no_landmarks",
    "small_imagenet",
    "small_majority",
    "small_balanced",
    "small_logit_adjusted",
)
"""The small model, the same in one stage, and variants of that with one difference each."""


class Result(NamedTuple):
    """Metrics of the best epoch of each seed, or the error."""

    name: str
    millions: float
    epochs: int = 0
    accuracy: tuple[float, ...] = ()
    balanced_accuracy: tuple[float, ...] = ()
    error: str = ""


def best_epoch(out: Path) -> tuple[int, float, float]:
    """Number of epochs of a run, and accuracy and balanced accuracy of the best one."""
    with (out / "metrics.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    best = max(rows, key=lambda row: float(row["valid_accuracy"]))
    return len(rows), float(best["valid_accuracy"]), float(best["valid_balanced_accuracy"])


def with_budget(name: str, budget: dict[str, Any], out: Path) -> Experiment:
    """The settings of an experiment, with those of ``budget`` replaced."""
    return replace(rebase_paths(read_experiment(name), out), **budget)


def run_training(config: Experiment, data: Path, out: Path) -> None:
    """Train, pretrain, or train landmarks; resumes a run in ``out``."""
    if isinstance(config, PretrainConfig):
        pretrain(config, data, out)
    elif isinstance(config, LandmarksConfig):
        train_landmarks(config, data, out)
    else:
        train(config, data, out)


def run(name: str, budget: dict[str, Any], seeds: int, data: Path, out: Path) -> Result:
    """Train one experiment with each seed, after the experiments that it starts from."""
    config = read_config(config_path(name), TrainConfig)
    millions = complexity_of(config.network.architecture, **config.network.config).parameters / 1e6
    best_epochs = []
    try:
        for dependency in resolve_dependencies(name)[:-1]:
            run_training(with_budget(dependency, budget, out), data, out / dependency)
        experiment = with_budget(name, budget, out)
        for seed in range(config.seed, config.seed + seeds):
            folder = out / name / f"seed_{seed}"
            run_training(replace(experiment, seed=seed), data, folder)
            best_epochs.append(best_epoch(folder))
    except (ValueError, OSError) as error:
        return Result(name, millions, error=str(error))
    except RuntimeError as error:  # of PyTorch, such as out of memory: the others may fit
        return Result(name, millions, error=shorten(str(error), 200))
    epochs, accuracy, balanced_accuracy = zip(*best_epochs, strict=True)
    return Result(name, millions, max(epochs), accuracy, balanced_accuracy)


def format_mean(values: tuple[float, ...]) -> str:
    """Mean in %, with the standard deviation of several values."""
    deviation = f" ± {100 * stdev(values):.1f}" if len(values) > 1 else ""
    return f"{100 * mean(values):.1f}{deviation}%"


def table(results: list[Result], budget: str) -> str:
    """A Markdown table of results."""
    lines = [
        f"Budget of each: {budget}.",
        "",
        "| experiment | parameters | epochs | valid accuracy | balanced accuracy | on AffectNet |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for result in results:
        published = EXPERIMENTS.get(result.name)
        affectnet = f"{published:.2f}%" if published else "-"
        if result.error:
            cells = f"- | not run: {result.error} | -"
        else:
            accuracy = format_mean(result.accuracy)
            cells = f"{result.epochs} | {accuracy} | {format_mean(result.balanced_accuracy)}"
        lines.append(f"| `{result.name}` | {result.millions:.1f} M | {cells} | {affectnet} |")
    return "\n".join([*lines, ""])


def select(names: list[str]) -> list[str]:
    """Names of experiments; empty: those of Da Re. Raises ValueError for an unknown one."""
    names = list(ABLATIONS) if names == ["ablations"] else names or list(EXPERIMENTS)
    for name in names:
        if name not in {*EXPERIMENTS, *ABLATIONS}:
            known = ", ".join(dict.fromkeys((*EXPERIMENTS, *ABLATIONS)))
            raise ValueError(f"unknown experiment {name!r}; known: {known}; or: ablations")
    return names


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return 1 when an experiment failed."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("names", nargs="*", metavar="NAME", help="an experiment, or: ablations")
    for name in ("epochs", "max_samples", "batch_size"):
        parser.add_argument(
            f"--{name.replace('_', '-')}", type=int, help="replaces the value of each file"
        )
    parser.add_argument("--seeds", type=int, default=1, help="number of seeds per experiment")
    arguments = parser.parse_intermixed_args(argv)  # names may follow the options
    try:
        names = select(arguments.names)
    except ValueError as error:
        parser.error(str(error))
    options = {name: getattr(arguments, name) for name in ("epochs", "max_samples", "batch_size")}
    budget = {name: value for name, value in options.items() if value is not None}
    results = []
    for name in names:
        results.append(run(name, budget, arguments.seeds, arguments.data, arguments.out))
        text = ", ".join(f"{value} {key}" for key, value in budget.items())
        write_text(arguments.out / "table.md", table(results, text or "as in its file"))
        if results[-1].error:
            report_error("experiments", f"{name}: {results[-1].error}")
    print((arguments.out / "table.md").read_text(encoding="utf-8"))
    return 1 if any(result.error for result in results) else 0


if __name__ == "__main__":
    raise SystemExit(main())
