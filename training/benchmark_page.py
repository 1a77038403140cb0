"""BENCHMARKS.md and its picture, from what ``training.benchmark`` measured."""

import os
import platform
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

from fer_ros.cli.bench import Cost, Start, frame_rows

mpl.use("Agg")

_PICTURE = "benchmarks.png"

_HEAD = """\
# Benchmarks
```
python -m training.benchmark --write
```
measured these figures, wrote this page and drew its picture, on {machine}, with {threads} of the \
networks and a load average of {load:.1f} before it began. {versions}. What stands in one table \
was measured in turn, over and over, so that ratios hold on a busy machine; milliseconds are those \
of this one. `fer bench` gives the first two tables for the settings of a robot, \
`python -m fer_ros.ros.bench` the third.

## From image to emotion
Milliseconds of a frame, median / 95th percentile, model `{model}`:
"""

_START = """
## Start
From starting Python to the first emotion of a picture, and the memory that the process holds \
then, once the model was exported:
"""

_NODE = """
## The node
The whole node over DDS, a process of its own, with images of 640x480: answers per second, its \
share of one core, and the memory that it holds:
"""

_NETWORKS = """
## Networks
From uint8 crops to probabilities, one frame's faces in one call. "Bare" is the network alone on a \
ready tensor, one face: what its layers cost in this runtime. The others have random weights, and \
int8 is calibrated on made-up frames, both of which cost the same.
"""

_RATIOS = """
![Faces per second]({picture})

## Ratios
"""

_FOLLOWING = """
## A detector that rests
The made-up video (one face flies through twice, at 15 frames/s) with the detector on one frame of \
`detector.every`, against the detector on all:
"""


_ELSEWHERE = """
## Other machines
On a Jetson, or another machine with a GPU, nobody has measured yet:
```
fer models export {model} --format tensorrt
fer bench
```

| machine | one face, ms | five faces, ms | start, s |
| --- | ---: | ---: | ---: |
| | | | |"""


@dataclass(frozen=True)
class Network:
    """Milliseconds by the number of faces; ``macs`` are multiply-accumulates for one face."""

    name: str
    runtime: str
    points: bool
    side_px: int
    macs: float
    batches_ms: dict[int, float]
    bare_ms: float | None

    def faces_per_s(self, count: int) -> float:
        """Throughput when ``count`` faces go in at once."""
        return 1000 * count / self.batches_ms[count]


@dataclass(frozen=True)
class Following:
    """The sample video with the detector on one frame of ``every``; shares in 0..1.

    ``frames`` have a face, of ``ids`` ids; ``overlap`` is the median intersection over union with
    the boxes of a detector that never rests, ``low_overlap`` its 5th percentile, and in ``same`` of
    the frames the emotion is the same.
    """

    every: int
    mean_ms: float
    frames: int
    ids: int
    overlap: float
    low_overlap: float
    same: float


@dataclass(frozen=True)
class Results:
    """Everything on the page. ``networks`` has the model first, in the runtime of the node.

    ``load`` is the average of the minute before, ``node`` what ``fer_ros.ros.bench`` tells.
    ``roads_ms``: "detector" is the bare network, "faces N" a whole frame with N faces, and
    "int8, faces N" the same with the model in int8.
    """

    model: str
    threads: int
    load: float
    frames: list[Cost]
    starts: list[Start]
    node: list[dict[str, Any]]
    networks: list[Network]
    roads_ms: dict[str, float]
    followed: list[Following]


def write(results: Results, folder: Path) -> None:
    """BENCHMARKS.md and the picture that it shows. Raises OSError."""
    draw(results.networks, folder / _PICTURE)
    (folder / "BENCHMARKS.md").write_text(page(results), encoding="utf-8")


def page(results: Results) -> str:
    """The page in Markdown."""
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
        _table(list(frame_rows(results.frames))),
        _START,
        _table(list(_start_rows(results.starts))),
        _NODE,
        _table(list(_node_rows(results.node))),
        _NETWORKS,
        _table(list(_network_rows(results.networks))),
        _RATIOS.format(picture=_PICTURE),
        _table(list(_ratio_rows(results))),
        _FOLLOWING,
        _table(list(_following_rows(results.followed))),
        _ELSEWHERE.format(model=results.model),
    ]
    return "\n".join(parts) + "\n"


def draw(networks: Sequence[Network], path: Path) -> None:
    """Faces per second by the number of faces in one call."""
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


def _table(rows: Sequence[Sequence[str]]) -> str:
    heading, *body = rows
    lines = [heading, ["---", *["---:"] * (len(heading) - 1)], *body]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _start_rows(starts: Sequence[Start]) -> Iterator[tuple[str, ...]]:
    yield ("runtime", "seconds", "MiB")
    for start in starts:
        yield (start.runtime, f"{start.seconds:.1f}", f"{start.rss_mib:.0f}")


def _node_rows(loads: Sequence[dict[str, Any]]) -> Iterator[tuple[str, ...]]:
    yield ("situation", "images/s", "% of a core", "MiB")
    for each in loads:
        figures = (each[key] for key in ("images_per_s", "core_percent", "rss_mib"))
        yield (each["situation"], *(f"{figure:.1f}" for figure in figures))


def _network_rows(networks: Sequence[Network]) -> Iterator[tuple[str, ...]]:
    counts = list(networks[0].batches_ms)
    rates = [f"faces/s, {count} at once" for count in counts]
    yield ("network", "68 points", "input", "GMAC", *rates, "ms, one face", "ms, bare", "GMAC/s")
    for network in networks:
        name = f"`{network.name}`, {network.runtime}"
        yield (
            name,
            "yes" if network.points else "no",
            f"{network.side_px} px",
            f"{network.macs / 1e9:.2f}",
            *(f"{network.faces_per_s(count):.0f}" for count in counts),
            f"{network.batches_ms[1]:.1f}",
            f"{network.bare_ms:.1f}" if network.bare_ms else "",
            f"{network.macs / 1e6 / network.batches_ms[1]:.0f}",
        )


def _ratio_rows(results: Results) -> Iterator[tuple[str, ...]]:
    ours, *others = results.networks
    one_ms = results.roads_ms["faces 1"]
    bare_ms = results.roads_ms["detector"] + (ours.bare_ms or 0.0)
    yield ("what", "ratio", "aim")
    yield ("frame of one face : its bare networks", f"{one_ms / bare_ms:.2f}", "at most 1.25")
    for kind in ("", "int8, "):
        ratio = results.roads_ms[f"{kind}faces 5"] / results.roads_ms[f"{kind}faces 1"]
        yield (f"{kind}frame of five faces : frame of one", f"{ratio:.2f}", "at most 2.2")
    aims = {"poster_v2": "at least 8", "efficientnet_b0": "at least 1"}
    int8 = next(each for each in others if each.runtime.endswith("int8"))
    for mine, kind in ((ours, ""), (int8, " in int8")):
        for other in others:
            if mine is int8 and other.name not in aims:
                continue
            for count in (1, 5):
                ratio = other.batches_ms[count] / mine.batches_ms[count]
                what = f"faces/s{kind}, {count} at once : those of `{other.name}`, {other.runtime}"
                yield (what, f"{ratio:.1f}", aims.get(other.name, ""))


def _following_rows(followed: Sequence[Following]) -> Iterator[tuple[str, ...]]:
    overlap = "box overlap, median / 5th percentile"
    yield ("every", "ms, mean", "frames with the face", "ids", overlap, "same emotion")
    for each in followed:
        yield (
            str(each.every),
            f"{each.mean_ms:.1f}",
            str(each.frames),
            str(each.ids),
            f"{each.overlap:.2f} / {each.low_overlap:.2f}",
            f"{each.same:.0%}",
        )


def machine() -> str:
    """In words: its cores, and what the CPU calls itself."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{os.cpu_count()} cores of {names[0] if names else platform.machine()}"
