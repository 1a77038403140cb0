"""Metrics and files of an evaluation, and the comparison of two."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from prediction_tools import row

from fer_ros.evaluation import RESULTS, EvaluationError
from fer_ros.evaluation.comparison import RunError, compare, is_complete, read_run, to_text
from fer_ros.evaluation.metrics.classification import METRICS
from fer_ros.evaluation.metrics.error_segments import ErrorSegment
from fer_ros.evaluation.predictions import PredictionTable
from fer_ros.evaluation.replay import EvaluationResult
from fer_ros.evaluation.report.files import check_folder, write_report
from fer_ros.evaluation.report.results import latencies, summarize
from fer_ros.evaluation.result_cache import load, save
from fer_ros.io.json_file import write_json

STAGES = {"decode": [1.0, 2.0, 3.0], "total": [10.0, 20.0, 30.0]}


def outcome(rows, **fields) -> EvaluationResult:
    table = PredictionTable.from_rows(rows)
    duration_s = float(table.stamp_s.max(initial=0))
    given = {"model": "fake", "sha256": "0" * 64, "image_topic": "/image"} | fields
    return EvaluationResult(table, frames=len(rows), duration_s=duration_s, **given)


def rows_of(emotions, labels) -> list:
    pairs = zip(emotions, labels, strict=True)
    return [row(k / 10, emotion=emotion, label=label) for k, (emotion, label) in enumerate(pairs)]


HALF = outcome(rows_of([1, 1, 2, 2], [1, 1, 1, 2]), latency_ms=STAGES)


def test_results_without_recordings(tmp_path):
    results = summarize({}, {"day": "day: no such bag"})
    assert (results["partial"], results["classification"]["faces"], results["bags"]) == (
        True,
        0,
        {},
    )
    assert [results["classification"][name] for name in METRICS] == [None] * 4
    write_report(tmp_path, results, {})
    page = (tmp_path / "report.html").read_text()
    assert "day: no such bag" in page
    assert "nothing to score" in page


def test_metrics_of_one_recording_and_of_all():
    results = summarize({"a": HALF, "b": outcome(rows_of([3], [3]))}, {})
    assert results["bags"]["a"]["classification"]["accuracy"] == 0.75
    assert results["bags"]["a"]["classification"]["balanced_accuracy"] == pytest.approx(
        (2 / 3 + 1) / 2, abs=1e-5
    )
    assert results["classification"]["accuracy"] == 0.8
    assert results["classification"]["per_class_recall"]["surprise"] == 1
    assert results["classification"]["per_class_recall"]["fear"] is None
    assert (results["partial"], results["model"], results["temporal"]["frames"]) == (
        False,
        "fake",
        5,
    )
    assert json.loads(json.dumps(results, allow_nan=False)) == results


def test_errors_make_results_partial():
    assert summarize({"a": outcome([], errors=["a: cannot be read any further"])}, {})["partial"]
    assert not summarize({"a": outcome([], warnings=["a: something unusual"])}, {})["partial"]


def test_latencies_are_in_their_own_file():
    assert latencies({}) == {"latency_ms": {}, "dropped": 0}
    milliseconds = latencies({"a": HALF, "b": outcome([], dropped=3)})
    assert milliseconds["latency_ms"]["total"] == {"p50": 20.0, "p95": 29.0, "p99": 29.8}
    assert milliseconds["dropped"] == 3
    assert "10.0" not in json.dumps(summarize({"a": HALF}, {}))


def test_equal_results_give_identical_files(tmp_path):
    """But for the page, which shows the milliseconds as well."""
    other = outcome(rows_of([1, 1, 2, 2], [1, 1, 1, 2]), latency_ms={"total": [7.0]})
    for name, each in (("a", HALF), ("b", other)):
        write_report(tmp_path / name, summarize({"day": each}, {}), {"day": each})
    names = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert names == [
        "bags.csv",
        "calibration.png",
        "confusion.png",
        "latency.json",
        "report.html",
        "results.json",
        "timeline_day.png",
    ]
    same = [
        name
        for name in names
        if (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    ]
    assert set(names) - set(same) == {"latency.json", "report.html"}


def test_the_csv_has_one_line_per_recording(tmp_path):
    write_report(tmp_path, summarize({"a": HALF, "b": HALF}, {}), {"a": HALF, "b": HALF})
    with (tmp_path / "bags.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert [line["bag"] for line in lines] == ["a", "b", "(all)"]
    assert [line["faces"] for line in lines] == ["4", "4", "8"]
    assert lines[0]["accuracy"] == "0.75"


def test_the_page_is_self_contained(tmp_path):
    segment = ErrorSegment(
        0.2, 0.1, "f1", "happiness", "sadness", 0.8, 1.6, (0, 0, 9, 9), jpeg=b"\xff\xd8"
    )
    odd = outcome(
        rows_of([1, 2], [1, 1]),
        error_segments=[segment],
        warnings=["<b>odd</b>"],
        latency_ms=STAGES,
    )
    write_report(tmp_path, summarize({"<day>": odd}, {}), {"<day>": odd})
    page = (tmp_path / "report.html").read_text()
    assert "http" not in page
    assert page.count("data:image/png;base64,") == 2
    assert page.count("data:image/jpeg;base64,") == 1
    assert "<b>odd</b>" not in page
    assert "&lt;day&gt;" in page
    assert "happiness, predicted as <b>sadness</b>" in page


@pytest.mark.parametrize("name", ["day$^$", "bag\udcff", r"\$a$b", "two\nlines"])
def test_any_name_of_a_recording_or_face_is_written(tmp_path, name):
    face = outcome([row(0, face=name, label=1, target_face=name), row(1, face=name)])
    save(tmp_path / "cached", face, {})
    write_report(tmp_path, summarize({name: face}, {name: f"{name}: no such bag"}), {name: face})
    assert (tmp_path / f"timeline_{name}.png").stat().st_size > 1000
    shown = name.replace("\udcff", r"\udcff")
    assert f"{shown}: no such bag" in (tmp_path / "report.html").read_text()
    assert load(tmp_path / "cached").predictions.id.tolist() == [shown] * 2


def test_timelines_of_an_earlier_run_are_removed(tmp_path):
    for name in ("a", "b"):
        write_report(tmp_path, summarize({name: HALF}, {}), {name: HALF})
    assert [path.name for path in tmp_path.glob("timeline_*")] == ["timeline_b.png"]


def test_files_of_the_user_are_neither_removed_nor_replaced(tmp_path):
    own = tmp_path / "timeline_holiday.png"
    own.touch()
    write_report(tmp_path, summarize({"a": HALF}, {}), {"a": HALF})
    check_folder(tmp_path, ["a", "b"])
    with pytest.raises(EvaluationError, match=f"{own}: expected a file of an earlier report"):
        check_folder(tmp_path, ["holiday"])
    write_report(tmp_path, summarize({"b": HALF}, {}), {"b": HALF})
    assert sorted(path.name for path in tmp_path.glob("timeline_*")) == [
        "timeline_b.png",
        "timeline_holiday.png",
    ]


@pytest.mark.parametrize(
    ("files", "is_refused"),
    [
        ({}, False),
        ({"notes.txt": ""}, False),
        ({"report.html": ""}, True),
        ({"confusion.png": ""}, True),
        ({"results.json": "[]"}, True),
        ({"results.json": '{"bags": {}}', "report.html": ""}, False),
        ({"results.json": '{"ba', "report.html": ""}, False),  # of a full disk
    ],
)
def test_a_folder_with_other_files_is_refused(tmp_path, files, is_refused):
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    if not is_refused:
        check_folder(tmp_path, ["a"])
        return
    with pytest.raises(EvaluationError, match="or name another folder with --out"):
        check_folder(tmp_path, ["a"])


def test_cached_results_equal_the_original_ones(tmp_path):
    segment = ErrorSegment(
        0.2, 0.1, "f1", "happiness", "sadness", 0.8, 1.6, (0, 0, 9, 9), jpeg=b"\xff\xd8"
    )
    odd = outcome(
        rows_of([1, 2], [1, 1]), error_segments=[segment], errors=["x"], latency_ms=STAGES
    )
    save(tmp_path / "day", odd, {"key": 1})
    again = load(tmp_path / "day", {"key": 1})
    assert again is not None
    assert (again.error_segments, again.errors, again.latency_ms) == ([segment], ["x"], STAGES)
    assert summarize({"day": again}, {}) == summarize({"day": odd}, {})
    assert load(tmp_path / "day", {"key": 2}) is None
    assert load(tmp_path / "night") is None
    (tmp_path / "day" / "faces.csv").write_text("damaged")
    assert load(tmp_path / "day", {"key": 1}) is None


def run(folder: Path, tables: dict[str, tuple[list, list]], **fields) -> Path:
    """What a comparison reads of a run: all but its page and plots."""
    outcomes = {name: outcome(rows_of(*pair), **fields) for name, pair in tables.items()}
    for name, each in outcomes.items():
        save(folder / "bags" / name, each, {})
    write_json(folder / RESULTS, summarize(outcomes, {}))
    return folder


def readings(share: float, seconds: float, seed: int) -> tuple[list[int], list[int]]:
    """Labels that change every second, read rightly with this probability."""
    random = np.random.default_rng(seed)
    labels = [k // 10 % 8 for k in range(round(seconds * 10))]
    return [index if random.random() < share else (index + 1) % 8 for index in labels], labels


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("runs")
    return {
        "poor": run(folder / "poor", {"a": readings(0.5, 60, 0), "b": readings(0.5, 60, 1)}),
        "good": run(folder / "good", {"a": readings(0.9, 60, 2), "b": readings(0.9, 60, 3)}),
        "alike": run(folder / "alike", {"a": readings(0.5, 60, 4), "b": readings(0.5, 60, 5)}),
        "short": run(folder / "short", {"a": readings(0.9, 9, 6)}),
        "other": run(folder / "other", {"c": readings(0.9, 9, 6)}),
    }


def test_a_run_does_not_differ_from_itself(runs):
    comparison = compare(read_run(runs["poor"]), read_run(runs["poor"]))
    assert comparison["faces"] == 1200
    for figure in comparison["metrics"].values():
        assert (figure["difference"], figure["low"], figure["high"]) == (0, 0, 0)
        assert figure["significant"] is False


@pytest.mark.parametrize(
    ("other", "significant", "says"),
    [
        ("good", True, "significant"),
        ("alike", False, "not significant"),
        ("short", None, "too few blocks"),
    ],
)
def test_which_differences_are_significant(runs, other, significant, says):
    comparison = compare(read_run(runs["poor"]), read_run(runs[other]))
    accuracy = comparison["metrics"]["accuracy"]
    assert accuracy["significant"] is significant
    assert accuracy["low"] <= accuracy["difference"] <= accuracy["high"]
    assert f"  {says}\n" in to_text(comparison)
    assert comparison == compare(read_run(runs["poor"]), read_run(runs[other]))


def test_incomparable_runs_are_reported_in_one_line(runs, tmp_path):
    with pytest.raises(RunError, match=r"expected a run with results\.json, found none"):
        read_run(tmp_path)
    with pytest.raises(RunError, match="no labeled face of the same recording"):
        compare(read_run(runs["poor"]), read_run(runs["other"]))
    relabeled = run(tmp_path / "relabeled", {"a": ([1] * 10, [9 - 2] * 10)})
    with pytest.raises(RunError, match="was predicted in both, but 10 with different labels"):
        compare(read_run(runs["poor"]), read_run(relabeled))
    damaged = run(tmp_path / "damaged", {"a": readings(0.9, 1, 0)})
    (damaged / "bags" / "a" / "faces.csv").unlink()
    with pytest.raises(RunError, match="bags/a is damaged or missing"):
        read_run(damaged)


RECORDING = {"images": 60, "first_ns": 10**18, "duration_s": 5.9}


@pytest.mark.parametrize(
    ("change", "labels", "line"),
    [
        ({}, [1] * 60, ""),
        (
            {"images": 12, "duration_s": 1.1},
            [1] * 60,
            "note: day: expected the same recording, found 12 images of 1.1 s from stamp "
            "1000000000.000 s instead of 60 images of 5.9 s from stamp 1000000000.000 s",
        ),
        (
            {},
            [1] * 50 + [2] * 10,
            "note: 10 faces have different labels in the runs and are not compared: evaluate both "
            "with the same labels",
        ),
    ],
)
def test_other_images_and_labels_are_reported(tmp_path, change, labels, line):
    first = run(tmp_path / "a", {"day": ([1] * 60, [1] * 60)}, recording=RECORDING)
    second = run(tmp_path / "b", {"day": ([1] * 60, labels)}, recording=RECORDING | change)
    comparison = compare(read_run(first), read_run(second))
    assert is_complete(comparison) is (not line)
    assert comparison["faces"] == labels.count(1)
    assert [text for text in to_text(comparison).splitlines() if "note:" in text] == (
        [line] if line else []
    )
