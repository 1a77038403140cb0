"""Compare two runs over the same recordings: read them, and report significant differences."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fer_ros.evaluation import RESULTS, EvaluationError
from fer_ros.evaluation.metrics.paired_bootstrap import BLOCK_S, compare_predictions
from fer_ros.evaluation.replay import EvaluationResult
from fer_ros.evaluation.result_cache import load
from fer_ros.io.json_file import read_json

SIGNIFICANCE = {True: "significant", False: "not significant", None: "too few blocks"}
"""In words, by the value of ``significant``."""


class RunError(EvaluationError):
    """A folder holds no run that can be compared. The message is one line."""


@dataclass(frozen=True)
class Run:
    """The results document of a run, and the result of each recording by name."""

    folder: Path
    summary: dict[str, Any]
    results: dict[str, EvaluationResult]


def read_run(folder: Path) -> Run:
    """Read what ``fer evaluate-bag --out FOLDER`` wrote. Raises RunError."""
    try:
        summary = read_json(folder / RESULTS)
        names = [*summary["bags"]]
    except (OSError, ValueError, KeyError, TypeError):
        raise RunError(
            f"{folder}: expected a run with {RESULTS}, found none; create one with "
            f"fer evaluate-bag --out {folder}"
        ) from None
    results = {}
    for name in names:
        result = load(folder / "bags" / name)
        if result is None:
            raise RunError(f"{folder}: bags/{name} is damaged or missing; evaluate it again")
        results[name] = result
    return Run(folder, summary, results)


def compare(first: Run, second: Run) -> dict[str, Any]:
    """Compare both runs on the faces that both predicted.

    Keys: ``first`` and ``second`` describe the runs (folder, model, sha256, code, partial, faces);
    ``only_in``: recordings of one run only; ``different``: recordings whose images differ between
    the runs, with a line about it; ``faces``, ``relabeled``, ``num_blocks`` and ``metrics``: those
    of PairedComparison; ``temporal``: both values of each temporal metric (docs/evaluation.md).

    Raises RunError when there is no such face.
    """
    predictions = [
        (first.results[name].predictions, second.results[name].predictions)
        for name in first.results
        if name in second.results
    ]
    compared = compare_predictions(predictions)
    if not compared.faces:
        raise RunError(
            f"{first.folder} and {second.folder}: no labeled face of the same recording and time "
            "was predicted in both"
            + (f", but {compared.relabeled} with different labels" if compared.relabeled else "")
        )
    only = {
        "first": sorted(set(first.results) - set(second.results)),
        "second": sorted(set(second.results) - set(first.results)),
    }
    return {
        "first": _describe(first),
        "second": _describe(second),
        "only_in": only,
        "different": _different_recordings(first, second),
        "faces": compared.faces,
        "relabeled": compared.relabeled,
        "num_blocks": compared.num_blocks,
        "metrics": compared.metrics,
        "temporal": {
            name: {"first": value, "second": second.summary["temporal"][name]}
            for name, value in first.summary["temporal"].items()
        },
    }


def _different_recordings(first: Run, second: Run) -> dict[str, str]:
    """By name, a line about each recording of both runs that has other images in the second."""
    lines = {}
    for name, result in first.results.items():
        other = second.results.get(name)
        if not other or result.interrupted or other.interrupted:
            continue
        if result.recording != other.recording:
            expected, found = (_describe_recording(one.recording) for one in (result, other))
            lines[name] = (
                f"{name}: expected the same recording, found {found} instead of {expected}"
            )
    return lines


def _describe_recording(recording: Mapping[str, Any]) -> str:
    return (
        f"{recording['images']} images of {recording['duration_s']:g} s from stamp "
        f"{recording['first_ns'] * 1e-9:.3f} s"
    )


def _describe(run: Run) -> dict[str, Any]:
    return {
        "folder": str(run.folder),
        "model": run.summary["model"],
        "sha256": run.summary["sha256"],
        "code": run.summary.get("code", ""),
        "partial": run.summary["partial"],
        "faces": run.summary["classification"]["faces"],
    }


def warnings(comparison: Mapping[str, Any]) -> list[str]:
    """What makes the comparison incomplete or unfair, one line each."""
    lines = []
    if comparison["first"]["code"] != comparison["second"]["code"]:
        lines.append("the runs were evaluated by different versions of the code")
    lines += comparison["different"].values()
    if comparison["relabeled"]:
        lines.append(
            f"{comparison['relabeled']} faces have different labels in the runs and are not "
            "compared: evaluate both with the same labels"
        )
    for run in ("first", "second"):
        if comparison[run]["partial"]:
            lines.append(f"the {run} run is partial: not everything could be evaluated")
        names = comparison["only_in"][run]
        if names:
            lines.append(
                f"{len(names)} recordings are in the {run} run only and not compared, such as "
                f"{names[0]}"
            )
    return lines


def is_complete(comparison: Mapping[str, Any]) -> bool:
    """Whether both runs are complete, of the same recordings and of the same labels."""
    is_partial = any(comparison[run]["partial"] for run in ("first", "second"))
    is_of_others = any(comparison["only_in"].values()) or bool(comparison["different"])
    return not (is_partial or is_of_others or comparison["relabeled"])


def to_text(comparison: Mapping[str, Any]) -> str:
    """Format the comparison as a plain-text table."""
    runs = [comparison[run] for run in ("first", "second")]
    models = [f"model {run['model']}" if run["model"] else "recorded predictions" for run in runs]
    lines = [
        f"first:  {runs[0]['folder']}, {models[0]}",
        f"second: {runs[1]['folder']}, {models[1]}",
        f"{comparison['faces']} faces predicted in both runs, {comparison['num_blocks']} blocks of "
        f"{BLOCK_S:g} s",
    ]
    lines += [f"note: {line}" for line in warnings(comparison)]
    lines += ["", f"{'':<26} {'first':>8} {'second':>8} {'second - first, 95%':>27}"]
    for name, metric in comparison["metrics"].items():
        interval = f"{metric['difference']:+.1%} ({metric['low']:+.1%} to {metric['high']:+.1%})"
        lines.append(
            f"{name:<26} {metric['first']:8.1%} {metric['second']:8.1%} {interval:>27}  "
            f"{SIGNIFICANCE[metric['significant']]}"
        )
    for name, values in comparison["temporal"].items():
        first, second = ("-" if value is None else f"{value:g}" for value in values.values())
        lines.append(f"{name:<26} {first:>8} {second:>8}")
    return "\n".join(lines)
