"""What the commands that train have in common: the process group and the command line."""

import argparse
from collections.abc import Callable, Sequence
from functools import wraps
from pathlib import Path
from typing import TypeVar

from training.command_line import report_error
from training.config import LoopConfig, read_config
from training.engine.distributed import DistributedContext, distributed_context

ConfigT = TypeVar("ConfigT", bound=LoopConfig)


def in_distributed_context(
    function: Callable[[ConfigT, Path, Path, DistributedContext], None],
) -> Callable[[ConfigT, Path, Path], None]:
    """Call ``function(config, data, out, context)`` inside the process group of ``torchrun``.

    Tensors of the function are freed before the process leaves the group.
    """

    @wraps(function)
    def run(config: ConfigT, data: Path, out: Path) -> None:
        with distributed_context() as context:
            function(config, data, out, context)

    return run


def run_command(
    train: Callable[[ConfigT, Path, Path], None],
    kind: type[ConfigT],
    description: str,
    argv: Sequence[str] | None,
) -> int:
    """Run ``train`` with the experiment, the data and the output folder of the command line.

    An error of the settings, the data or a file is reported in one line. Returns the exit code.
    """
    parser = argparse.ArgumentParser(description=description.split("\n\n")[0])
    parser.add_argument("experiment", type=Path, help="YAML file")
    parser.add_argument("data", type=Path, help="folder with datasets of training.prepare")
    parser.add_argument("out", type=Path, help="output folder")
    parser.add_argument(
        "overrides", nargs="*", metavar="KEY=VALUE", help="such as optimizer.lr=1e-4"
    )
    arguments = parser.parse_args(argv)
    try:
        config = read_config(arguments.experiment, kind, arguments.overrides)
        train(config, arguments.data, arguments.out)
    except (ValueError, OSError) as error:
        return report_error(train.__name__, error)
    return 0
