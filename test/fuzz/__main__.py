"""Runs many cases of each property, every one in a process of its own.

    PYTHONPATH=test python -m fuzz [NAME ...] [--cases N]

With atheris, cases are led by the coverage of the code (libFuzzer, Serebryany 2016); without it,
on Python 3.10, Hypothesis chooses them. A case that fails is shown and the exit code is 1.
"""

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

OUT = Path("out/fuzz")
_INSTRUMENTED = ["fer_ros", "rosbags", "training", "yaml"]
_MAX_PIXELS = 2**20  # of a claimed image, for speed; the limit itself is tested elsewhere
_HANGS_S = 60
_MAX_MB = 4000
_SEED_BYTES = 4096


def main() -> int:
    """0 when all cases of all properties passed."""
    parser = argparse.ArgumentParser(prog="fuzz", description=__doc__.split("\n\n")[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help="of a property; default: all")
    parser.add_argument("--cases", type=int, default=10_000, help="of each; default: %(default)s")
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    os.environ.setdefault("OPENCV_IO_MAX_IMAGE_PIXELS", str(_MAX_PIXELS))
    if options.here:
        _run(options.names[0], options.cases)
        return 0
    from fuzz.properties import PROPERTIES

    names = options.names or list(PROPERTIES)
    results = [_in_process(name, options.cases) for name in names]
    print(f"{len(names)} properties, {options.cases * sum(results)} cases passed")
    return 0 if all(results) else 1


def _in_process(name: str, cases: int) -> bool:
    OUT.mkdir(parents=True, exist_ok=True)
    log, begin_s = OUT / f"{name}.log", time.monotonic()
    command = [sys.executable, "-m", "fuzz", name, "--cases", str(cases), "--here"]
    with log.open("w") as file:
        passed = subprocess.run(command, stdout=file, stderr=subprocess.STDOUT).returncode == 0
    outcome = "passed" if passed else f"FAILED, see {log}"
    print(
        f"{name:<20} {cases:>8} cases in {time.monotonic() - begin_s:5.0f} s: {outcome}", flush=True
    )
    return passed


def _run(name: str, cases: int) -> None:
    if find_spec("atheris") is None:
        from hypothesis import settings

        from fuzz.properties import PROPERTIES

        settings(max_examples=cases, derandomize=False)(PROPERTIES[name])()
        return
    import atheris

    with atheris.instrument_imports(include=_INSTRUMENTED):
        from fuzz.properties import PROPERTIES
    corpus = OUT / "corpus" / name
    corpus.mkdir(parents=True, exist_ok=True)
    (corpus / "seed").write_bytes(os.urandom(_SEED_BYTES))
    flags = ["-len_control=0", f"-max_len={2 * _SEED_BYTES}", f"-timeout={_HANGS_S}"]
    flags += [f"-rss_limit_mb={_MAX_MB}", f"-artifact_prefix={OUT}/{name}-"]
    atheris.Setup([name, *flags, str(corpus)], _counted(PROPERTIES[name], cases))
    atheris.Fuzz()


def _counted(fuzz_property: Callable[[], None], cases: int) -> Callable[[bytes], None]:
    """Ends the process after so many cases; bytes that were too few for a case do not count."""
    passed = 0
    fuzz_one_input = fuzz_property.hypothesis.fuzz_one_input  # type: ignore[attr-defined]

    def one(data: bytes) -> None:
        nonlocal passed
        passed += fuzz_one_input(data) is not None
        if passed == cases:
            print(f"{passed} cases passed", flush=True)
            os._exit(0)  # libFuzzer cannot be stopped otherwise

    return one


if __name__ == "__main__":
    sys.exit(main())
