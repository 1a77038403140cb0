"""Keeps what became of each recording in a folder of its own, so that a later run can go on.

``faces.csv`` and ``outcome.json`` are the same in two runs, ``latency.json`` is not. The last one
to be written is ``task.json``, which says what was evaluated and how: a folder without it, or with
another one, counts for nothing.
"""

import base64
import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from fer_ros.errors import one_line
from fer_ros.evaluation.moments import Moment
from fer_ros.evaluation.replay import Outcome, Task
from fer_ros.evaluation.table import FaceTable
from fer_ros.weights import find_model, read_card

_TABLE, _OUTCOME, _LATENCY, _TASK = "faces.csv", "outcome.json", "latency.json", "task.json"


def fingerprint(task: Task) -> dict[str, Any]:
    """What a result depends on: the files of the bag, the labels, the settings and the model."""
    files = [task.bag, *sorted(task.bag.glob("*"))] if task.bag.is_dir() else [task.bag]
    model = "" if task.predictions else read_card(find_model(task.config.classifier.model)).sha256
    asked = {key: value for key, value in asdict(task).items() if key not in ("bag", "record")}
    words = json.dumps(asked, sort_keys=True, default=str)
    return {
        "bag": str(task.bag.resolve()),
        "files": [
            [file.name, file.stat().st_size, file.stat().st_mtime_ns]
            for file in files
            if file.is_file()
        ],
        "model": model,
        "asked": hashlib.sha256(words.encode()).hexdigest(),
        "recorded": task.record is not None,
    }


def save(folder: Path, outcome: Outcome, key: dict[str, Any]) -> None:
    """Writes the files of one recording. Raises OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / _TASK).unlink(missing_ok=True)
    with named(folder / _TABLE):
        outcome.table.write(folder / _TABLE)
    plain = {
        each.name: getattr(outcome, each.name)
        for each in fields(outcome)
        if each.name not in ("table", "latency_ms", "moments")
    }
    plain["moments"] = [_plain(moment) for moment in outcome.moments]
    write_json(folder / _OUTCOME, plain)
    write_json(folder / _LATENCY, outcome.latency_ms, indent=None)
    write_json(folder / _TASK, key)


def load(folder: Path, key: dict[str, Any] | None = None) -> Outcome | None:
    """What ``save`` wrote; None when it is not there, or, with ``key``, is of another task."""
    try:
        if key not in (None, read_json(folder / _TASK)):
            return None
        plain = read_json(folder / _OUTCOME)
        latency_ms = read_json(folder / _LATENCY)
        moments = [_moment(each) for each in plain.pop("moments")]
        table = FaceTable.read(folder / _TABLE)
        return Outcome(table, **plain, latency_ms=latency_ms, moments=moments)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def write_json(path: Path, content: Any, indent: int | None = 1) -> None:
    """Writes strict JSON, with a line feed at the end. Raises OSError, which names the file."""
    text = json.dumps(content, indent=indent, allow_nan=False)
    with named(path):
        path.write_text(text + "\n", encoding="utf-8")


@contextmanager
def named(path: Path) -> Iterator[None]:
    """Errors of the system name this path, as a disk that is full does not by itself."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, one_line(error), str(error.filename or path)) from None


def read_json(path: Path) -> Any:
    """What ``write_json`` wrote. Raises OSError or ValueError."""
    return json.loads(path.read_text(encoding="utf-8"))


def _plain(moment: Moment) -> dict[str, Any]:
    return asdict(moment) | {"jpeg": base64.b64encode(moment.jpeg).decode()}


def _moment(plain: dict[str, Any]) -> Moment:
    jpeg, box = base64.b64decode(plain["jpeg"]), tuple(plain["box_xyxy"])
    return Moment(**plain | {"jpeg": jpeg, "box_xyxy": box})
