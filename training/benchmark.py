"""``python -m training.benchmark``: what a face costs, side by side with other networks.

Everything runs in turn, over and over, in one process: a busy moment of the machine is one of all,
and ratios hold where milliseconds do not. The other networks are those that a robot would otherwise
run, with random weights, which cost the same. ``--write`` makes BENCHMARKS.md and its picture.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from tqdm import tqdm

from fer_ros.align import align
from fer_ros.backends.export import export_onnx, trace
from fer_ros.backends.graphs import graph_of, is_blocked
from fer_ros.backends.pytorch import TorchBackend
from fer_ros.backends.quantize import MIN_FACES, quantize, save_quantized
from fer_ros.cli.bench import measure_frames, measure_starts
from fer_ros.config import ClassifierConfig, DetectorConfig, PipelineConfig, TrackerConfig
from fer_ros.detect import make_detector, open_centerface
from fer_ros.model import build_model
from fer_ros.model.checkpoint import load_model, save_model
from fer_ros.model.cost import cost_of
from fer_ros.model.network import FaceNetwork
from fer_ros.onnx_session import OnnxSession
from fer_ros.pipeline import EmotionPipeline
from fer_ros.sample import sample_crowd, sample_frames
from fer_ros.track import overlaps as overlaps_of
from fer_ros.types import Frame, FrameEmotions
from fer_ros.weights import InputSpec, ModelCard, ModelError, find_model, read_card
from training.benchmark_page import Following, Network, Results, page, write

OTHERS = ("poster_v2", "efficientnet_b0", "vgg13")
BATCHES = (1, 2, 5, 10)
EVERY = (1, 2, 3, 5)

_SECONDS = 75.0
_MIN_ROUNDS = 3
_CPU = ClassifierConfig(device="cpu")

Work = Callable[[], object]


@dataclass(frozen=True)
class Contestant:
    """A network with the figures that do not need a clock, and its work by the number of faces."""

    name: str
    runtime: str
    card: ModelCard
    run: Callable[[NDArray[np.uint8]], list[NDArray] | tuple[NDArray, NDArray]]
    bare: Work | None = None


class _Bare(nn.Module):
    """The layers alone, without what lies between crops and a ready tensor."""

    def __init__(self, core: nn.Module) -> None:
        super().__init__()
        self.core = core

    def forward(self, pictures: Tensor) -> tuple[Tensor, ...]:
        output = self.core(pictures)
        return tuple(each for each in output if each is not None)


def main(argv: list[str] | None = None) -> int:
    """The command; ``argv`` without the program's name."""
    parser = argparse.ArgumentParser(prog="python -m training.benchmark", description=__doc__)
    parser.add_argument("--model", metavar="NAME", default=_CPU.model, help="default: %(default)s")
    parser.add_argument("--write", action="store_true", help="BENCHMARKS.md and benchmarks.png")
    arguments = parser.parse_args(argv)
    try:
        results = measure(arguments.model)
    except ModelError as error:
        print(f"benchmark: {error}", file=sys.stderr)
        return 1
    if arguments.write:
        write(results, Path(__file__).parents[1])
    print(page(results))
    return 0


def measure(model: str, others: tuple[str, ...] = OTHERS, seconds: float = _SECONDS) -> Results:
    """All figures of the page. Raises ModelError when there is no such model."""
    config = PipelineConfig(
        classifier=ClassifierConfig(model=model, device="cpu"), tracker=TrackerConfig(min_hits=1)
    )
    threads, load = config.classifier.threads, os.getloadavg()[0]
    torch.set_num_threads(threads)
    frames, starts = measure_frames(config), list(measure_starts(config))
    node = measure_node()
    with tempfile.TemporaryDirectory() as folder:
        crops = _crops(max(BATCHES))
        int8 = _in_int8(model, crops, Path(folder))
        contestants = list(_contestants(model, int8, others, Path(folder), threads))
        works: dict[tuple[str, str, int], Work] = dict(_roads(config))
        fast = replace(config.classifier, model=str(int8.folder))
        works |= _frames(replace(config, classifier=fast), "int8, ")
        for each in contestants:
            for count in BATCHES:
                works[each.name, each.runtime, count] = _call(each.run, crops[:count])
            if each.bare:
                works[each.name, f"{each.runtime}, bare", 1] = each.bare
        spent_ms = in_turn(works, seconds)
    networks = [_network(each, spent_ms) for each in contestants]
    roads_ms = {name: value for (road, name, _), value in spent_ms.items() if road == "road"}
    followed = measure_following(config.classifier)
    return Results(model, threads, load, frames, starts, node, networks, roads_ms, followed)


def measure_node() -> list[dict[str, Any]]:
    """What ``fer_ros.ros.bench`` tells of the whole node; nothing where there is no ROS."""
    command = [sys.executable, "-m", "fer_ros.ros.bench", "--json"]
    ran = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    return json.loads(ran.stdout) if ran.returncode == 0 else []


def _in_int8(model: str, crops_rgb: NDArray[np.uint8], folder: Path) -> ModelCard:
    """The model in int8, of which only the speed counts."""
    card = read_card(find_model(model))
    faces = np.resize(crops_rgb, (MIN_FACES, *crops_rgb.shape[1:]))
    return save_quantized(card, quantize(graph_of(card), faces), folder / f"{card.name}_int8")


def measure_following(config: ClassifierConfig) -> list[Following]:
    """The sample video with the detector on one frame of each of EVERY, against all frames."""
    pipelines = {
        every: EmotionPipeline(PipelineConfig(DetectorConfig(every=every), classifier=config))
        for every in EVERY
    }
    results: dict[int, list[FrameEmotions]] = {every: [] for every in EVERY}
    for image in sample_frames():
        for every, pipeline in pipelines.items():
            results[every].append(pipeline(Frame(image.image_rgb, image.stamp_s)))
    return [_following(every, results[every], results[1]) for every in EVERY]


def _following(every: int, results: list[FrameEmotions], wanted: list[FrameEmotions]) -> Following:
    """There is one face at most."""
    both = [
        (mine.faces[0], theirs.faces[0])
        for mine, theirs in zip(results, wanted, strict=True)
        if mine.faces and theirs.faces
    ]
    boxes = [[face.box_xyxy for face in faces] for faces in zip(*both, strict=True)]
    overlaps = np.diag(overlaps_of(np.stack(boxes[0]), np.stack(boxes[1])))
    return Following(
        every=every,
        mean_ms=float(np.mean([sum(result.latency_ms.values()) for result in results])),
        frames=sum(bool(result.faces) for result in results),
        ids=len({face.id for result in results for face in result.faces}),
        overlap=float(np.median(overlaps)),
        low_overlap=float(np.percentile(overlaps, 5)),
        same=float(np.mean([mine.emotion == theirs.emotion for mine, theirs in both])),
    )


def in_turn(works: dict, seconds: float) -> dict:
    """Median milliseconds of each, all done once a round until ``seconds`` are over."""
    for work in works.values():
        work()
    spent: dict = {key: [] for key in works}
    end = perf_counter() + seconds
    with tqdm(disable=None, leave=False, unit="round") as bar:
        while perf_counter() < end or len(spent[next(iter(works))]) < _MIN_ROUNDS:
            for key, work in works.items():
                since = perf_counter()
                work()
                spent[key].append((perf_counter() - since) * 1000)
            bar.update()
    return {key: float(np.median(each)) for key, each in spent.items()}


def _contestants(
    model: str, int8: ModelCard, others: tuple[str, ...], folder: Path, threads: int
) -> Iterator[Contestant]:
    """The model in both runtimes and in int8, then the others in the faster one."""
    card = read_card(find_model(model))
    yield _in_onnx(card, threads)
    session = OnnxSession(graph_of(int8), threads)
    yield Contestant(card.name, "ONNX Runtime, int8", card, session.run)
    yield Contestant(card.name, "PyTorch", card, TorchBackend(card, "cpu", threads).run)
    for name in tqdm(others, disable=None, leave=False, desc="exporting"):
        core = build_model(name)
        network = FaceNetwork(core, InputSpec(size_px=int(getattr(core, "side_px", 112))))
        yield _in_onnx(save_model(network, folder / name, name), threads)


def _in_onnx(card: ModelCard, threads: int) -> Contestant:
    session = OnnxSession(export_onnx(card, is_blocked()), threads)
    side = card.input.size_px
    picture = torch.zeros(1, 3, side, side)
    core = _Bare(load_model(card.folder).core)
    outputs = [f"output{number}" for number in range(len(core(picture)))]
    bare = OnnxSession(trace(core, picture, "pictures", outputs, is_blocked()), threads)
    return Contestant(
        card.name, "ONNX Runtime", card, session.run, _call(bare.run, picture.numpy())
    )


def _roads(config: PipelineConfig) -> Iterator[tuple[tuple[str, str, int], Work]]:
    """Whole roads with one and with five faces, and the bare detector on a ready tensor."""
    image_rgb = sample_crowd(1)
    side = config.detector.long_side_px
    height, width = image_rgb.shape[0] * side // image_rgb.shape[1], side
    ready = np.zeros((1, 3, -(-height // 32) * 32, -(-width // 32) * 32), np.float32)
    detector = open_centerface(config.detector.model_path, config.classifier.threads)
    yield ("road", "detector", 1), _call(detector.run, ready)
    yield from _frames(config).items()


def _frames(config: PipelineConfig, kind: str = "") -> dict[tuple[str, str, int], Work]:
    """Whole roads with one and with five faces."""
    return {
        ("road", f"{kind}faces {count}", 1): _call(
            EmotionPipeline(config), Frame(sample_crowd(count), 0.0)
        )
        for count in (1, 5)
    }


def _call(function: Callable, argument: object) -> Work:
    return lambda: function(argument)


def _crops(count: int) -> NDArray[np.uint8]:
    """Faces of the sample (N, 112, 112, 3)."""
    image_rgb = sample_crowd(count)
    found = make_detector(DetectorConfig(), 1).detect(image_rgb)
    return align(image_rgb, found.points_xy).crops_rgb


def _network(each: Contestant, spent_ms: dict) -> Network:
    cost = cost_of(each.card.architecture, **each.card.config)
    points_xy, _ = each.run(np.zeros((1, 112, 112, 3), np.uint8))
    return Network(
        name=each.name,
        runtime=each.runtime,
        points=bool(np.isfinite(points_xy).all()),
        side_px=cost.side_px,
        macs=cost.macs,
        batches_ms={count: spent_ms[each.name, each.runtime, count] for count in BATCHES},
        bare_ms=spent_ms.get((each.name, f"{each.runtime}, bare", 1)),
    )


if __name__ == "__main__":
    sys.exit(main())
