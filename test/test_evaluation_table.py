"""Faces as rows, and the measures that need time."""

import numpy as np
import pytest

from fer_ros.evaluation.table import NONE, FaceRow, FaceTable
from fer_ros.evaluation.video import VideoCounts, count
from fer_ros.labels import EMOTIONS

NOTHING = np.full(8, np.nan)


def row(stamp_s: float, face: str = "f1", emotion: int = 1, label: int = NONE, who: str = "ann"):
    shares = NOTHING if emotion == NONE else 0.8 * np.eye(8)[emotion] + 0.025
    box = np.full(4, np.nan) if not face else np.array([1.234, 2, 30, 40.0])
    return FaceRow(stamp_s, face, box, emotion, label, who if label != NONE else "", shares, shares)


@pytest.mark.parametrize(
    "rows", [[], [row(0)], [row(0, label=3), row(1 / 3, "", NONE, 2), row(1, 'f"2,', NONE)]]
)
def test_a_table_and_its_file_are_the_same(tmp_path, rows):
    table = FaceTable.of(rows)
    table.write(tmp_path / "faces.csv")
    again = FaceTable.read(tmp_path / "faces.csv")
    assert len(again) == len(rows)
    for name in FaceTable.__dataclass_fields__:
        np.testing.assert_array_equal(getattr(table, name), getattr(again, name))


@pytest.mark.parametrize("lengths", [[], [0], [0, 2], [1, 0, 3]])
def test_tables_are_joined_and_made_in_parts(monkeypatch, lengths):
    rows = [row(k, face="f" * (k + 1), label=2) for k in range(sum(lengths))]
    whole = FaceTable.of(rows)
    monkeypatch.setattr("fer_ros.evaluation.table._AT_ONCE", 2)
    coming = iter(rows)
    parts = [FaceTable.of([next(coming) for _ in range(length)]) for length in lengths]
    for table in (FaceTable.joined(parts), FaceTable.of(iter(rows))):
        assert len(table) == len(rows)
        for name in FaceTable.__dataclass_fields__:
            np.testing.assert_array_equal(getattr(table, name), getattr(whole, name))


def test_another_file_is_told(tmp_path):
    path = tmp_path / "faces.csv"
    path.write_text("a,b\n1,2\n")
    with pytest.raises(ValueError, match="expected the columns of an evaluation"):
        FaceTable.read(path)


def test_rows_that_count():
    table = FaceTable.of([row(0), row(0, label=2), row(0, "", NONE, 2), row(0, "f2", NONE, 2)])
    assert table.found.tolist() == [True, True, False, True]
    assert table.scored.tolist() == [False, True, False, False]


def figures(rows: list[FaceRow], frames: int) -> dict:
    return count(FaceTable.of(rows), frames).figures()


def test_nothing_to_measure():
    found = figures([], 0)
    assert {value for value in found.values() if value} == set()
    assert found["coverage"] is None
    assert found["switches_per_min"] is None


def test_how_steady_emotions_are():
    """Two seconds of one face: a second of happiness, then sadness."""
    rows = [row(k / 10, emotion=1 if k < 10 else 2) for k in range(21)]
    found = figures(rows, 30)
    assert found["frames_with_face"] == pytest.approx(21 / 30)
    assert found["switches_per_min"] == pytest.approx(30)
    assert found["mean_dwell_s"] == pytest.approx(1)


def test_a_pause_is_no_change():
    rows = [row(0), row(0.5), row(9, emotion=2), row(9.5, emotion=2)]
    found = figures(rows, 4)
    assert (found["switches_per_min"], found["mean_dwell_s"]) == (0, 0.5)


def test_how_complete_emotions_are():
    rows = [row(0, label=1), row(0.1, "", NONE, 1), row(0.2, "f1", NONE, 1), row(0.3, "f2", 1, 1)]
    found = figures(rows, 4)
    assert (found["coverage"], found["readable"], found["id_switches"]) == (0.75, 0.5, 1)


def test_ids_may_change_in_a_pause():
    rows = [row(0, "f1", label=1), row(5, "f2", label=1)]
    assert figures(rows, 2)["id_switches"] == 0


def test_how_quick_emotions_are():
    """The first label is read at once, the second after 0.3 s, the third never."""
    labels = [1] * 5 + [2] * 5 + [3] * 5
    emotions = [1] * 8 + [2] * 7
    rows = [
        row(k / 10, emotion=emotion, label=label)
        for k, (emotion, label) in enumerate(zip(emotions, labels, strict=True))
    ]
    found = figures(rows, 15)
    assert (found["label_changes"], found["label_changes_never_seen"]) == (3, 1)
    assert found["median_time_to_correct_s"] == pytest.approx(0.15)


def test_counts_add_up():
    one, other = (count(FaceTable.of([row(0, label=1), row(1, label=1)]), 2) for _ in range(2))
    both = one + other + VideoCounts()
    assert (both.frames, both.labelled, both.changes, both.quick_s) == (4, 4, 2, [0, 0])
    assert EMOTIONS[1] == "happiness"
