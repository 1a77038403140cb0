"""``fer``: the library at the command line."""

import argparse
import os
import sys

from fer_ros.cli import analyze, bags, bench, doctor, models
from fer_ros.detect import DetectorError
from fer_ros.errors import with_file
from fer_ros.evaluation import EvaluationError
from fer_ros.fetch import FetchError
from fer_ros.media import MediaError
from fer_ros.weights import ModelError

_EXPECTED = (DetectorError, EvaluationError, FetchError, MediaError, ModelError)


def main(argv: list[str] | None = None) -> int:
    """Runs one command. 0: all went well; 1: something could not be read; 2: wrong usage."""
    try:
        arguments = _parser().parse_args(argv)
        code = int(arguments.run(arguments))
        sys.stdout.flush()  # a closed pipe shows here, not at exit
        return code
    except BrokenPipeError:  # the reader of our output, such as `head`, has enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except ModuleNotFoundError as error:
        complaint = f"{error.name} is not installed: pip install -r {arguments.needs}"
    except OSError as error:
        complaint = with_file(error)
    except _EXPECTED as error:
        complaint = str(error)
    except KeyboardInterrupt:
        return 130
    print(f"fer: {complaint}", file=sys.stderr)
    return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="fer", description="Emotions that faces show.")
    parser.set_defaults(needs="requirements/run.txt")
    commands = parser.add_subparsers(title="commands", required=True)
    analyze.add_parser(commands)
    models.add_parser(commands)
    bags.add_parsers(commands)
    bench.add_parser(commands)
    doctor.add_parser(commands)
    return parser
