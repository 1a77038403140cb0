"""What ``fer evaluate-bag`` needs for a recording of so many minutes: memory, and time beside that
of the pipeline alone.

    python -m fer_ros.evaluation.bench --minutes 10 --out out/bag-bench

The recording is that of the made-up camera, 640x480 in JPEG at 15 images per second, over and over.
Seconds of the pipeline are those that its stages took in that same run, so that the ratio holds on
a busy machine as well.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import count, islice
from pathlib import Path
from time import perf_counter

from fer_ros.evaluation import EvaluationError
from fer_ros.evaluation.make import Shot, record_shots, sample_shots
from fer_ros.evaluation.store import load
from fer_ros.sample import COUNT, FPS

RESULT = "bench.json"

_FER = """\
import re, sys
from pathlib import Path
from fer_ros.cli import main
code = main()
print(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1])
sys.exit(code)
"""
"""Its last line is its peak memory: what the system tells of a child may be its parent's."""


@dataclass(frozen=True)
class Cost:
    """Of one evaluation: seconds of its whole process, of the pipeline's stages and of decoding.

    ``ratio`` is ``seconds`` by ``pipeline_s``; ``peak_rss_mib`` the most memory that it held.
    """

    images: int
    seconds: float
    pipeline_s: float
    decode_s: float
    ratio: float
    peak_rss_mib: float


def main(argv: list[str] | None = None) -> int:
    """Measures, prints the figures and leaves them in a file. 1: the evaluation went wrong."""
    parser = argparse.ArgumentParser(
        prog="python -m fer_ros.evaluation.bench", description="What evaluating a recording costs."
    )
    parser.add_argument("--minutes", metavar="M", type=float, default=10.0, help="%(default)g")
    parser.add_argument("--out", metavar="DIR", type=Path, default=Path("out/bag-bench"))
    arguments = parser.parse_args(argv)
    arguments.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=arguments.out) as folder:
        bag = Path(folder) / "bag"
        record_shots(_shots(round(arguments.minutes * 60 * FPS)), bag)
        try:
            cost = measure(bag, Path(folder) / "verdict")
        except EvaluationError as error:
            print(error, file=sys.stderr)
            return 1
    text = json.dumps(asdict(cost), indent=1)
    (arguments.out / RESULT).write_text(text + "\n", encoding="utf-8")
    print(text)
    return 0


def measure(bag: Path, out: Path) -> Cost:
    """Evaluates the recording in a process of its own. Raises EvaluationError when that fails."""
    command = [sys.executable, "-c", _FER, "evaluate-bag", str(bag), "--out", str(out)]
    since = perf_counter()
    process = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    seconds = perf_counter() - since
    outcome = load(out / "bags" / bag.name)
    if process.returncode or outcome is None:
        raise EvaluationError(f"{bag}: fer evaluate-bag failed: exit code {process.returncode}")
    spent_s = {stage: sum(each) / 1000 for stage, each in outcome.latency_ms.items()}
    pipeline_s = spent_s["total"] - spent_s["decode"]
    return Cost(
        images=outcome.frames,
        seconds=round(seconds, 2),
        pipeline_s=round(pipeline_s, 2),
        decode_s=round(spent_s["decode"], 2),
        ratio=round(seconds / pipeline_s, 3),
        peak_rss_mib=round(int(process.stdout.split()[-1]) / 1024, 1),
    )


def _shots(images: int) -> Iterator[Shot]:
    rounds = (
        shot._replace(stamp_s=(number * COUNT + place) / FPS)
        for number in count()
        for place, shot in enumerate(sample_shots())
    )
    return islice(rounds, images)


if __name__ == "__main__":
    sys.exit(main())
