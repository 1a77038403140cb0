"""The section of BENCHMARKS.md on face detection, and its plot."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from training.reports.markdown import table

if TYPE_CHECKING:
    from training.detection_benchmark import Plan, Results

mpl.use("Agg")

HEADING = "## Detection"
PIPELINES_HEADING = "## The whole pipeline against an earlier version"
REFERENCE_PX = 320
REFERENCE = f"centerface, each frame at {REFERENCE_PX} px"
LIMIT_S = {"VGA": 0.5, "720p": 0.5, "1080p": 1.0, "4K": 1.0}

_PLOT = Path("docs/images/detection.png")

_INTRODUCTION = f"""\
{HEADING}
```
python -m training.detection_benchmark --write --sequences {{sequences}} --yunet FILE \\
  --groups FOLDER
```
measured these values. FOLDER has photographs and their face boxes in `boxes.csv` (file, x, y, w, \
h). A portrait appears in a background image without people, in frames with camera noise at 15 \
frames/s; it counts as found when the tracker has confirmed it. Times are CPU times of the process \
with two threads, so that other load does not change them. "Cost" is the mean time of one frame \
divided by that of one pass of CenterFace, in fp32, at {REFERENCE_PX} px over the same frames, in \
the same run.

Share of the sequences in which a face of this height is found within the time that the heading \
names:
"""

_SHARE = """
![Faces found by their height]({plot})

Time to the first confirmed detection of faces of 20 px and more, and cost:
"""

_SECOND_FACE = """
The same for faces of {heights} px that appear while another one, a fifth of the frame high, is \
tracked:
"""

_TEXTURES = """
Frames with a false face among {frames} frames that pan over scenes without people:
"""

_GROUPS = """
Share of {count} boxes found in group photographs, each by itself:
"""


def write(results: "Results", folder: Path) -> None:
    """Replace the section in BENCHMARKS.md, and draw its plot. Raises OSError."""
    plot = folder / _PLOT
    plot.parent.mkdir(parents=True, exist_ok=True)
    draw(results, plot)
    replace_section(folder, HEADING, page(results))


def replace_section(folder: Path, heading: str, text: str) -> None:
    """Replace one section of BENCHMARKS.md, or append it. Raises OSError."""
    path = folder / "BENCHMARKS.md"
    head, _, tail = path.read_text(encoding="utf-8").partition(f"{heading}\n")
    _, mark, rest = tail.partition("\n## ")
    path.write_text(f"{head.rstrip()}\n\n{text}{mark}{rest}", encoding="utf-8")


def sections(text: str) -> str:
    """The sections of BENCHMARKS.md that ``replace_section`` writes, or ""."""
    texts = []
    for heading in (HEADING, PIPELINES_HEADING):
        _, mark, after = text.partition(f"{heading}\n")
        if mark:
            texts.append((mark + after.partition("\n## ")[0]).rstrip() + "\n")
    return "\n".join(texts)


def page(results: "Results") -> str:
    """The section in Markdown."""
    parts = [
        _INTRODUCTION.format(sequences=_sequences(results)),
        table(_recall_rows(results)),
        _SHARE.format(plot=_PLOT),
        table(_cost_rows(results.plans)),
    ]
    heights = sorted({px for _, px in results.second_face[0].first_s})
    parts += [
        _SECOND_FACE.format(heights=f"{heights[0]} to {heights[-1]}"),
        table(_cost_rows(results.second_face)),
    ]
    if results.textured_frames:
        rows = [(plan.name, str(plan.false_frames)) for plan in results.plans]
        parts += [
            _TEXTURES.format(frames=results.textured_frames),
            table([("plan", "frames with a false face"), *rows]),
        ]
    if results.groups:
        rows = [(name, f"{share:.0%}") for name, share in results.groups.items()]
        parts += [
            _GROUPS.format(count=results.num_group_boxes),
            table([("plan", "found"), *rows]),
        ]
    return "\n".join(parts) + "\n"


def draw(results: "Results", path: Path) -> None:
    """Share of the sequences found in time, by the height of the face, for each frame size."""
    sizes = _sizes(results)
    figure = Figure(figsize=(3.2 * len(sizes) + 1, 3.6), layout="constrained")
    grid = figure.subplots(1, len(sizes), sharey=True, squeeze=False)
    for axes, size in zip(grid[0], sizes, strict=True):
        for plan in results.plans:
            heights = sorted(px for name, px in plan.first_s if name == size)
            shares = [_share(plan.first_s[size, px], LIMIT_S[size]) for px in heights]
            axes.plot(heights, shares, marker="o", markersize=3, label=plan.name)
        axes.set(xscale="log", xlabel="height of the face, px")
        axes.set_title(f"{size}, within {LIMIT_S[size]:g} s", fontsize=10)
        axes.grid(alpha=0.3)
    grid[0][0].set(ylabel="share of sequences found", ylim=(-0.03, 1.03))
    grid[0][0].legend(fontsize=7, loc="lower right")
    figure.savefig(path, dpi=100)


def _recall_rows(results: "Results") -> Iterator[tuple[str, ...]]:
    first, sizes = results.plans[0].first_s, _sizes(results)
    filling = {size: max(px for name, px in first if name == size) for size in sizes}
    heights = sorted(
        {px for _, px in first if all((size, px) in first and px < filling[size] for size in sizes)}
    )
    yield ("frame", "plan", *(f"{px} px" for px in heights), "fills the frame")
    for size in sizes:
        for plan in results.plans:
            times = [plan.first_s[size, px] for px in (*heights, filling[size])]
            shares = (f"{_share(seconds, LIMIT_S[size]):.0%}" for seconds in times)
            yield (f"{size}, {LIMIT_S[size]:g} s", plan.name, *shares)


def _cost_rows(plans: "Sequence[Plan]") -> Iterator[tuple[str, ...]]:
    yield ("frame", "plan", "found", "median, s", "p95, s", "ms mean / p95", "cost")
    reference = plans[0]
    for size in reference.spent_ms:
        for plan in plans:
            seconds = [
                value
                for (name, px), values in plan.first_s.items()
                if name == size and px >= 20
                for value in values
            ]
            spent_ms = plan.spent_ms[size]
            yield (
                size,
                plan.name,
                f"{_share(seconds, LIMIT_S[size]):.0%}",
                _seconds(seconds, 50),
                _seconds(seconds, 95),
                f"{np.mean(spent_ms):.1f} / {np.percentile(spent_ms, 95):.1f}",
                f"{np.mean(spent_ms) / np.mean(reference.spent_ms[size]):.2f}",
            )


def _sequences(results: "Results") -> int:
    """Sequences of each height."""
    return len(next(iter(results.plans[0].first_s.values())))


def _share(seconds: Sequence[float], limit_s: float) -> float:
    return float(np.mean([value <= limit_s + 1e-6 for value in seconds]))


def _seconds(values: Sequence[float], percent: float) -> str:
    """A percentile; faces that were never found count as the longest time of all."""
    value = float(np.percentile(values, percent, method="higher"))
    return f"{value:.2f}" if np.isfinite(value) else "not found"


def _sizes(results: "Results") -> list[str]:
    return list(results.plans[0].spent_ms)
