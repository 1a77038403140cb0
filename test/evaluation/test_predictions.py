"""Faces as rows, and the measures that need time."""

import numpy as np
import pytest
from prediction_tools import row

from fer_ros.emotions import EMOTIONS
from fer_ros.evaluation.metrics.temporal import TemporalCounts, count
from fer_ros.evaluation.predictions import NO_LABEL, FacePrediction, PredictionTable


@pytest.mark.parametrize(
    "rows", [[], [row(0)], [row(0, label=3), row(1 / 3, "", NO_LABEL, 2), row(1, 'f"2,', NO_LABEL)]]
)
def test_a_table_equals_its_file(tmp_path, rows):
    table = PredictionTable.from_rows(rows)
    table.write(tmp_path / "faces.csv")
    again = PredictionTable.read(tmp_path / "faces.csv")
    assert len(again) == len(rows)
    for name in PredictionTable.__dataclass_fields__:
        np.testing.assert_array_equal(getattr(table, name), getattr(again, name))


@pytest.mark.parametrize("lengths", [[], [0], [0, 2], [1, 0, 3]])
def test_tables_are_concatenated_and_built_in_parts(monkeypatch, lengths):
    rows = [row(k, face="f" * (k + 1), label=2) for k in range(sum(lengths))]
    expected = PredictionTable.from_rows(rows)
    monkeypatch.setattr("fer_ros.evaluation.predictions._CHUNK_ROWS", 2)
    coming = iter(rows)
    parts = [PredictionTable.from_rows([next(coming) for _ in range(length)]) for length in lengths]
    for table in (PredictionTable.concatenate(parts), PredictionTable.from_rows(iter(rows))):
        assert len(table) == len(rows)
        for name in PredictionTable.__dataclass_fields__:
            np.testing.assert_array_equal(getattr(table, name), getattr(expected, name))


def test_another_file_is_rejected(tmp_path):
    path = tmp_path / "faces.csv"
    path.write_text("a,b\n1,2\n")
    with pytest.raises(ValueError, match="expected the columns of an evaluation"):
        PredictionTable.read(path)


def test_a_file_that_the_csv_reader_refuses_is_rejected(tmp_path):
    path = tmp_path / "faces.csv"
    PredictionTable.from_rows([]).write(path)
    with path.open("a") as file:
        file.write("1" * 200_000 + "\n")  # the reader's limit is 131,072 characters
    with pytest.raises(ValueError, match=r"faces\.csv: not a CSV file: field larger"):
        PredictionTable.read(path)


def test_rows_that_count():
    table = PredictionTable.from_rows(
        [row(0), row(0, label=2), row(0, "", NO_LABEL, 2), row(0, "f2", NO_LABEL, 2)]
    )
    assert table.detected.tolist() == [True, True, False, True]
    assert table.is_scored.tolist() == [False, True, False, False]


def figures(rows: list[FacePrediction], frames: int) -> dict:
    return count(PredictionTable.from_rows(rows), frames).metrics()


def test_nothing_to_measure():
    metrics = figures([], 0)
    assert {value for value in metrics.values() if value} == set()
    assert metrics["detection_recall"] is None
    assert metrics["label_flips_per_min"] is None


def test_label_stability_is_counted():
    """Two seconds of one face: a second of happiness, then sadness."""
    rows = [row(k / 10, emotion=1 if k < 10 else 2) for k in range(21)]
    metrics = figures(rows, 30)
    assert metrics["frames_with_face"] == pytest.approx(21 / 30)
    assert metrics["label_flips_per_min"] == pytest.approx(30)
    assert metrics["mean_label_duration_s"] == pytest.approx(1)


def test_a_pause_is_not_a_label_change():
    rows = [row(0), row(0.5), row(9, emotion=2), row(9.5, emotion=2)]
    metrics = figures(rows, 4)
    assert (metrics["label_flips_per_min"], metrics["mean_label_duration_s"]) == (0, 0.5)


def test_detection_recall_is_counted():
    rows = [
        row(0, label=1),
        row(0.1, "", NO_LABEL, 1),
        row(0.2, "f1", NO_LABEL, 1),
        row(0.3, "f2", 1, 1),
    ]
    metrics = figures(rows, 4)
    assert (metrics["detection_recall"], metrics["readable_rate"], metrics["id_switches"]) == (
        0.75,
        0.5,
        1,
    )


def test_ids_may_change_in_a_pause():
    rows = [row(0, "f1", label=1), row(5, "f2", label=1)]
    assert figures(rows, 2)["id_switches"] == 0


def test_label_latency_is_counted():
    """Two transitions: the second label is predicted after 0.3 s, the third never."""
    labels = [1] * 5 + [2] * 5 + [3] * 5
    emotions = [1] * 8 + [2] * 7
    rows = [
        row(k / 10, emotion=emotion, label=label)
        for k, (emotion, label) in enumerate(zip(emotions, labels, strict=True))
    ]
    metrics = figures(rows, 15)
    assert (metrics["label_changes"], metrics["label_changes_missed"]) == (2, 1)
    assert metrics["median_time_to_correct_s"] == pytest.approx(0.3)


@pytest.mark.parametrize("labels", [[], [1], [1] * 50])
def test_a_constant_label_has_no_change(labels):
    rows = [row(k / 10, label=label) for k, label in enumerate(labels)]
    metrics = figures(rows, len(rows))
    assert (metrics["label_changes"], metrics["median_time_to_correct_s"]) == (0, None)


def test_a_label_after_a_pause_is_no_change():
    rows = [row(0, label=1), row(0.1, label=1), row(5, emotion=2, label=2)]
    assert figures(rows, 3)["label_changes"] == 0


def test_counts_add_up():
    one, other = (
        count(PredictionTable.from_rows([row(0, label=1), row(1, emotion=2, label=2)]), 2)
        for _ in range(2)
    )
    both = one + other + TemporalCounts()
    assert (both.frames, both.labeled_faces, both.label_changes, both.time_to_correct_s) == (
        4,
        4,
        2,
        [0, 0],
    )
    assert EMOTIONS[1] == "happiness"
