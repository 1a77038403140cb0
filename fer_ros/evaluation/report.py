"""A verdict as files: JSON, CSV, PNG and one page of HTML that needs nothing beside it."""

import base64
import csv
from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from fer_ros.evaluation.moments import COUNT, Moment
from fer_ros.evaluation.replay import Outcome
from fer_ros.evaluation.store import named, write_json
from fer_ros.evaluation.verdict import latencies
from fer_ros.labels import EMOTIONS

VERDICT, LATENCY, SUMMARY, PAGE = "verdict.json", "latency.json", "bags.csv", "report.html"

_VIDEO = {
    "coverage": ("labelled faces that were found", "share"),
    "readable": ("labelled faces that were found and read", "share"),
    "frames_with_face": ("images with a face", "share"),
    "switches_per_min": ("changes of the emotion per minute and face", "number"),
    "mean_dwell_s": ("how long an emotion stays", "seconds"),
    "id_switches": ("labelled faces that got another id", "count"),
    "label_changes": ("changes of a label", "count"),
    "label_changes_never_seen": ("of these never read rightly", "count"),
    "median_time_to_correct_s": ("from a change to the first right reading, median", "seconds"),
}
_SCORES = {
    "accuracy": "accuracy",
    "mean_recall": "mean recall",
    "macro_f1": "macro F1",
    "ece": "calibration error (ECE)",
}
_STYLE = """
body{font:15px/1.5 system-ui,sans-serif;max-width:1080px;margin:2em auto;padding:0 1em}
h1{font-size:1.5em}h2{font-size:1.15em;margin-top:2em}table{border-collapse:collapse;margin:1em 0}
td,th{padding:.25em .9em .25em 0;text-align:left;border-bottom:1px solid #e8eaed;vertical-align:top}
td.n,th.n{text-align:right;font-variant-numeric:tabular-nums}img{max-width:100%}
.row{display:flex;flex-wrap:wrap;gap:1.5em;align-items:flex-start}.row>*{flex:1 1 20em}
.warn{background:#fef7e0;border-left:4px solid #f2b705;padding:.5em 1em}
figure{margin:0;flex:0 0 auto}figcaption{font-size:.85em}.dim{color:#5f6368}
"""


def write_all(folder: Path, verdict: dict[str, Any], outcomes: Mapping[str, Outcome]) -> list[Path]:
    """Writes everything into the folder and says what. Raises OSError, which names a path."""
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / VERDICT, verdict)
    spent = latencies(outcomes)
    write_json(folder / LATENCY, spent)
    pictures = _pictures(verdict, outcomes)
    page = _page(verdict, spent, outcomes, pictures)
    with named(folder):
        _write_summary(folder / SUMMARY, verdict)
        for stale in folder.glob("timeline_*.png"):
            stale.unlink()
        for name, png in pictures.items():
            (folder / f"{name}.png").write_bytes(png)
        (folder / PAGE).write_text(page, encoding="utf-8")
    return [folder / name for name in (PAGE, VERDICT, SUMMARY, LATENCY)]


def _write_summary(path: Path, verdict: dict[str, Any]) -> None:
    """A line per recording, and one for all."""
    parts = {**verdict["bags"], "(all)": verdict}
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        video = [*verdict["video"]]
        writer.writerow(["bag", "partial", "duration_s", "dropped", "faces", *_SCORES, *video])
        for name, part in parts.items():
            own, scores = (
                [part[key] for key in ("partial", "duration_s", "dropped")],
                part["scores"],
            )
            figures = [scores["faces"], *(scores[key] for key in _SCORES)]
            row = [*own, *figures, *(part["video"][key] for key in video)]
            writer.writerow([name, *("" if value is None else value for value in row)])


def _pictures(verdict: dict[str, Any], outcomes: Mapping[str, Outcome]) -> dict[str, bytes]:
    from fer_ros.evaluation import pictures  # brings Matplotlib

    made = {}
    if verdict["scores"]["faces"]:
        made["confusion"] = pictures.confusion(np.array(verdict["scores"]["confusion"]))
        made["calibration"] = pictures.calibration(np.array(verdict["scores"]["bins"]))
    for name, outcome in outcomes.items():
        made[f"timeline_{name}"] = pictures.timeline(outcome.table, name, outcome.duration_s)
    return made


def _page(
    verdict: dict[str, Any],
    spent: dict[str, Any],
    outcomes: Mapping[str, Outcome],
    pictures: dict[str, bytes],
) -> str:
    images = {name: _image(png, "png", name) for name, png in pictures.items()}
    both = "".join(
        f"<div>{images[name]}</div>" for name in ("confusion", "calibration") if name in images
    )
    parts = [
        "<h1>Emotions read in recordings</h1>",
        _summary(verdict),
        _warnings(verdict),
        "<h2>Against the labels</h2>",
        _scores(verdict["scores"]),
        f'<div class="row">{both}</div>',
        "<h2>Over time</h2>",
        _table(
            [[text, _shown(verdict["video"][key], unit)] for key, (text, unit) in _VIDEO.items()]
        ),
        "<h2>Milliseconds per image</h2>",
        _latency(spent),
        *[f"<h2>{escape(name)}</h2>{images[f'timeline_{name}']}" for name in outcomes],
        _moments(outcomes),
        _bags(verdict["bags"]),
    ]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f"<title>fer_ros: verdict</title><style>{_STYLE}</style></head>\n<body>\n"
        + "\n".join(parts)
        + "\n</body></html>\n"
    )


def _summary(verdict: dict[str, Any]) -> str:
    model = f"{verdict['model']} ({verdict['sha256'][:12]}...)" if verdict["model"] else "recorded"
    frames, faces = verdict["video"]["frames"], verdict["scores"]["faces"]
    return (
        f"<p>Model {escape(model)}. {len(verdict['bags'])} recordings, "
        f"{verdict['duration_s']:.1f} s, {frames} images evaluated, {verdict['dropped']} dropped "
        f"for newer ones, {faces} labelled faces read.</p>"
    )


def _warnings(verdict: dict[str, Any]) -> str:
    lines = [*verdict["failed"].values()]
    for part in verdict["bags"].values():
        lines += [*part["troubles"], *part["notes"]]
    if not lines:
        return ""
    head = "<b>Partial:</b> not everything could be evaluated." if verdict["partial"] else ""
    listed = "".join(f"<li>{escape(line)}</li>" for line in lines)
    return f'<div class="warn">{head}<ul>{listed}</ul></div>'


def _scores(scores: dict[str, Any]) -> str:
    if not scores["faces"]:
        return "<p>No face that was read has a label: nothing to score.</p>"
    rows = [
        [text, _shown(scores[key], "share"), _shown(scores["raw"][key], "share")]
        for key, text in _SCORES.items()
    ]
    recall = [
        [name, _shown(scores["recall"][name], "share"), str(sum(scores["confusion"][k]))]
        for k, name in enumerate(EMOTIONS)
        if scores["recall"][name] is not None
    ]
    figures = _table(rows, ["", "smoothed, as published", "each image alone"])
    return f'<div class="row">{figures}{_table(recall, ["emotion", "recall", "faces"])}</div>'


def _latency(spent: dict[str, Any]) -> str:
    if not spent["latency_ms"]:
        return "<p>Nothing was computed.</p>"
    stages = spent["latency_ms"].items()
    ranks = ["p50", "p95", "p99"]
    rows = [[stage, *(f"{figures[rank]:.1f}" for rank in ranks)] for stage, figures in stages]
    return _table(rows, ["stage", *ranks]) + '<p class="dim">On the machine that evaluated.</p>'


def _moments(outcomes: Mapping[str, Outcome]) -> str:
    found = [(name, moment) for name, each in outcomes.items() for moment in each.moments]
    found = sorted(found, key=lambda pair: -pair[1].weight)[:COUNT]
    if not found:
        return ""
    shown = "".join(_moment(name, moment) for name, moment in found)
    return f'<h2>Worst moments</h2><div class="row">{shown}</div>'


def _moment(name: str, moment: Moment) -> str:
    picture = _image(moment.jpeg, "jpeg", moment.id) if moment.jpeg else ""
    return (
        f"<figure>{picture}<figcaption>{escape(name)}, {moment.stamp_s:.2f} s, face "
        f"{escape(moment.id)}<br>{moment.label}, read as <b>{moment.emotion}</b><br>"
        f"{moment.margin:.0%} ahead, {moment.seconds:.2f} s long</figcaption></figure>"
    )


def _bags(bags: dict[str, Any]) -> str:
    if len(bags) < 2:
        return ""
    rows = [
        [
            name,
            f"{part['duration_s']:.1f}",
            str(part["scores"]["faces"]),
            *(_shown(part["scores"][key], "share") for key in _SCORES),
            _shown(part["video"]["coverage"], "share"),
        ]
        for name, part in bags.items()
    ]
    return "<h2>Each recording</h2>" + _table(
        rows, ["recording", "seconds", "faces", *_SCORES.values(), "coverage"]
    )


def _table(rows: list[list[str]], head: list[str] | None = None) -> str:
    def line(cells: list[str], tag: str) -> str:
        kinds = ["", *[' class="n"'] * (len(cells) - 1)]
        shown = (
            f"<{tag}{kind}>{escape(cell)}</{tag}>" for cell, kind in zip(cells, kinds, strict=True)
        )
        return f"<tr>{''.join(shown)}</tr>"

    lines = [line(head, "th")] if head else []
    return f"<table>{''.join(lines + [line(row, 'td') for row in rows])}</table>"


def _shown(value: float | None, unit: str) -> str:
    if value is None:
        return "-"
    return {
        "share": f"{value:.1%}",
        "number": f"{value:.2f}",
        "seconds": f"{value:.2f} s",
        "count": f"{value:.0f}",
    }[unit]


def _image(data: bytes, kind: str, alt: str) -> str:
    text = base64.b64encode(data).decode()
    return f'<img alt="{escape(alt)}" src="data:image/{kind};base64,{text}">'
