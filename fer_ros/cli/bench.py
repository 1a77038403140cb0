"""``fer bench``: what a frame costs on this machine, stage by stage, and what a start costs."""

import argparse
import io
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from time import perf_counter

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from fer_ros.cli import params
from fer_ros.config import PipelineConfig
from fer_ros.detect import make_detector
from fer_ros.pipeline import EmotionPipeline
from fer_ros.sample import sample_crowd
from fer_ros.types import Frame

SIZES_WH = ((640, 480), (1280, 720))
FACES = (1, 2, 5, 10)

_ROUNDS = 40
_WARM_UP = 3
_STARTS = 3
_FRAME_S = 1 / 15

# A process of its own, which imports what the node needs and nothing else.
_START = """
import io, json, re, sys
from pathlib import Path
import numpy as np
from fer_ros import EmotionPipeline, Frame, PipelineConfig
from fer_ros.config import from_dict

image_rgb = np.load(io.BytesIO(sys.stdin.buffer.read()))
pipeline = EmotionPipeline(from_dict(PipelineConfig, json.loads(sys.argv[1])))
emotions = [face.emotion for face in pipeline(Frame(image_rgb, 0.0)).faces]
resident = re.search(r"VmRSS:\\s+(\\d+) kB", Path("/proc/self/status").read_text())
told = {"reason": pipeline.classifier.reason, "fallback": pipeline.classifier.fallback}
torch = sys.modules.get("torch")
on_gpu = torch.cuda.max_memory_reserved() if torch and torch.cuda.is_initialized() else 0
print(json.dumps(told | {"emotions": emotions, "rss_kib": int(resident[1]), "gpu": on_gpu}))
"""


@dataclass(frozen=True)
class Cost:
    """Of one kind of frame: milliseconds (p50, p95) by stage and in ``total``."""

    width: int
    height: int
    faces: int
    stages: dict[str, tuple[float, float]]


@dataclass(frozen=True)
class Start:
    """From starting Python to the first emotion, and the memory that the process holds then.

    ``gpu_mib`` is the most that PyTorch took of a GPU, 0 without one.
    """

    runtime: str
    seconds: float
    rss_mib: float
    gpu_mib: float = 0.0


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds the command to those of ``fer``."""
    parser = commands.add_parser(
        "bench",
        help="what a frame costs on this machine",
        description="Measures the milliseconds of each stage for frames of two sizes with 1, 2, 5 "
        "and 10 faces, and with both runtimes the start to the first emotion and its memory.",
    )
    parser.add_argument("--json", action="store_true", help="as one JSON object, not as a table")
    params.add_arguments(parser)
    parser.set_defaults(run=_bench)


def _bench(arguments: argparse.Namespace) -> int:
    config = params.pipeline_config(arguments)
    pipeline = EmotionPipeline(config)
    card, reason = pipeline.classifier.card, pipeline.classifier.reason
    starts = list(measure_starts(config))
    costs = measure_frames(config)
    if arguments.json:
        told = {
            "model": card.name,
            "sha256": card.sha256,
            "runtime": reason,
            "threads": config.classifier.threads,
            "starts": [asdict(start) for start in starts],
            "frames_ms_p50_p95": [asdict(cost) for cost in costs],
        }
        print(json.dumps(told, indent=2))
        return 0
    print(f"{card.name}, {reason}, threads: {config.classifier.threads or 'all'}")
    for start in starts:
        on_gpu = f", {start.gpu_mib:.0f} MiB of the GPU" if start.gpu_mib else ""
        print(
            f"{start.runtime}: first emotion after {start.seconds:.1f} s, "
            f"{start.rss_mib:.0f} MiB{on_gpu}"
        )
    print("\nmilliseconds, median / 95th percentile")
    for row in frame_rows(costs):
        print("  ".join(cell.rjust(13) for cell in row))
    return 0


def frame_rows(costs: list[Cost]) -> Iterator[tuple[str, ...]]:
    """The heading and a row of text for each kind of frame."""
    yield ("frame", "faces", *costs[0].stages)
    for cost in costs:
        cells = (f"{middle:.1f} / {high:.1f}" for middle, high in cost.stages.values())
        yield (f"{cost.width}x{cost.height}", str(cost.faces), *cells)


def measure_frames(config: PipelineConfig, rounds: int = _ROUNDS) -> list[Cost]:
    """All kinds of frames in turn, ``rounds`` times, so that a busy moment is one of all."""
    config = _at_once(config)
    detector = make_detector(config.detector, config.classifier.threads)
    classifier = EmotionPipeline(config, detector).classifier
    kinds = [(size_wh, count) for size_wh in SIZES_WH for count in FACES]
    images = [sample_crowd(count, size_wh) for size_wh, count in kinds]
    pipelines = [EmotionPipeline(config, detector, classifier) for _ in kinds]
    spent: list[list[dict[str, float]]] = [[] for _ in kinds]
    for number in tqdm(range(_WARM_UP + rounds), disable=None, leave=False):
        for pipeline, image_rgb, laps in zip(pipelines, images, spent, strict=True):
            since = perf_counter()
            result = pipeline(Frame(image_rgb, number * _FRAME_S))
            laps.append(result.latency_ms | {"total": (perf_counter() - since) * 1000})
    return [
        Cost(*size_wh, count, _percentiles(laps[_WARM_UP:]))
        for (size_wh, count), laps in zip(kinds, spent, strict=True)
    ]


def measure_starts(config: PipelineConfig, times: int = _STARTS) -> Iterator[Start]:
    """The median start with each runtime that works here, once the model is exported."""
    image_rgb = sample_crowd(1)
    for backend in ("onnx", "torch"):
        classifier = replace(config.classifier, backend=backend)
        wanted = replace(config, classifier=classifier)
        if not _start(wanted, image_rgb):  # also fills the caches
            continue
        started = [start for _ in range(times) if (start := _start(wanted, image_rgb))]
        yield sorted(started, key=lambda start: start.seconds)[len(started) // 2]


def _start(config: PipelineConfig, image_rgb: NDArray[np.uint8]) -> Start | None:
    """None when another runtime had to take over."""
    file = io.BytesIO()
    np.save(file, image_rgb)
    values = json.dumps(asdict(_at_once(config)))
    since = perf_counter()
    ran = subprocess.run(
        [sys.executable, "-c", _START, values],
        input=file.getvalue(),
        stdout=subprocess.PIPE,
        check=True,
    )
    seconds = perf_counter() - since
    told = json.loads(ran.stdout)
    if told["fallback"]:
        return None
    runtime = told["reason"].partition(":")[0]
    return Start(runtime, seconds, told["rss_kib"] / 1024, told["gpu"] / 2**20)


def _at_once(config: PipelineConfig) -> PipelineConfig:
    """The first detection of a face counts."""
    return replace(config, tracker=replace(config.tracker, min_hits=1))


def _percentiles(laps: list[dict[str, float]]) -> dict[str, tuple[float, float]]:
    found = {}
    for stage in laps[0]:
        middle, high = np.percentile([lap[stage] for lap in laps], (50, 95))
        found[stage] = (float(middle), float(high))
    return found
