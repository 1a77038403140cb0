"""BENCHMARKS.md and its plot, from the results of ``training.benchmark``."""

import os
import platform
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

from fer_ros.cli.benchmark import FrameLatency, StartupCost, frame_rows
from training.reports import detection
from training.reports.markdown import table

mpl.use("Agg")

_PLOT = "docs/images/benchmarks.png"

_HEAD = """\
# Benchmarks
```
python -m training.benchmark --write
```
wrote this page on {machine}, with {threads} per network and a load average of {load:.1f} at the \
start. {versions}. The rows of a table were measured alternately, so that ratios are comparable on \
a busy machine; milliseconds are of this machine. `fer bench` prints the first two tables for the \
settings of a robot, `python -m fer_ros.ros.tools.node_benchmark` the third.

## From image to emotion
Milliseconds per frame, median / 95th percentile, model `{model}` in fp32. With default settings a \
CPU with int8 dot products computes it in int8, which the tables of the node and of the whole \
pipeline show:
"""

_START = """
## Start
From the start of Python to the first emotion of an image, and the resident memory then; the \
model, in fp32, was exported before:
"""

_NODE = """
## The node
The node in its own process over DDS, with default settings and images of 640x480: results per \
second, CPU time in percent of one core, and resident memory:
"""

_NETWORKS = """
## Networks
From uint8 crops to probabilities, the faces of one frame in one call. "Core" is the network \
without pre- and postprocessing, for one face. The other networks have random weights and int8 is \
calibrated on synthetic faces; neither changes the latency.
"""

_RATIOS = """
![Faces per second]({image})

## Ratios
The first three rows compare times of a frame. The others are faces per second of `{model}`, in \
fp32 or int8, over those of the network named. Targets are acceptance limits of this project; a \
value that misses its target is reported as it is:
"""

_INTERVALS = """
## Detection interval
The synthetic video (one face crosses the image twice, at 15 frames/s) with detection in every \
`detector.interval`-th frame, compared with detection in every frame:
"""


_OTHER_MACHINES = """
## Other machines
Not yet measured on a Jetson or another machine with a GPU:
```
fer models export {model} --format tensorrt
fer bench
```

| machine | one face, ms | five faces, ms | start, s |
| --- | ---: | ---: | ---: |
| | | | |"""


@dataclass(frozen=True)
class Network:
    """Milliseconds by batch size; ``macs`` are multiply-accumulate operations for one face."""

    name: str
    runtime: str
    has_landmarks: bool
    side_px: int
    macs: float
    batches_ms: dict[int, float]
    core_ms: float | None

    def faces_per_s(self, count: int) -> float:
        """Throughput in batches of ``count`` faces."""
        return 1000 * count / self.batches_ms[count]


@dataclass(frozen=True)
class IntervalResult:
    """The synthetic video with detection in every ``interval``-th frame.

    ``frames``: frames with a face; ``ids``: their distinct ids. ``iou_median``, ``iou_p5``: median
    and 5th percentile of the IoU with the boxes of detection in every frame; ``same_emotion``:
    fraction of frames with the same emotion.
    """

    interval: int
    mean_ms: float
    frames: int
    ids: int
    iou_median: float
    iou_p5: float
    same_emotion: float


@dataclass(frozen=True)
class Results:
    """Everything on the page. ``networks`` has the model first, in the runtime of the node.

    ``load``: load average of the minute before; ``node``: the output of
    ``fer_ros.ros.tools.node_benchmark``. ``stages_ms``: "detector" is the network of the detector
    alone, "faces N" a whole frame with N faces, "int8, faces N" the same with the model in int8.
    """

    model: str
    threads: int
    load: float
    frames: list[FrameLatency]
    starts: list[StartupCost]
    node: list[dict[str, Any]]
    networks: list[Network]
    stages_ms: dict[str, float]
    intervals: list[IntervalResult]


def write(results: Results, folder: Path) -> None:
    """Write BENCHMARKS.md and its plot; keep the sections on detection. Raises OSError."""
    image = folder / _PLOT
    image.parent.mkdir(parents=True, exist_ok=True)
    draw(results.networks, image)
    path = folder / "BENCHMARKS.md"
    previous = path.read_text(encoding="utf-8") if path.is_file() else ""
    detection_sections = detection.sections(previous)
    text = page(results) + (f"\n{detection_sections}" if detection_sections else "")
    path.write_text(text, encoding="utf-8")


def page(results: Results) -> str:
    """Render the page in Markdown."""
    threads = f"{results.threads} thread" if results.threads == 1 else f"{results.threads} threads"
    packages = [f"{name} {version(name)}" for name in ("onnxruntime", "torch", "numpy")]
    head = _HEAD.format(
        machine=machine(),
        threads=threads,
        load=results.load,
        versions=f"Python {platform.python_version()}, {', '.join(packages)}",
        model=results.model,
    )
    parts = [
        head,
        table(frame_rows(results.frames)),
        _START,
        table(_start_rows(results.starts)),
        _NODE,
        table(_node_rows(results.node)),
        _NETWORKS,
        table(_network_rows(results.networks)),
        _RATIOS.format(image=_PLOT, model=results.model),
        table(_ratio_rows(results)),
        _INTERVALS,
        table(_interval_rows(results.intervals)),
        _OTHER_MACHINES.format(model=results.model),
    ]
    return "\n".join(parts) + "\n"


def draw(networks: Sequence[Network], path: Path) -> None:
    """Plot faces per second by batch size."""
    figure = Figure(figsize=(10, 4.5), layout="constrained")
    axes = figure.subplots()
    for network in networks:
        counts = list(network.batches_ms)
        rates = [network.faces_per_s(count) for count in counts]
        axes.plot(counts, rates, marker="o", label=f"{network.name}, {network.runtime}")
    axes.set(xlabel="faces in one call", ylabel="faces per second", ylim=(0, None))
    axes.set_xticks(list(networks[0].batches_ms))
    axes.grid(alpha=0.3)
    axes.legend(loc="upper left", bbox_to_anchor=(1, 1))
    figure.savefig(path, dpi=100)


def _start_rows(starts: Sequence[StartupCost]) -> Iterator[tuple[str, ...]]:
    yield ("runtime", "seconds", "MiB")
    for start in starts:
        yield (start.runtime, f"{start.seconds:.1f}", f"{start.rss_mib:.0f}")


def _node_rows(loads: Sequence[dict[str, Any]]) -> Iterator[tuple[str, ...]]:
    yield ("situation", "images/s", "% of a core", "MiB")
    for load in loads:
        values = (load[key] for key in ("images_per_s", "core_percent", "rss_mib"))
        yield (load["situation"], *(f"{value:.1f}" for value in values))


def _network_rows(networks: Sequence[Network]) -> Iterator[tuple[str, ...]]:
    counts = list(networks[0].batches_ms)
    rates = [f"faces/s, batch {count}" for count in counts]
    yield ("network", "68 landmarks", "input", "GMAC", *rates, "ms, one face", "ms, core", "GMAC/s")
    for network in networks:
        name = f"`{network.name}`, {network.runtime}"
        yield (
            name,
            "yes" if network.has_landmarks else "no",
            f"{network.side_px} px",
            f"{network.macs / 1e9:.2f}",
            *(f"{network.faces_per_s(count):.0f}" for count in counts),
            f"{network.batches_ms[1]:.1f}",
            f"{network.core_ms:.1f}" if network.core_ms else "",
            f"{network.macs / 1e6 / network.batches_ms[1]:.0f}",
        )


def _ratio_rows(results: Results) -> Iterator[tuple[str, ...]]:
    ours, *others = results.networks
    one_ms = results.stages_ms["faces 1"]
    core_ms = results.stages_ms["detector"] + (ours.core_ms or 0.0)
    yield ("ratio of", "value", "target")
    yield ("frame with one face : its networks alone", f"{one_ms / core_ms:.2f}", "at most 1.10")
    for kind in ("", "int8, "):
        ratio = results.stages_ms[f"{kind}faces 5"] / results.stages_ms[f"{kind}faces 1"]
        yield (f"{kind}frame with five faces : with one", f"{ratio:.2f}", "at most 2.2")
    targets = {"poster_v2": "at least 8", "efficientnet_b0": "at least 1"}
    int8 = next(network for network in others if network.runtime.endswith("int8"))
    for network, kind in ((ours, ""), (int8, " in int8")):
        for other in others:
            if network is int8 and other.name not in targets:
                continue
            for count in (1, 5):
                ratio = other.batches_ms[count] / network.batches_ms[count]
                pair = f"faces/s{kind}, batch {count} : `{other.name}`, {other.runtime}"
                yield (pair, f"{ratio:.1f}", targets.get(other.name, ""))


def _interval_rows(results: Sequence[IntervalResult]) -> Iterator[tuple[str, ...]]:
    iou = "IoU, median / 5th percentile"
    yield ("interval", "ms, mean", "frames with the face", "ids", iou, "same emotion")
    for result in results:
        yield (
            str(result.interval),
            f"{result.mean_ms:.1f}",
            str(result.frames),
            str(result.ids),
            f"{result.iou_median:.2f} / {result.iou_p5:.2f}",
            f"{result.same_emotion:.0%}",
        )


def machine() -> str:
    """Number of cores and name of the CPU."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{os.cpu_count()} cores of {names[0] if names else platform.machine()}"
