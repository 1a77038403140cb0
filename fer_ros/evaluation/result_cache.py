"""Cache of evaluation results: one folder per recording, so that a later run can resume.

``faces.csv`` and ``result.json`` are identical in two runs, ``latency.json`` is not. ``key.json``
is written last and describes the evaluation. A folder without it, or with another key, is
not used.
"""

import base64
import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from fer_ros.classifier import select_variant
from fer_ros.config import ClassifierConfig, DetectorConfig
from fer_ros.detectors import yunet
from fer_ros.detectors.base import DetectorError
from fer_ros.detectors.centerface import uses_int8
from fer_ros.detectors.onnx_file import existing_file
from fer_ros.evaluation import EvaluationError
from fer_ros.evaluation.code_version import code_version
from fer_ros.evaluation.metrics.error_segments import ErrorSegment
from fer_ros.evaluation.predictions import PredictionTable
from fer_ros.evaluation.replay import EvaluationResult, EvaluationTask
from fer_ros.inference.model_store import MANIFEST_FILE, find_model, read_manifest, sha256_of
from fer_ros.io.json_file import add_path_to_oserror, read_json, write_json

_TABLE, _RESULT, _LATENCY, _KEY = "faces.csv", "result.json", "latency.json", "key.json"
_METADATA = "metadata.yaml"


def cache_key(task: EvaluationTask) -> dict[str, Any]:
    """What a result depends on: the code, the files of the bag, labels, settings and models.

    Raises ModelError when there is no such model, OSError when a file cannot be read.
    """
    bags = [bag for bag in (task.bag, task.source_bag) if bag]
    bag_files = [file for bag in bags for file in (bag, *sorted(bag.glob("*")))]
    settings = {
        name: value for name, value in asdict(task).items() if name not in ("bag", "record")
    }
    text = json.dumps(settings, sort_keys=True, default=str)
    return {
        "bag": str(task.bag.resolve()),
        "files": [
            [file.name, file.stat().st_size, file.stat().st_mtime_ns]
            for file in bag_files
            if file.is_file()
        ],
        "code": code_version(),
        "detector": _detector_sha256(task.config.detector),
        "int8_detector": uses_int8(task.config.detector.model_path),
        **({"model": ""} if task.predictions_topic else _model_digests(task.config.classifier)),
        "settings": hashlib.sha256(text.encode()).hexdigest(),
        "recorded": task.record is not None,
    }


def _model_digests(config: ClassifierConfig) -> dict[str, str]:
    """Of the weights that this machine uses, fp32 or int8, and of their model.yaml."""
    manifest = select_variant(read_manifest(find_model(config.model)), config)[0]
    return {"model": manifest.sha256, "manifest": sha256_of(manifest.folder / MANIFEST_FILE)}


def _detector_sha256(config: DetectorConfig) -> str:
    """Digest of the detector's file; empty for the one of the Python package or a missing file."""
    try:
        if config.name == yunet.YuNet.name:
            return sha256_of(yunet.find_model(config.model_path))
        return sha256_of(existing_file(config.model_path)) if config.model_path else ""
    except DetectorError:
        return ""


def check_folders(tasks: Mapping[str, EvaluationTask], folder: Path) -> None:
    """Raise EvaluationError when a result in ``folder`` would replace what is no result.

    Results are never written into a bag, and a recording is replaced only where an earlier run has
    written it.
    """
    bags = {bag for task in tasks.values() for bag in (task.bag, task.source_bag) if bag}
    for name, task in tasks.items():
        path, record = folder / name, task.record
        bag = _bag_around(path, bags)
        if bag:
            raise EvaluationError(
                f"{path}: expected a folder for the results, found the recording {bag}; name "
                "another folder with --out"
            )
        if record and record.exists() and not _is_own_recording(record):
            raise EvaluationError(
                f"{record}: expected a recording of an earlier run, with {_RESULT} beside it, "
                "found another folder; move it, or name another folder with --out"
            )


def _bag_around(path: Path, bags: Iterable[Path]) -> Path | None:
    """The bag that ``path`` is, or that holds it."""
    if (path / _METADATA).exists():
        return path
    resolved = path.resolve()
    for bag in bags:
        root = bag.resolve()
        if root in (resolved, *resolved.parents) or (root.is_file() and root.parent == resolved):
            return bag
    return None


def _is_own_recording(path: Path) -> bool:
    """Whether a run has written this recording; one that was killed leaves a single file."""
    names = {file.name for file in path.iterdir()}
    return (path.parent / _RESULT).is_file() or names <= {f"{path.name}.mcap"}


def save(folder: Path, result: EvaluationResult, key: dict[str, Any]) -> None:
    """Write the result of one recording. Raises OSError, which names a file."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / _KEY).unlink(missing_ok=True)
    with add_path_to_oserror(folder / _TABLE):
        result.predictions.write(folder / _TABLE)
    content = {
        field.name: getattr(result, field.name)
        for field in fields(result)
        if field.name not in ("predictions", "latency_ms", "error_segments")
    }
    content["error_segments"] = [_segment_to_json(segment) for segment in result.error_segments]
    write_json(folder / _RESULT, content)
    write_json(folder / _LATENCY, result.latency_ms, indent=None)
    write_json(folder / _KEY, key)


def load(folder: Path, key: dict[str, Any] | None = None) -> EvaluationResult | None:
    """Read what ``save`` wrote. None if missing, damaged or, with ``key``, of another key."""
    try:
        if key not in (None, read_json(folder / _KEY)):
            return None
        content = read_json(folder / _RESULT)
        latency_ms = read_json(folder / _LATENCY)
        segments = [_segment_from_json(segment) for segment in content.pop("error_segments")]
        predictions = PredictionTable.read(folder / _TABLE)
        return EvaluationResult(
            predictions, **content, latency_ms=latency_ms, error_segments=segments
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _segment_to_json(segment: ErrorSegment) -> dict[str, Any]:
    return asdict(segment) | {"jpeg": base64.b64encode(segment.jpeg).decode()}


def _segment_from_json(content: dict[str, Any]) -> ErrorSegment:
    jpeg, box = base64.b64decode(content["jpeg"]), tuple(content["box_xyxy"])
    return ErrorSegment(**content | {"jpeg": jpeg, "box_xyxy": box})
