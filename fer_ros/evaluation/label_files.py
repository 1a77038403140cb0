"""Read ground-truth labels from CSV and YAML files."""

import csv
import io
import re
from collections.abc import Iterator
from pathlib import Path
from reprlib import repr as short
from typing import Any

from fer_ros.emotions import EMOTIONS, to_emotion
from fer_ros.evaluation.ground_truth import (
    LARGEST_FACE,
    SINGLE_IMAGE_S,
    Label,
    LabelClock,
    LabelError,
)
from fer_ros.io.yaml_file import parse_yaml

_KEYS = ("start_s", "end_s", "stamp_s", "emotion", "face", "x", "y", "bag", "clock")
_EXAMPLE = "start_s,end_s,emotion"
_DELIMITERS = (",", ";", "\t")
_MAX_NUMBER = 1e12  # larger floats do not resolve hundredths of a second
_HMS = re.compile(r"(?:(\d+):)?([0-5]?\d):([0-5]?\d(?:\.\d*)?)")
_FILE_CLOCKS = {"relative": LabelClock.RELATIVE, "stamp": LabelClock.STAMP}


def read_labels(path: Path) -> list[Label]:
    """Read the labels of a CSV or YAML file.

    A CSV file has a header and is separated by comma, semicolon or tab, in UTF-8 or UTF-16. Keys
    are those of the header: ``emotion``, and ``start_s`` with ``end_s`` or ``stamp_s`` for a
    single image. Optional: ``face`` or ``x`` with ``y``, ``bag``, and ``clock``: ``relative``
    (default: seconds since the first image) or ``stamp`` (header stamps).

    Raises:
        OSError: The file cannot be read.
        LabelError: The file holds no label, a row is invalid, or two rows give a face different
            emotions from the same time. The message names the row.
    """
    is_yaml = path.suffix.lower() in {".yaml", ".yml"}
    rows = _read_yaml(path) if is_yaml else _read_csv(path)
    labels: list[Label] = []
    first: dict[tuple[Any, ...], tuple[str, Label]] = {}
    for where, row in rows:
        label = _to_label(row, where)
        labels.append(label)
        start = label.bag, label.clock, label.face, label.start_s
        other_where, other = first.setdefault(start, (where, label))
        if label.emotion != other.emotion:
            raise LabelError(
                f"{where}: {EMOTIONS[label.emotion]}: {other_where.removeprefix(f'{path} ')} has "
                f"{EMOTIONS[other.emotion]} for the same face from the same time; keep one of them"
            )
    if not labels:
        hint = "a list of mappings" if is_yaml else f"a header such as {_EXAMPLE} and rows below it"
        raise LabelError(f"{path}: the file has no labels; expected {hint}")
    return labels


def _read_csv(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    lines = io.StringIO(_decode(path), newline="")
    header_line = next((line for line in lines if _has_content(line)), "")
    delimiter = max(_DELIMITERS, key=header_line.count)
    header = [
        name.strip().lower() for name in next(csv.reader([header_line], delimiter=delimiter), [])
    ]
    lines.seek(0)
    reader = csv.reader(lines, delimiter=delimiter, skipinitialspace=True)
    is_header = True
    try:
        for values in reader:
            where = f"{path} line {reader.line_num}"
            if not any(value.strip() for value in values) or values[0].lstrip().startswith("#"):
                continue
            if is_header:
                _check_header(header, where)
                is_header = False
                continue
            if len(values) > len(header):
                raise LabelError(f"{where}: {len(values)} values for {len(header)} columns")
            if delimiter == ";":  # then the comma is free to be a decimal comma
                values = [re.sub(r"^\s*([-+]?\d+),(\d+)\s*$", r"\1.\2", value) for value in values]
            yield where, dict(zip(header, values, strict=False))
    except csv.Error as error:
        raise LabelError(f"{path} line {reader.line_num}: not a CSV file: {error}") from None


def _decode(path: Path) -> str:
    content = path.read_bytes()
    is_utf16 = content[:2] in (b"\xff\xfe", b"\xfe\xff")
    try:
        text = content.decode("utf-16" if is_utf16 else "utf-8-sig")
    except UnicodeDecodeError as error:
        raise LabelError(
            f"{path}: not a CSV file in UTF-8 or UTF-16: {error.reason} at byte {error.start}"
        ) from None
    if "\0" in text:  # which Python 3.10's reader refuses
        raise LabelError(f"{path}: not a CSV file in UTF-8 or UTF-16: it has a zero byte")
    return text


def _has_content(line: str) -> bool:
    return bool(line.strip()) and not line.lstrip().startswith("#")


def _check_header(header: list[str], where: str) -> None:
    unknown = [name for name in header if name and name not in _KEYS]
    if header[0] not in _KEYS and re.match(r"[-+.]?\d", header[0]):
        raise LabelError(
            f"{where}: the header is missing: expected column names such as {_EXAMPLE}, found "
            f"{short(','.join(header))}"
        )
    if unknown:
        raise LabelError(f"{where}: unknown key {short(unknown[0])}; known: {', '.join(_KEYS)}")
    repeated = next((name for name in header if name and header.count(name) > 1), None)
    if repeated:
        raise LabelError(f"{where}: two columns are called {short(repeated)}")


def _read_yaml(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    try:
        rows = parse_yaml(path.read_bytes()) or []
    except ValueError as error:
        raise LabelError(f"{path}: {error}") from None
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise LabelError(f"{path}: expected a list of labels, each with keys such as start_s")
    for number, row in enumerate(rows, 1):
        yield f"{path} label {number}", row


def _to_label(row: dict[str, Any], where: str) -> Label:
    values = {
        str(key).strip(): value.strip() if isinstance(value, str) else value
        for key, value in row.items()
    }
    values = {key: value for key, value in values.items() if value not in (None, "")}
    unknown = sorted(set(values) - set(_KEYS))
    if unknown:
        raise LabelError(f"{where}: unknown key {short(unknown[0])}; known: {', '.join(_KEYS)}")
    for key, value in values.items():
        if not isinstance(value, str | int | float) or _is_huge(value):
            kind = type(value).__name__
            raise LabelError(f"{where}: {key}: expected a number or a word, found a {kind}")
    if "emotion" not in values:
        raise LabelError(f"{where}: no emotion; expected one of {', '.join(EMOTIONS)}")
    try:
        emotion = EMOTIONS.index(to_emotion(str(values["emotion"])))
    except ValueError as error:
        raise LabelError(f"{where}: {error}") from None
    clock = _FILE_CLOCKS.get(str(values.get("clock", "relative")).lower())
    if clock is None:
        known = " or ".join(_FILE_CLOCKS)
        raise LabelError(f"{where}: clock: expected {known}, found {short(values['clock'])}")
    start_s, end_s = _interval(values, where)
    box, face = None, str(values.get("face", LARGEST_FACE))
    if "x" in values or "y" in values:
        x, y = _number(values, "x", where), _number(values, "y", where)
        box, face = (x, y, x, y), str(values.get("face", f"{x:g},{y:g}"))
    return Label(start_s, end_s, emotion, face, box, str(values.get("bag", "")), clock)


def _interval(values: dict[str, Any], where: str) -> tuple[float, float]:
    if "stamp_s" in values:
        stamp_s = _number(values, "stamp_s", where)
        return stamp_s - SINGLE_IMAGE_S, stamp_s + SINGLE_IMAGE_S
    start_s, end_s = _number(values, "start_s", where), _number(values, "end_s", where)
    if not start_s < end_s:
        raise LabelError(f"{where}: expected start_s before end_s, found {start_s:g} and {end_s:g}")
    return start_s, end_s


def _number(values: dict[str, Any], key: str, where: str) -> float:
    """A number, or for times also hours:minutes:seconds. Raises LabelError."""
    if key not in values:
        raise LabelError(f"{where}: {key} is missing")
    text = values[key]
    hms = _HMS.fullmatch(text) if isinstance(text, str) and key.endswith("_s") else None
    try:
        if hms:
            hours, minutes, seconds = hms.groups(default="0")
            value = int(hours) * 3600 + int(minutes) * 60 + float(seconds)
        else:
            value = float(text)
    except (TypeError, ValueError, OverflowError):
        raise LabelError(f"{where}: {key}: expected a number, found {short(text)}") from None
    if not abs(value) <= _MAX_NUMBER:
        raise LabelError(
            f"{where}: {key}: expected a finite number up to {_MAX_NUMBER:g}, found {value:g}"
        )
    return value


def _is_huge(value: Any) -> bool:
    """An integer that may have too many digits to be printed."""
    return isinstance(value, int) and abs(value) > _MAX_NUMBER
