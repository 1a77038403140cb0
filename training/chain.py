"""What comes before an experiment: those whose outcomes it starts from, or is taught by."""

from dataclasses import replace
from pathlib import Path
from typing import TypeAlias

from training.pretrain_settings import PretrainConfig
from training.settings import TrainConfig, read_settings

CONFIGS = Path(__file__).with_name("configs")
"""One file for each experiment; ``pretrain_*`` are for ``training.pretrain``."""

RUNS = "runs"
"""The folder in which these files look for what others of them left, in one named like its file."""

Experiment: TypeAlias = TrainConfig | PretrainConfig


def file_of(name: str) -> Path:
    """The file of an experiment, which need not be there."""
    return CONFIGS / f"{name}.yaml"


def is_pretraining(name: str) -> bool:
    """Whether ``training.pretrain`` runs it, not ``training.train``."""
    return name.startswith("pretrain_")


def read_experiment(name: str) -> Experiment:
    """ValueError or OSError, one line, when its file cannot be used."""
    if is_pretraining(name):
        return read_settings(file_of(name), PretrainConfig)
    return read_settings(file_of(name), TrainConfig)


def chain(name: str, after: tuple[str, ...] = ()) -> list[str]:
    """The experiments to run, in this order; the last one is ``name``.

    ``after``: those that wait for it. ValueError, one line, when it is one of them, or when a file
    cannot be used.
    """
    if name in after:
        road = " from ".join((*after, name))
        raise ValueError(
            f"{file_of(name)}: starts from itself ({road}): name other weights or teachers in it"
        )
    before = [
        each
        for path in _outcomes(read_experiment(name))
        if _experiment(path)
        for each in chain(_experiment(path), (*after, name))
    ]
    return [*dict.fromkeys(before), name]


def with_outcomes_in(config: Experiment, out: Path) -> Experiment:
    """The same experiment, with the outcomes of others in ``out`` instead of ``RUNS``."""

    def moved(path: str) -> str:
        return str(out / Path(path).relative_to(RUNS)) if _experiment(path) else path

    if isinstance(config, PretrainConfig):
        return replace(config, weights=moved(config.weights))
    return replace(
        config,
        network=replace(
            config.network,
            model=moved(config.network.model),
            image_weights=moved(config.network.image_weights),
        ),
        data=replace(config.data, teachers=[moved(each) for each in config.data.teachers]),
    )


def _outcomes(config: Experiment) -> list[str]:
    if isinstance(config, PretrainConfig):
        return [config.weights]
    return [config.network.model, config.network.image_weights, *config.data.teachers]


def _experiment(path: str) -> str:
    """The experiment whose outcome, ``runs/NAME/...``, a path is; else ``""``."""
    folder, *rest = Path(path).parts or ("",)
    return rest[0] if folder == RUNS and len(rest) > 1 else ""
