"""Write the results of a run: JSON, CSV, PNG plots and one self-contained HTML page."""

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from fer_ros.evaluation import RESULTS
from fer_ros.evaluation.replay import EvaluationResult
from fer_ros.evaluation.report import plots
from fer_ros.evaluation.report.pages import SCORES, evaluation_page
from fer_ros.evaluation.report.results import latencies
from fer_ros.io.json_file import add_path_to_oserror, write_json

LATENCY, SUMMARY, PAGE = "latency.json", "bags.csv", "report.html"


def write_report(
    folder: Path, summary: dict[str, Any], results: Mapping[str, EvaluationResult]
) -> list[Path]:
    """Write all files into the folder and return the main ones.

    Raises OSError, which names a path.
    """
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / RESULTS, summary)
    latency = latencies(results)
    write_json(folder / LATENCY, latency)
    images = _plots(summary)
    page = evaluation_page(summary, latency, results, images)
    for name, result in results.items():
        images[f"timeline_{name}"] = plots.timeline(result.predictions, name, result.duration_s)
    with add_path_to_oserror(folder):
        _write_csv(folder / SUMMARY, summary)
        for stale in folder.glob("timeline_*.png"):
            stale.unlink()
        for name, png in images.items():
            (folder / f"{name}.png").write_bytes(png)
        (folder / PAGE).write_text(page, encoding="utf-8")
    return [folder / name for name in (PAGE, RESULTS, SUMMARY, LATENCY)]


def _write_csv(path: Path, summary: dict[str, Any]) -> None:
    """One row per recording, and one for all."""
    rows = {**summary["bags"], "(all)": summary}
    temporal = [*summary["temporal"]]
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["bag", "partial", "duration_s", "dropped", "faces", *SCORES, *temporal])
        for name, bag in rows.items():
            scores = bag["classification"]
            values = [bag[key] for key in ("partial", "duration_s", "dropped")]
            values += [scores["faces"], *(scores[key] for key in SCORES)]
            values += [bag["temporal"][key] for key in temporal]
            writer.writerow([name, *("" if value is None else value for value in values)])


def _plots(summary: dict[str, Any]) -> dict[str, bytes]:
    scores = summary["classification"]
    if not scores["faces"]:
        return {}
    return {
        "confusion": plots.confusion(np.array(scores["confusion"])),
        "calibration": plots.calibration(np.array(scores["calibration_bins"])),
    }
