"""Write the results of a run: JSON, CSV, PNG plots and one self-contained HTML page."""

import csv
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from fer_ros.evaluation import RESULTS, EvaluationError
from fer_ros.evaluation.replay import EvaluationResult
from fer_ros.evaluation.report import plots
from fer_ros.evaluation.report.pages import SCORES, evaluation_page
from fer_ros.evaluation.report.results import latencies
from fer_ros.io.json_file import add_path_to_oserror, read_json, write_json

LATENCY, SUMMARY, PAGE = "latency.json", "bags.csv", "report.html"
_PLOTS = ("confusion", "calibration")


def check_folder(folder: Path, names: Iterable[str]) -> None:
    """Raise EvaluationError when a report would replace files that no earlier report wrote.

    Args:
        folder: Folder of the report, which may be missing.
        names: Names of the recordings.
    """
    written = _files_of_earlier_report(folder)
    for file in _file_names(names):
        if file not in written and (folder / file).exists():
            raise EvaluationError(
                f"{folder / file}: expected a file of an earlier report, found another one; move "
                "it, or name another folder with --out"
            )


def _file_names(names: Iterable[str]) -> list[str]:
    """All files of a report about these recordings."""
    images = [*_PLOTS, *(_timeline(name) for name in names)]
    return [PAGE, RESULTS, SUMMARY, LATENCY, *(f"{image}.png" for image in images)]


def _timeline(name: str) -> str:
    return f"timeline_{name}"


def _files_of_earlier_report(folder: Path) -> list[str]:
    """The files that the report in the folder may have, [] without a report."""
    try:
        return _file_names(read_json(folder / RESULTS)["bags"])
    except ValueError:  # not complete, as on a full disk
        return _file_names([])
    except (OSError, KeyError, TypeError):
        return []


def write_report(
    folder: Path, summary: dict[str, Any], results: Mapping[str, EvaluationResult]
) -> list[Path]:
    """Write all files into the folder and return the main ones.

    Replaces the files of an earlier report; ``check_folder`` tells whether there are others.

    Raises OSError, which names a path.
    """
    folder.mkdir(parents=True, exist_ok=True)
    earlier = _files_of_earlier_report(folder)
    write_json(folder / RESULTS, summary)
    latency = latencies(results)
    write_json(folder / LATENCY, latency)
    images = _plots(summary)
    page = evaluation_page(summary, latency, results, images)
    for name, result in results.items():
        images[_timeline(name)] = plots.timeline(result.predictions, name, result.duration_s)
    with add_path_to_oserror(folder):
        _write_csv(folder / SUMMARY, summary)
        for file in earlier:
            if file.endswith(".png"):
                (folder / file).unlink(missing_ok=True)
        for name, png in images.items():
            (folder / f"{name}.png").write_bytes(png)
        (folder / PAGE).write_text(page, encoding="utf-8")
    return [folder / name for name in (PAGE, RESULTS, SUMMARY, LATENCY)]


def _write_csv(path: Path, summary: dict[str, Any]) -> None:
    """One row per recording, and one for all."""
    rows = {**summary["bags"], "(all)": summary}
    temporal = [*summary["temporal"]]
    with path.open("w", encoding="utf-8", errors="backslashreplace", newline="") as file:
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
