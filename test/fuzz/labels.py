"""Files of labels, and the faces that they mean."""

import re
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from fer_ros.emotions import EMOTIONS
from fer_ros.evaluation.ground_truth import ImageTime, Label, LabelError, LabelMatcher
from fer_ros.evaluation.label_files import read_labels
from fuzz import only
from fuzz.damage import damaged
from fuzz.settings import ANYTHING, BAD_YAML, yaml_files

_KEYS = ("start_s", "end_s", "stamp_s", "emotion", "face", "x", "y", "bag")
_WORDS = st.one_of(
    st.sampled_from([*EMOTIONS, "happy", "", "0", "1.5", "-1", "nan", "1e999", " 2 ", '"', "a\nb"]),
    st.text(max_size=6),
)
_ROWS = st.lists(
    st.dictionaries(st.sampled_from(_KEYS) | st.text(max_size=4), _WORDS | ANYTHING, max_size=6),
    max_size=3,
)


@st.composite
def csv_files(draw: st.DrawFn) -> bytes:
    """Lines of values below a line of keys; some have more values than keys, or fewer."""
    lines = [draw(st.lists(st.sampled_from(_KEYS) | _WORDS, max_size=6))]
    lines += draw(st.lists(st.lists(_WORDS, max_size=7), max_size=4))
    text = "\n".join(",".join(line) for line in lines)
    return text.encode("utf-8", "surrogatepass")


def _read(content: bytes, name: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_bytes(content)
        with only(LabelError):
            for label in read_labels(path):
                assert np.isfinite([label.start_s, label.end_s]).all()
                assert label.start_s < label.end_s
                assert 0 <= label.emotion < len(EMOTIONS)


@given(csv_files() | st.binary(max_size=60))
@example(b"")
@example(b"start_s,end_s,emotion\n0,1,happy\n")
@example(b"start_s,end_s,emotion\n0,1e999,happy\n")
@example(b'start_s,emotion\n0,"' + b"x" * 200_000)
@example(b"stamp_s,emotion\n1e300,happy\n")
@example(b"stamp_s,emotion\n\x00,happy\n")
def label_csv(content: bytes) -> None:
    """Labels with finite times, or the line of the file that is wrong."""
    _read(content, "labels.csv")


@st.composite
def label_rows(draw: st.DrawFn) -> tuple[list[Any], bytes]:
    """Rows of labels, and a CSV file of them as people write it."""
    rows = draw(
        st.lists(
            st.tuples(st.integers(0, 99), st.integers(100, 999), st.sampled_from(EMOTIONS)),
            min_size=1,
            max_size=4,
            unique_by=lambda row: row[0],  # two emotions from the same time are refused
        )
    )
    delimiter = draw(st.sampled_from([",", ";", "\t"]))
    lines = [["start_s", "end_s", "emotion"], *([str(value) for value in row] for row in rows)]
    texts = [delimiter.join(line) for line in lines]
    for text in draw(st.lists(st.sampled_from(["", "  ", "# made by hand"]), max_size=2)):
        texts.insert(draw(st.integers(0, len(texts))), text)
    end = draw(st.sampled_from(["\n", "\r\n"]))
    encoding = draw(st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]))
    change = draw(st.sampled_from([str, str.upper, str.title]))
    return rows, (end.join(map(change, texts)) + end).encode(encoding)


@given(label_rows(), st.data())
def label_rows_are_complete(written: tuple[list[Any], bytes], data: st.DataObject) -> None:
    """Every row of a file is a label, and the right one; of a damaged file, every row or none."""
    rows, content = written
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "labels.csv"
        path.write_bytes(content)
        labels = [
            (label.start_s, label.end_s, EMOTIONS[label.emotion]) for label in read_labels(path)
        ]
        assert labels == rows
        content = data.draw(damaged(content))
        path.write_bytes(content)
        with only(LabelError):
            labels = read_labels(path)
            is_utf16 = content[:2] in (b"\xff\xfe", b"\xfe\xff")
            text = content.decode("utf-16" if is_utf16 else "utf-8-sig")
            lines = [line.strip() for line in re.split("\r\n|\r|\n", text)]
            filled = [line for line in lines if line and not line.startswith("#")]
            assert len(labels) == len(filled) - 1 or '"' in text, "rows are skipped in silence"


@given(yaml_files(_ROWS))
@example(b"")
@example(yaml.safe_dump([{"stamp_s": 10**400, "emotion": "happy"}]).encode())
@example(BAD_YAML[2])
@example(BAD_YAML[3])
@example(BAD_YAML[4])
@example(BAD_YAML[-1])
def label_yaml(content: bytes) -> None:
    """Labels with finite times, or the number of the label that is wrong."""
    _read(content, "labels.yaml")


_NUMBERS = st.floats(-1e6, 1e6)
_BOXES = st.tuples(_NUMBERS, _NUMBERS, _NUMBERS, _NUMBERS)
_LABELS = st.builds(
    lambda start_s, lasts_s, *rest: Label(start_s, start_s + lasts_s, *rest),
    st.floats(0, 10),
    st.floats(0.1, 5),
    st.integers(0, len(EMOTIONS) - 1),
    st.sampled_from(["largest", "f00001", "f00002", "1,2"]),
    st.none() | _BOXES | st.tuples(_NUMBERS, _NUMBERS).map(lambda point: (*point, *point)),
)


@given(
    st.lists(_LABELS, max_size=4),
    st.lists(
        arrays(np.float32, st.tuples(st.integers(0, 3), st.just(4)), elements=st.floats(width=32)),
        max_size=4,
    ),
)
@example([], [np.zeros((0, 4), np.float32)])
def labeled_faces(labels: list[Label], frames: list[Any]) -> None:
    """No face has two labels, whatever the boxes are."""
    matcher = LabelMatcher(labels)
    for number, boxes_xyxy in enumerate(frames):
        ids = [f"f{face:05d}" for face in range(len(boxes_xyxy))]
        with np.errstate(all="ignore"):
            time = ImageTime(number, number, number)
            faces = [face for _, face in matcher.match(time, ids, boxes_xyxy)]
        named = [face for face in faces if face is not None]
        assert len(named) == len(set(named))
        assert all(0 <= face < len(ids) for face in named)
