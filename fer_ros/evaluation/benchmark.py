"""Measure the time and memory that ``fer evaluate-bag`` needs.

    python -m fer_ros.evaluation.benchmark --minutes 10 --out out/bag-bench

The bag repeats the synthetic video, 640x480 in JPEG at 15 images per second. The pipeline seconds
are those of its stages in the same run, so that the ratio holds on a busy machine as well.
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
from fer_ros.evaluation.bags.from_media import LabeledImage, record_images, synthetic_images
from fer_ros.evaluation.result_cache import load
from fer_ros.io.synthetic import COUNT, FPS

RESULT = "bench.json"

_FER = """\
import re, sys
from pathlib import Path
from fer_ros.cli import main
code = main()
print(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1])
sys.exit(code)
"""
"""Prints its own peak memory last: ru_maxrss of a child may be that of its parent."""


@dataclass(frozen=True)
class EvaluationCost:
    """Cost of one evaluation.

    ``seconds`` are of its whole process, ``pipeline_s`` of the pipeline stages, ``decode_s`` of
    image decoding. ``ratio`` is ``seconds / pipeline_s``.
    """

    images: int
    seconds: float
    pipeline_s: float
    decode_s: float
    ratio: float
    peak_rss_mib: float


def main(argv: list[str] | None = None) -> int:
    """Measure, print the result and write it to a file. Returns 1 if the evaluation failed."""
    parser = argparse.ArgumentParser(
        prog="python -m fer_ros.evaluation.benchmark",
        description="Measure the cost of evaluating a bag.",
    )
    parser.add_argument("--minutes", metavar="M", type=float, default=10.0, help="%(default)g")
    parser.add_argument("--out", metavar="DIR", type=Path, default=Path("out/bag-bench"))
    args = parser.parse_args(argv)
    args.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=args.out) as folder:
        bag = Path(folder) / "bag"
        record_images(_repeat_video(round(args.minutes * 60 * FPS)), bag)
        try:
            cost = measure(bag, Path(folder) / "results")
        except EvaluationError as error:
            print(error, file=sys.stderr)
            return 1
    text = json.dumps(asdict(cost), indent=1)
    (args.out / RESULT).write_text(text + "\n", encoding="utf-8")
    print(text)
    return 0


def measure(bag: Path, out: Path) -> EvaluationCost:
    """Evaluate a bag in a new process. Raises EvaluationError when that fails."""
    command = [sys.executable, "-c", _FER, "evaluate-bag", str(bag), "--out", str(out)]
    start = perf_counter()
    process = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    seconds = perf_counter() - start
    result = load(out / "bags" / bag.name)
    if process.returncode or result is None:
        raise EvaluationError(f"{bag}: fer evaluate-bag failed: exit code {process.returncode}")
    stage_s = {stage: sum(values) / 1000 for stage, values in result.latency_ms.items()}
    pipeline_s = stage_s["total"] - stage_s["decode"]
    return EvaluationCost(
        images=result.frames,
        seconds=round(seconds, 2),
        pipeline_s=round(pipeline_s, 2),
        decode_s=round(stage_s["decode"], 2),
        ratio=round(seconds / pipeline_s, 3),
        peak_rss_mib=round(int(process.stdout.split()[-1]) / 1024, 1),
    )


def _repeat_video(num_images: int) -> Iterator[LabeledImage]:
    repeated = (
        image._replace(stamp_s=(number * COUNT + index) / FPS)
        for number in count()
        for index, image in enumerate(synthetic_images())
    )
    return islice(repeated, num_images)


if __name__ == "__main__":
    sys.exit(main())
