"""``fer bench``: latency of each pipeline stage and start-up time on this machine."""

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

from fer_ros.cli import params
from fer_ros.config import PipelineConfig
from fer_ros.detector import make_detector
from fer_ros.io.progress import progress_bar
from fer_ros.io.synthetic import tiled_faces
from fer_ros.pipeline import EmotionPipeline
from fer_ros.types import Frame

SIZES_WH = ((640, 480), (1280, 720))
FACES = (1, 2, 5, 10)

_ROUNDS = 40
_WARM_UP_ROUNDS = 3
_STARTS = 3
_FRAME_S = 1 / 15

# Runs in a new process that imports only what the node needs.
_STARTUP_PROGRAM = """
import io, json, sys
import numpy as np
import psutil
from fer_ros import EmotionPipeline, Frame, PipelineConfig
from fer_ros.config import from_dict

image_rgb = np.load(io.BytesIO(sys.stdin.buffer.read()))
pipeline = EmotionPipeline(from_dict(PipelineConfig, json.loads(sys.argv[1])))
emotions = [face.emotion for face in pipeline(Frame(image_rgb, 0.0)).faces]
rss = psutil.Process().memory_info().rss
backend = {"reason": pipeline.classifier.reason, "fallback": pipeline.fallback}
torch = sys.modules.get("torch")
on_gpu = torch.cuda.max_memory_reserved() if torch and torch.cuda.is_initialized() else 0
print(json.dumps(backend | {"emotions": emotions, "rss": rss, "gpu": on_gpu}))
"""


@dataclass(frozen=True)
class FrameLatency:
    """Latency of one kind of frame: ms (p50, p95) by stage and in ``total``."""

    width: int
    height: int
    faces: int
    stages: dict[str, tuple[float, float]]


@dataclass(frozen=True)
class StartupCost:
    """Time from starting Python to the first emotion, and the memory of the process then.

    ``gpu_mib`` is the peak GPU memory that PyTorch reserved, 0 without a GPU.
    """

    runtime: str
    seconds: float
    rss_mib: float
    gpu_mib: float = 0.0


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to those of ``fer``."""
    parser = commands.add_parser(
        "bench",
        help="measure latency and start-up time on this machine",
        description="Measure the latency of each stage for frames of two sizes with 1, 2, 5 and "
        "10 faces, and the start-up time and memory of each runtime.",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    params.add_arguments(parser)
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    config = params.pipeline_config(args)
    pipeline = EmotionPipeline(config)
    manifest, reason = pipeline.classifier.manifest, pipeline.classifier.reason
    starts = list(measure_starts(config))
    frames = measure_frames(config)
    if args.json:
        report = {
            "model": manifest.name,
            "sha256": manifest.sha256,
            "runtime": reason,
            "threads": config.classifier.threads,
            "starts": [asdict(start) for start in starts],
            "frames_ms_p50_p95": [asdict(frame) for frame in frames],
        }
        print(json.dumps(report, indent=2))
        return 0
    print(f"{manifest.name}, {reason}, threads: {config.classifier.threads or 'all'}")
    for start in starts:
        gpu = f", {start.gpu_mib:.0f} MiB on the GPU" if start.gpu_mib else ""
        print(
            f"{start.runtime}: first emotion after {start.seconds:.1f} s, "
            f"{start.rss_mib:.0f} MiB{gpu}"
        )
    print("\nmilliseconds, median / 95th percentile")
    for row in frame_rows(frames):
        print("  ".join(cell.rjust(13) for cell in row))
    return 0


def frame_rows(frames: list[FrameLatency]) -> Iterator[tuple[str, ...]]:
    """A header and one row of text for each kind of frame."""
    yield ("frame", "faces", *frames[0].stages)
    for frame in frames:
        cells = (f"{p50:.1f} / {p95:.1f}" for p50, p95 in frame.stages.values())
        yield (f"{frame.width}x{frame.height}", str(frame.faces), *cells)


def measure_frames(config: PipelineConfig, rounds: int = _ROUNDS) -> list[FrameLatency]:
    """Measure all kinds of frames in turn, so that background load affects all of them alike."""
    config = config.for_still_images()
    detector = make_detector(config.detector, config.classifier.threads, config.classifier.device)
    classifier = EmotionPipeline(config, detector).classifier
    kinds = [(size_wh, num_faces) for size_wh in SIZES_WH for num_faces in FACES]
    images = [tiled_faces(num_faces, size_wh) for size_wh, num_faces in kinds]
    pipelines = [EmotionPipeline(config, detector, classifier) for _ in kinds]
    measured: list[list[dict[str, float]]] = [[] for _ in kinds]
    for number in progress_bar(range(_WARM_UP_ROUNDS + rounds), unit="round"):
        for pipeline, image_rgb, latencies in zip(pipelines, images, measured, strict=True):
            start = perf_counter()
            result = pipeline(Frame(image_rgb, number * _FRAME_S))
            latencies.append(result.latency_ms | {"total": (perf_counter() - start) * 1000})
    return [
        FrameLatency(*size_wh, num_faces, _percentiles(latencies[_WARM_UP_ROUNDS:]))
        for (size_wh, num_faces), latencies in zip(kinds, measured, strict=True)
    ]


def measure_starts(config: PipelineConfig, repeats: int = _STARTS) -> Iterator[StartupCost]:
    """The median start-up of each runtime that works here, once the model is exported."""
    image_rgb = tiled_faces(1)
    for backend in ("onnx", "torch"):
        requested = replace(config, classifier=replace(config.classifier, backend=backend))
        if not _measure_start(requested, image_rgb):  # also fills the caches
            continue
        starts = [start for _ in range(repeats) if (start := _measure_start(requested, image_rgb))]
        yield sorted(starts, key=lambda start: start.seconds)[len(starts) // 2]


def _measure_start(config: PipelineConfig, image_rgb: NDArray[np.uint8]) -> StartupCost | None:
    """None when the requested runtime fell back to another one."""
    file = io.BytesIO()
    np.save(file, image_rgb)
    values = json.dumps(asdict(config.for_still_images()))
    start = perf_counter()
    process = subprocess.run(
        [sys.executable, "-c", _STARTUP_PROGRAM, values],
        input=file.getvalue(),
        stdout=subprocess.PIPE,
        check=True,
    )
    seconds = perf_counter() - start
    report = json.loads(process.stdout)
    if report["fallback"]:
        return None
    runtime = report["reason"].partition(":")[0]
    return StartupCost(runtime, seconds, report["rss"] / 2**20, report["gpu"] / 2**20)


def _percentiles(latencies: list[dict[str, float]]) -> dict[str, tuple[float, float]]:
    percentiles = {}
    for stage in latencies[0]:
        p50, p95 = np.percentile([latency[stage] for latency in latencies], (50, 95))
        percentiles[stage] = (float(p50), float(p95))
    return percentiles
