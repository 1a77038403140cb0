"""The figures of ``training.evaluate`` as one page of HTML that needs nothing beside it.

It shows counts and shares only, no picture of the data.
"""

import base64
from collections.abc import Iterator, Sequence
from html import escape
from typing import Any

import numpy as np

from fer_ros.evaluation import pictures
from training.figures import recall_png
from training.scores import RECALL_HEAD, RESAMPLES, SCORE_HEAD, recall_rows, score_cells

_STYLE = """
body{font:15px/1.5 system-ui,sans-serif;max-width:1080px;margin:2em auto;padding:0 1em}
table{border-collapse:collapse;margin:1em 0}
td,th{padding:.25em .9em .25em 0;text-align:right;border-bottom:1px solid #e8eaed}
td:first-child,th:first-child{text-align:left}img{max-width:100%}
.row{display:flex;flex-wrap:wrap;gap:1.5em;align-items:flex-start}.row>*{flex:1 1 20em}
"""
_NOTES = f"""
<p>Intervals hold 95 %: of accuracy and mean recall by a bootstrap of {RESAMPLES} resamples, of a
recall by Wilson's formula. ECE to the votes: an answer is as right as the share of people who gave
it. NLL is of the label, KL of the network's answer from the votes, both in nats. "-flip": mean of
the picture and its mirror image.</p>
"""


def page(results: dict[str, Any]) -> str:
    """The page of the results of ``training.evaluate.evaluate``."""
    scored = {name: found for name, found in results.items() if "accuracy" in found}
    data, model = results["data"], results["model"]
    parts = [
        f"<h1>{escape(model['name'])} on {escape(data['name'])}</h1>",
        f"<p>Weights {model['sha256'][:12]}... {data['faces']} faces; left out were "
        f"{data['faceless']} pictures without a face and {data['undecodable']} undecodable ones."
        "</p>",
        *_landmarks(results.get("landmarks")),
        *_scores(scored),
        *(line for name, found in scored.items() for line in _section(name, found)),
    ]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f"<title>{escape(model['name'])}</title><style>{_STYLE}</style></head>\n<body>\n"
        + "\n".join(parts)
        + "\n</body></html>\n"
    )


def _scores(scored: dict[str, dict[str, Any]]) -> Iterator[str]:
    if scored:
        rows = [[name, *score_cells(each)] for name, each in scored.items()]
        yield _table(["", *SCORE_HEAD], rows)
        yield _NOTES


def _landmarks(found: dict[str, Any] | None) -> Iterator[str]:
    if found and found["mean_nme"] is not None:
        yield (
            f"<p>Landmarks of {found['pictures']} faces, in distances of the outer eye corners, "
            f"are off by {found['mean_nme']:.2%} in the mean, {found['median_nme']:.2%} in the "
            f"median and {found['p95_nme']:.2%} at the 95th percentile.</p>"
        )


def _section(name: str, found: dict[str, Any]) -> Iterator[str]:
    drawn = {
        "confusion": pictures.confusion(np.array(found["confusion"])),
        "calibration": pictures.calibration(np.array(found["bins"])),
        "recall": recall_png(found["recall"], found["recall_interval"]),
    }
    images = (_image(png, f"{what}, {name}") for what, png in drawn.items())
    yield f"<h2>{escape(name)}</h2>"
    yield f'<div class="row">{"".join(f"<div>{image}</div>" for image in images)}</div>'
    yield _table(RECALL_HEAD, recall_rows(found))


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [_line(head, "th"), *(_line(row, "td") for row in rows)]
    return f"<table>{''.join(lines)}</table>"


def _line(cells: Sequence[str], tag: str) -> str:
    return f"<tr>{''.join(f'<{tag}>{escape(cell)}</{tag}>' for cell in cells)}</tr>"


def _image(png: bytes, alt: str) -> str:
    data = base64.b64encode(png).decode()
    return f'<img alt="{escape(alt)}" src="data:image/png;base64,{data}">'
