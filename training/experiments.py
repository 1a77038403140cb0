"""``python -m training.experiments DATA OUT``: the thesis's experiments, one after the other.

Each row of ``EXPERIMENTS``, or each that is named, is trained with its file in
``training/configs``; ``--epochs``, ``--pictures`` and ``--batch`` give all of them the same smaller
budget, ``--seeds`` repeats each with other random numbers. ``ablations`` names the small model and
what becomes of it when a choice is taken back. OUT gets a folder for each, and ``table.md``:
their best validation accuracy beside the thesis's figure on AffectNet. An experiment that cannot be
run, such as one whose weights are missing, is told and the rest goes on; the same command then runs
what is still missing.
"""

import argparse
import csv
import sys
from dataclasses import replace
from pathlib import Path
from statistics import mean, stdev
from textwrap import shorten
from typing import Any, NamedTuple

from fer_ros.model.cost import cost_of
from training.chain import Experiment, chain, file_of, read_experiment, with_outcomes_in
from training.pretrain import pretrain
from training.pretrain_settings import PretrainConfig
from training.runlog import write_text
from training.settings import read_config
from training.train import train

EXPERIMENTS = {
    "vit_base_scratch": None,
    "vit_base_in1k": None,
    "vit_large_in1k": 38.65,
    "swin_in1k": 34.16,
    "two_stream_no_landmarks": 55.01,
    "two_stream_dino_celeba": 55.54,
    "two_stream": 57.39,
    "poster_v2": 63.77,
    "two_stream_small": None,
}
"""Accuracy in % on AffectNet-8: the thesis's (table 1), and POSTER++'s by its authors."""

ABLATIONS = (
    "two_stream_small",
    "small_one_stage",
    "small_no_landmarks",
    "small_imagenet",
    "small_majority",
    "small_balanced",
    "small_logit_adjusted",
)
"""The small model, the same in one stage, and one choice of that one taken back in each."""


class Result(NamedTuple):
    """What came of an experiment: the figures of each seed's best epoch, or why there are none."""

    name: str
    millions: float
    epochs: int = 0
    accuracy: tuple[float, ...] = ()
    mean_recall: tuple[float, ...] = ()
    trouble: str = ""


def best_epoch(out: Path) -> tuple[int, float, float]:
    """Epochs that a run took, and accuracy and mean recall of its best."""
    with (out / "metrics.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    best = max(rows, key=lambda row: float(row["valid_accuracy"]))
    return len(rows), float(best["valid_accuracy"]), float(best["valid_mean_recall"])


def ready(name: str, budget: dict[str, Any], out: Path) -> Experiment:
    """An experiment of its file, with ``budget``: settings by name."""
    return replace(with_outcomes_in(read_experiment(name), out), **budget)


def learn(config: Experiment, data: Path, out: Path) -> None:
    """Trains or pre-trains, or goes on with it."""
    if isinstance(config, PretrainConfig):
        pretrain(config, data, out)
    else:
        train(config, data, out)


def run(name: str, budget: dict[str, Any], seeds: int, data: Path, out: Path) -> Result:
    """Trains one experiment with each seed, or goes on with it, behind those that it builds on."""
    config = read_config(file_of(name))
    millions = cost_of(config.network.architecture, **config.network.config).parameters / 1e6
    found = []
    try:
        for before in chain(name)[:-1]:
            learn(ready(before, budget, out), data, out / before)
        mine = ready(name, budget, out)
        for seed in range(config.seed, config.seed + seeds):
            folder = out / name / f"seed_{seed}"
            learn(replace(mine, seed=seed), data, folder)
            found.append(best_epoch(folder))
    except (ValueError, OSError) as error:
        return Result(name, millions, trouble=str(error))
    except RuntimeError as error:  # PyTorch's, such as too little memory: the others may fit
        return Result(name, millions, trouble=shorten(str(error), 200))
    epochs, accuracy, mean_recall = zip(*found, strict=True)
    return Result(name, millions, max(epochs), accuracy, mean_recall)


def spread(values: tuple[float, ...]) -> str:
    """Their mean in %, with the standard deviation where there are several."""
    deviation = f" ± {100 * stdev(values):.1f}" if len(values) > 1 else ""
    return f"{100 * mean(values):.1f}{deviation} %"


def table(results: list[Result], budget: str) -> str:
    """The results in Markdown."""
    lines = [
        f"Budget of each: {budget}.",
        "",
        "| experiment | parameters | epochs | valid accuracy | mean recall | on AffectNet |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for each in results:
        published = EXPERIMENTS.get(each.name)
        beside = f"{published:.2f} %" if published else "-"
        if each.trouble:
            found = f"- | not run: {each.trouble} | -"
        else:
            found = f"{each.epochs} | {spread(each.accuracy)} | {spread(each.mean_recall)}"
        lines.append(f"| `{each.name}` | {each.millions:.1f} M | {found} | {beside} |")
    return "\n".join([*lines, ""])


def chosen(names: list[str]) -> list[str]:
    """The names of the experiments; none stands for the thesis's. ValueError: an unknown one."""
    names = list(ABLATIONS) if names == ["ablations"] else names or list(EXPERIMENTS)
    for name in names:
        if name not in {*EXPERIMENTS, *ABLATIONS}:
            known = ", ".join(dict.fromkeys((*EXPERIMENTS, *ABLATIONS)))
            raise ValueError(f"unknown experiment {name!r}; known: {known}; or: ablations")
    return names


def main() -> int:
    """Command line. 1 when an experiment could not be run."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("names", nargs="*", metavar="NAME", help="its file; or: ablations")
    for name in ("epochs", "pictures", "batch"):
        parser.add_argument(f"--{name}", type=int, help="in place of what each file says")
    parser.add_argument("--seeds", type=int, default=1, help="runs of each")
    arguments = parser.parse_args()
    try:
        names = chosen(arguments.names)
    except ValueError as error:
        parser.error(str(error))
    given = {name: getattr(arguments, name) for name in ("epochs", "pictures", "batch")}
    budget = {name: value for name, value in given.items() if value is not None}
    results = []
    for name in names:
        results.append(run(name, budget, arguments.seeds, arguments.data, arguments.out))
        told = ", ".join(f"{value} {key}" for key, value in budget.items())
        write_text(arguments.out / "table.md", table(results, told or "as in its file"))
        if results[-1].trouble:
            print(f"experiments: {name}: {results[-1].trouble}", file=sys.stderr)
    print((arguments.out / "table.md").read_text(encoding="utf-8"))
    return 1 if any(each.trouble for each in results) else 0


if __name__ == "__main__":
    sys.exit(main())
