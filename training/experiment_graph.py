"""Dependencies between experiments: starting weights and teachers."""

from dataclasses import replace
from pathlib import Path
from typing import TypeAlias

from training.config import LandmarksConfig, TrainConfig, read_config
from training.ssl.config import PretrainConfig

CONFIGS = Path(__file__).with_name("configs")
"""One file for each experiment, in folders; names are unique over all of them."""

RUNS = "runs"
"""Files of experiments name the results of others as ``runs/NAME/...``."""

Experiment: TypeAlias = TrainConfig | PretrainConfig | LandmarksConfig

_KINDS: dict[str, type[Experiment]] = {
    "pretraining": PretrainConfig,
    "landmarks": LandmarksConfig,
}
"""What the files of a folder configure; those of other folders: ``training.train``."""


def config_path(name: str) -> Path:
    """The file of an experiment, which need not exist."""
    return next(CONFIGS.rglob(f"{name}.yaml"), CONFIGS / f"{name}.yaml")


def display_path(name: str) -> str:
    """The file of an experiment, as commands in the root of the repository name it."""
    return f"training/configs/{config_path(name).relative_to(CONFIGS)}"


def experiment_kind(name: str) -> type[Experiment]:
    """The class of its settings."""
    return _KINDS.get(config_path(name).parent.name, TrainConfig)


def read_experiment(name: str) -> Experiment:
    """Read the settings of an experiment. Raises ValueError or OSError."""
    return read_config(config_path(name), experiment_kind(name))


def resolve_dependencies(name: str, dependents: tuple[str, ...] = ()) -> list[str]:
    """The experiments to run, in this order; the last one is ``name``.

    ``dependents``: those that wait for it. Raises ValueError when it is one of them (a cycle), or
    when a file cannot be used.
    """
    if name in dependents:
        cycle = " from ".join((*dependents, name))
        raise ValueError(
            f"{config_path(name)}: starts from itself ({cycle}): name other weights or teachers"
        )
    needed = [
        dependency
        for path in _dependencies(read_experiment(name))
        if _experiment_of(path)
        for dependency in resolve_dependencies(_experiment_of(path), (*dependents, name))
    ]
    return [*dict.fromkeys(needed), name]


def rebase_paths(config: Experiment, out: Path) -> Experiment:
    """The same experiment, with the results of others in ``out`` instead of ``RUNS``."""

    def rebased(path: str) -> str:
        return str(out / Path(path).relative_to(RUNS)) if _experiment_of(path) else path

    if not isinstance(config, TrainConfig):
        return replace(config, weights=rebased(config.weights))
    network = config.network
    return replace(
        config,
        network=replace(
            network,
            model=rebased(network.model),
            image_weights=rebased(network.image_weights),
            average_with=[rebased(path) for path in network.average_with],
            landmarks=rebased(network.landmarks),
            head_of=rebased(network.head_of),
        ),
        data=replace(config.data, teachers=[rebased(path) for path in config.data.teachers]),
    )


def _dependencies(config: Experiment) -> list[str]:
    """Paths of weights and models that an experiment reads."""
    if not isinstance(config, TrainConfig):
        return [config.weights]
    network = config.network
    weights = [network.model, network.image_weights, network.landmarks, network.head_of]
    return [*weights, *network.average_with, *config.data.teachers]


def _experiment_of(path: str) -> str:
    """The experiment that a path ``runs/NAME/...`` is a result of; else ``""``."""
    folder, *rest = Path(path).parts or ("",)
    return rest[0] if folder == RUNS and len(rest) > 1 else ""
