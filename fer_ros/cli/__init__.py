"""``fer``: the command line of the library."""

import argparse
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fer_ros.cli import analyze, bags, benchmark, doctor, models
from fer_ros.cli.record_writer import STDOUT
from fer_ros.detector import DetectorError
from fer_ros.evaluation import EvaluationError
from fer_ros.inference.download import FetchError
from fer_ros.inference.model_store import ModelError
from fer_ros.io.errors import format_os_error
from fer_ros.io.json_file import add_path_to_oserror
from fer_ros.io.media import MediaError
from fer_ros.io.progress import write_line

_EXPECTED_ERRORS = (DetectorError, EvaluationError, FetchError, MediaError, ModelError)


def main(argv: list[str] | None = None) -> int:
    """Run one command.

    Returns:
        0 on success, 1 when the result is incomplete or missing, 2 on wrong usage.
    """
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by the shell: >&-
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115
    with _log_to_stderr():
        return _run(argv)


def _run(argv: list[str] | None) -> int:
    try:
        args = _parser().parse_args(argv)
        code = int(args.run(args))
        with add_path_to_oserror(STDOUT):
            sys.stdout.flush()  # a closed pipe raises here instead of at exit
        return code
    except BrokenPipeError:  # such as `head`, which closes its input early
        _discard_stdout()
        return 1
    except ModuleNotFoundError as error:
        message = f"{error.name} is not installed: pip install -r {args.needs}"
    except OSError as error:
        message = format_os_error(error)
        if error.filename == str(STDOUT):
            _discard_stdout()
    except _EXPECTED_ERRORS as error:
        message = str(error)
    except KeyboardInterrupt:
        return 130
    print(f"fer: {message}", file=sys.stderr)
    return 1


def _discard_stdout() -> None:
    """Redirect stdout to nowhere: at exit, Python would fail to write its buffer once more."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@contextmanager
def _log_to_stderr() -> Iterator[None]:
    """Print warnings of the library like errors of the command line."""
    logger, handler = logging.getLogger("fer_ros"), _StderrHandler()
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)


class _StderrHandler(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        write_line(f"fer: {record.getMessage()}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="fer", description="Recognize displayed emotions.")
    parser.set_defaults(
        needs="requirements/run.txt (beside ROS 2 from apt: cpu.txt and robot.txt instead)"
    )
    commands = parser.add_subparsers(title="commands", required=True)
    analyze.add_parser(commands)
    models.add_parser(commands)
    bags.add_parsers(commands)
    benchmark.add_parser(commands)
    doctor.add_parser(commands)
    return parser
