"""``python -m training.benchmark``: latency of the model and of other networks.

All candidates run alternately in one process: other load of the machine slows all of them, so that
their ratios are comparable where milliseconds are not. The other networks are common alternatives
with random weights, which have the same latency. ``--write`` updates BENCHMARKS.md and its plot.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fer_ros.alignment import align
from fer_ros.boxes import iou as pairwise_iou
from fer_ros.cli.benchmark import measure_frames, measure_starts
from fer_ros.config import ClassifierConfig, DetectorConfig, PipelineConfig
from fer_ros.detector import make_detector
from fer_ros.detectors.centerface import open_centerface
from fer_ros.inference.backends.onnx_cache import load_or_export, uses_nchwc_layout
from fer_ros.inference.backends.onnx_export import export_module, export_onnx
from fer_ros.inference.backends.quantization import MIN_FACES, quantize, save_quantized
from fer_ros.inference.backends.torch import TorchBackend
from fer_ros.inference.model_store import (
    INT8_SUFFIX,
    InputSpec,
    ModelError,
    ModelManifest,
    find_model,
    read_manifest,
)
from fer_ros.inference.onnx_session import OnnxSession
from fer_ros.io.progress import progress_bar
from fer_ros.io.synthetic import synthetic_frames, tiled_faces
from fer_ros.models import build_model
from fer_ros.models.checkpoint import load_model, save_model
from fer_ros.models.complexity import complexity_of
from fer_ros.models.wrapper import FaceNetwork
from fer_ros.pipeline import EmotionPipeline
from fer_ros.types import Frame, FrameResult
from training.command_line import report_error
from training.reports.benchmarks import IntervalResult, Network, Results, page, write
from training.timing import time_interleaved

BASELINES = ("poster_v2", "efficientnet_b0", "vgg13")
BATCHES = (1, 2, 5, 10)
DETECTION_INTERVALS = (1, 2, 3, 5)

_SECONDS = 75.0
_FULL_PASS_PX = 320  # long side of a frame that the detector searches whole
_CPU = ClassifierConfig(device="cpu", precision="fp32")

Work = Callable[[], object]


@dataclass(frozen=True)
class Candidate:
    """A network in a runtime; ``core`` runs it without pre- and postprocessing."""

    name: str
    runtime: str
    manifest: ModelManifest
    run: Callable[[NDArray[np.uint8]], Sequence[NDArray]]
    core: Work | None = None


class _CoreOutputs(nn.Module):
    """The core of a network, without preprocessing; returns the outputs that it has."""

    def __init__(self, core: nn.Module) -> None:
        super().__init__()
        self.net = core

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        output = self.net(images)
        return tuple(value for value in output if value is not None)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; ``argv`` without the name of the program."""
    parser = argparse.ArgumentParser(prog="python -m training.benchmark", description=__doc__)
    parser.add_argument("--model", metavar="NAME", default=_CPU.model, help="default: %(default)s")
    parser.add_argument("--write", action="store_true", help="write BENCHMARKS.md and its plot")
    arguments = parser.parse_args(argv)
    try:
        results = measure(arguments.model)
    except ModelError as error:
        return report_error("benchmark", error)
    if arguments.write:
        write(results, Path(__file__).parents[1])
    print(page(results))
    return 0


def measure(
    model: str, baselines: tuple[str, ...] = BASELINES, seconds: float = _SECONDS
) -> Results:
    """Measure everything on the page. Raises ModelError when there is no such model."""
    config = PipelineConfig(
        classifier=ClassifierConfig(model=model, device="cpu", precision="fp32")
    ).for_still_images()
    threads, load = config.classifier.threads, os.getloadavg()[0]
    torch.set_num_threads(threads)
    frames, starts = measure_frames(config), list(measure_starts(config))
    node = measure_node()
    with tempfile.TemporaryDirectory() as folder:
        crops = _crops(max(BATCHES))
        int8 = _quantize(model, crops, Path(folder))
        candidates = list(_candidates(model, int8, baselines, Path(folder), threads))
        works: dict[tuple[str, str, int], Work] = dict(_stages(config))
        int8_config = replace(config.classifier, model=str(int8.folder))
        works |= _frames(replace(config, classifier=int8_config), "int8, ")
        for candidate in candidates:
            name, runtime = candidate.name, candidate.runtime
            for count in BATCHES:
                works[name, runtime, count] = _call(candidate.run, crops[:count])
            if candidate.core:
                works[name, f"{runtime}, core", 1] = candidate.core
        times_ms = time_interleaved(works, seconds)
    networks = [_network(candidate, times_ms) for candidate in candidates]
    stages_ms = {name: value for (group, name, _), value in times_ms.items() if group == "stage"}
    intervals = measure_intervals(config.classifier)
    return Results(model, threads, load, frames, starts, node, networks, stages_ms, intervals)


def measure_node() -> list[dict[str, Any]]:
    """Loads of the node by ``fer_ros.ros.tools.node_benchmark``; empty without ROS."""
    command = [sys.executable, "-m", "fer_ros.ros.tools.node_benchmark", "--json"]
    process = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    return json.loads(process.stdout) if process.returncode == 0 else []


def _quantize(model: str, crops_rgb: NDArray[np.uint8], folder: Path) -> ModelManifest:
    """The model in int8, calibrated for speed measurements only."""
    manifest = read_manifest(find_model(model))
    faces = np.resize(crops_rgb, (MIN_FACES, *crops_rgb.shape[1:]))
    graph = quantize(load_or_export(manifest), faces)
    return save_quantized(manifest, graph, folder / (manifest.name + INT8_SUFFIX))


def measure_intervals(config: ClassifierConfig) -> list[IntervalResult]:
    """Run the synthetic video at each detection interval and compare with that of 1."""
    pipelines = {
        interval: EmotionPipeline(
            PipelineConfig(
                detector=DetectorConfig(input_size_px=_FULL_PASS_PX, interval=interval),
                classifier=config,
            )
        )
        for interval in DETECTION_INTERVALS
    }
    results: dict[int, list[FrameResult]] = {interval: [] for interval in DETECTION_INTERVALS}
    for image in synthetic_frames():
        for interval, pipeline in pipelines.items():
            results[interval].append(pipeline(Frame(image.image_rgb, image.stamp_s)))
    return [
        _interval_result(interval, results[interval], results[1])
        for interval in DETECTION_INTERVALS
    ]


def _interval_result(
    interval: int, results: list[FrameResult], reference: list[FrameResult]
) -> IntervalResult:
    """Compare results with those of detection in every frame; there is one face at most."""
    pairs = [
        (result.faces[0], expected.faces[0])
        for result, expected in zip(results, reference, strict=True)
        if result.faces and expected.faces
    ]
    boxes = [[face.box_xyxy for face in faces] for faces in zip(*pairs, strict=True)]
    ious = np.diag(pairwise_iou(np.stack(boxes[0]), np.stack(boxes[1])))
    return IntervalResult(
        interval=interval,
        mean_ms=float(np.mean([sum(result.latency_ms.values()) for result in results])),
        frames=sum(bool(result.faces) for result in results),
        ids=len({face.id for result in results for face in result.faces}),
        iou_median=float(np.median(ious)),
        iou_p5=float(np.percentile(ious, 5)),
        same_emotion=float(np.mean([face.emotion == expected.emotion for face, expected in pairs])),
    )


def _candidates(
    model: str, int8: ModelManifest, baselines: tuple[str, ...], folder: Path, threads: int
) -> Iterator[Candidate]:
    """The model in both runtimes and in int8, then the others in ONNX Runtime."""
    manifest = read_manifest(find_model(model))
    yield _onnx_candidate(manifest, threads)
    session = OnnxSession(load_or_export(int8), threads)
    yield Candidate(manifest.name, "ONNX Runtime, int8", manifest, session.run)
    backend = TorchBackend(manifest, "cpu", threads)
    yield Candidate(manifest.name, "PyTorch", manifest, partial(_torch_outputs, backend))
    for name in progress_bar(baselines, description="exporting"):
        core = build_model(name)
        network = FaceNetwork(core, InputSpec(size_px=int(getattr(core, "side_px", 112))))
        yield _onnx_candidate(save_model(network, folder / name, name), threads)


def _torch_outputs(backend: TorchBackend, crops_rgb: NDArray[np.uint8]) -> list[NDArray]:
    """Points and probabilities, as sessions of ONNX Runtime return them."""
    predictions = backend.run(crops_rgb)
    return [predictions.points_xy, predictions.probabilities]


def _onnx_candidate(manifest: ModelManifest, threads: int) -> Candidate:
    session = OnnxSession(export_onnx(manifest, uses_nchwc_layout()), threads)
    side = manifest.input.size_px
    image = torch.zeros(1, 3, side, side)
    core = _CoreOutputs(load_model(manifest.folder).net)
    outputs = [f"output{number}" for number in range(len(core(image)))]
    graph = export_module(core, image, "images", outputs, uses_nchwc_layout())
    run_core = _call(OnnxSession(graph, threads).run, image.numpy())
    return Candidate(manifest.name, "ONNX Runtime", manifest, session.run, run_core)


def _stages(config: PipelineConfig) -> Iterator[tuple[tuple[str, str, int], Work]]:
    """Whole frames with one and with five faces, and the network of the detector alone."""
    image_rgb = tiled_faces(1)
    side = _FULL_PASS_PX
    height, width = image_rgb.shape[0] * side // image_rgb.shape[1], side
    images = np.zeros((1, 3, -(-height // 32) * 32, -(-width // 32) * 32), np.float32)
    detector = open_centerface(config.detector.model_path, config.classifier.threads)
    yield ("stage", "detector", 1), _call(detector.run, images)
    yield from _frames(config).items()


def _frames(config: PipelineConfig, prefix: str = "") -> dict[tuple[str, str, int], Work]:
    """Whole frames with one and with five faces."""
    return {
        ("stage", f"{prefix}faces {count}", 1): _call(
            EmotionPipeline(config), Frame(tiled_faces(count), 0.0)
        )
        for count in (1, 5)
    }


def _call(function: Callable, argument: object) -> Work:
    return lambda: function(argument)


def _crops(count: int) -> NDArray[np.uint8]:
    """Aligned crops (count, 112, 112, 3) of synthetic faces."""
    image_rgb = tiled_faces(count)
    detections = make_detector(DetectorConfig(), 1).detect(image_rgb)
    return align(image_rgb, detections.points_xy).crops_rgb


def _network(candidate: Candidate, times_ms: dict) -> Network:
    name, runtime = candidate.name, candidate.runtime
    complexity = complexity_of(candidate.manifest.architecture, **candidate.manifest.config)
    points_xy, *_ = candidate.run(np.zeros((1, 112, 112, 3), np.uint8))
    return Network(
        name=name,
        runtime=runtime,
        has_landmarks=bool(np.isfinite(points_xy).all()),
        side_px=complexity.side_px,
        macs=complexity.macs,
        batches_ms={count: times_ms[name, runtime, count] for count in BATCHES},
        core_ms=times_ms.get((name, f"{runtime}, core", 1)),
    )


if __name__ == "__main__":
    raise SystemExit(main())
