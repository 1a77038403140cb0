"""``python -m training.pipeline_comparison COMMIT``: this pipeline against that of another commit.

Both run with their default settings, each in a process of its own, in turn on the same frames of
640x480 with one and with five faces, a second of a camera at a time. The times are wall times, as
both share the load of the machine. ``--write`` puts the table into BENCHMARKS.md.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import IO

import numpy as np

from fer_ros.io.synthetic import tiled_faces
from training.command_line import report_error
from training.reports.detection import PIPELINES_HEADING, replace_section
from training.reports.markdown import table

FACES = (1, 5)

_ROOT = Path(__file__).resolve().parents[1]
_MIN_ROUNDS = 3
_FRAMES = 15  # of a round: one second of a camera
# Reads a number of faces, and prints the milliseconds of each frame of one second.
_WORKER = """
import json, sys
from time import perf_counter
import numpy as np
from fer_ros import EmotionPipeline, Frame
images = {int(name): image for name, image in np.load(sys.argv[1]).items()}
pipelines = {faces: EmotionPipeline() for faces in images}
numbers = dict.fromkeys(images, 0)
print(json.dumps([]), flush=True)
for line in sys.stdin:
    faces, spent_ms = int(line), []
    for _ in range(int(sys.argv[2])):
        frame = Frame(images[faces], numbers[faces] / 15)
        numbers[faces] += 1
        began_s = perf_counter()
        result = pipelines[faces](frame)
        spent_ms.append((perf_counter() - began_s) * 1000)
    print(json.dumps([*spent_ms, len(result.faces)]), flush=True)
"""


_PAGE = f"""\
{PIPELINES_HEADING}
```
python -m training.pipeline_comparison {{base}} --write
```
measured the pipelines of two commits with their default settings, in turn on the same frames of \
640x480, milliseconds a frame (median / mean):

{{table}}
"""


class ComparisonError(ValueError):
    """The other commit cannot be measured; the message is one line."""


@dataclass(frozen=True)
class PipelineRatio:
    """Milliseconds of a frame of 640x480 with ``faces`` faces: (median, mean) of both commits."""

    faces: int
    base: str
    base_ms: tuple[float, float]
    ours: str
    ours_ms: tuple[float, float]


def main(argv: Sequence[str] | None = None) -> int:
    """The command; ``argv`` without the program's name."""
    parser = argparse.ArgumentParser(
        prog="python -m training.pipeline_comparison", description=__doc__
    )
    parser.add_argument("commit")
    parser.add_argument("--seconds", type=float, default=60.0, help="minimum measuring time, s")
    parser.add_argument("--write", action="store_true", help="update BENCHMARKS.md")
    arguments = parser.parse_args(argv)
    try:
        text = page(compare_with(arguments.commit, arguments.seconds))
        if arguments.write:
            replace_section(_ROOT, PIPELINES_HEADING, text)
    except (ComparisonError, OSError) as error:
        return report_error("pipeline_comparison", error)
    print(text)
    return 0


def page(ratios: list[PipelineRatio]) -> str:
    """The section of BENCHMARKS.md."""
    commits = (f"`{ratios[0].base[:7]}`", f"`{ratios[0].ours[:7]}`")
    rows = [("faces", *commits, "ratio of medians", "ratio of means")]
    for ratio in ratios:
        (base_median, base_mean), (median, mean) = ratio.base_ms, ratio.ours_ms
        rows.append(
            (
                str(ratio.faces),
                f"{base_median:.1f} / {base_mean:.1f}",
                f"{median:.1f} / {mean:.1f}",
                f"{median / base_median:.2f}",
                f"{mean / base_mean:.2f}",
            )
        )
    return _PAGE.format(base=ratios[0].base[:8], table=table(rows))


def compare_with(revision: str, seconds: float) -> list[PipelineRatio]:
    """Measure both pipelines with their default settings. Raises ComparisonError."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        images = folder / "images.npz"
        np.savez(images, allow_pickle=False, **{str(count): tiled_faces(count) for count in FACES})
        base = stack.enter_context(_checkout(revision, folder / "base"))
        ours = _head()
        commits = (revision, base), (ours, _ROOT)
        workers = [stack.enter_context(_worker(name, root, images)) for name, root in commits]
        spent: dict[tuple[int, int], list[float]] = {}
        end_s = perf_counter() + seconds
        rounds = 0
        while rounds <= _MIN_ROUNDS or perf_counter() < end_s:
            for count in FACES:
                for index, worker in enumerate(workers):
                    name = commits[index][0]
                    *frames_ms, num_faces = _ask(name, worker, count)
                    if rounds == 0 and num_faces != count:
                        raise ComparisonError(
                            f"commit {name}: expected {count} faces, found {num_faces}"
                        )
                    if rounds:  # the first second warms up
                        spent.setdefault((count, index), []).extend(frames_ms)
            rounds += 1
    return [
        PipelineRatio(count, revision, _summary(spent[count, 0]), ours, _summary(spent[count, 1]))
        for count in FACES
    ]


def _summary(spent_ms: list[float]) -> tuple[float, float]:
    return float(np.median(spent_ms)), float(np.mean(spent_ms))


def _head() -> str:
    """The checked-out commit."""
    command = ["git", "-C", str(_ROOT), "rev-parse", "HEAD"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()


@contextmanager
def _checkout(revision: str, folder: Path) -> Iterator[Path]:
    git = ["git", "-C", str(_ROOT), "worktree"]
    added = subprocess.run(
        [*git, "add", "--detach", str(folder), revision],
        capture_output=True,
        text=True,
        check=False,
    )
    if added.returncode:
        reason = added.stderr.strip().splitlines()[-1]
        raise ComparisonError(f"commit {revision}: cannot be checked out: {reason}")
    try:
        yield folder
    finally:
        subprocess.run([*git, "remove", "--force", str(folder)], check=False)


@contextmanager
def _worker(name: str, root: Path, images: Path) -> Iterator["subprocess.Popen[str]"]:
    process = subprocess.Popen(
        [sys.executable, "-c", _WORKER, str(images), str(_FRAMES)],
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        _read(name, process)
        yield process
    finally:
        process.kill()
        process.wait()


def _ask(name: str, process: "subprocess.Popen[str]", count: int) -> list[float]:
    stdin: IO[str] | None = process.stdin
    assert stdin is not None
    stdin.write(f"{count}\n")
    stdin.flush()
    return _read(name, process)


def _read(name: str, process: "subprocess.Popen[str]") -> list[float]:
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        raise ComparisonError(f"commit {name}: its pipeline ended with the error above")
    return list(json.loads(line))


if __name__ == "__main__":
    raise SystemExit(main())
