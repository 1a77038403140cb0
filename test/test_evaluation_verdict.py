"""Figures, files and pictures of verdicts, and two of them side by side."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from test_evaluation_table import row

from fer_ros.evaluation.compare import RunError, as_text, compare, read_run
from fer_ros.evaluation.metrics import FIGURES
from fer_ros.evaluation.moments import Moment
from fer_ros.evaluation.replay import Outcome
from fer_ros.evaluation.report import write_all
from fer_ros.evaluation.store import load, save
from fer_ros.evaluation.table import FaceTable
from fer_ros.evaluation.verdict import latencies, verdict

STAGES = {"decode": [1.0, 2.0, 3.0], "total": [10.0, 20.0, 30.0]}


def outcome(rows, **fields) -> Outcome:
    table = FaceTable.of(rows)
    duration_s = float(table.stamp_s.max(initial=0))
    given = {"model": "fake", "sha256": "0" * 64, "image_topic": "/image"} | fields
    return Outcome(table, frames=len(rows), duration_s=duration_s, **given)


def rows_of(emotions, labels) -> list:
    pairs = zip(emotions, labels, strict=True)
    return [row(k / 10, emotion=emotion, label=label) for k, (emotion, label) in enumerate(pairs)]


HALF = outcome(rows_of([1, 1, 2, 2], [1, 1, 1, 2]), latency_ms=STAGES)


def test_a_verdict_of_nothing(tmp_path):
    found = verdict({}, {"day": "day: no such bag"})
    assert (found["partial"], found["scores"]["faces"], found["bags"]) == (True, 0, {})
    assert [found["scores"][name] for name in FIGURES] == [None] * 4
    write_all(tmp_path, found, {})
    page = (tmp_path / "report.html").read_text()
    assert "day: no such bag" in page
    assert "nothing to score" in page


def test_figures_of_one_and_of_all():
    found = verdict({"a": HALF, "b": outcome(rows_of([3], [3]))}, {})
    assert found["bags"]["a"]["scores"]["accuracy"] == 0.75
    assert found["bags"]["a"]["scores"]["mean_recall"] == pytest.approx((2 / 3 + 1) / 2, abs=1e-5)
    assert found["scores"]["accuracy"] == 0.8
    assert found["scores"]["recall"]["surprise"] == 1
    assert found["scores"]["recall"]["fear"] is None
    assert (found["partial"], found["model"], found["video"]["frames"]) == (False, "fake", 5)
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_trouble_makes_a_verdict_partial():
    assert verdict({"a": outcome([], troubles=["a: cannot be read any further"])}, {})["partial"]
    assert not verdict({"a": outcome([], notes=["a: something unusual"])}, {})["partial"]


def test_latencies_are_apart():
    assert latencies({}) == {"latency_ms": {}, "dropped": 0}
    found = latencies({"a": HALF, "b": outcome([], dropped=3)})
    assert found["latency_ms"]["total"] == {"p50": 20.0, "p95": 29.0, "p99": 29.8}
    assert found["dropped"] == 3
    assert "10.0" not in json.dumps(verdict({"a": HALF}, {}))


def test_the_same_figures_are_the_same_files(tmp_path):
    """But for the page, which shows the milliseconds as well."""
    other = outcome(rows_of([1, 1, 2, 2], [1, 1, 1, 2]), latency_ms={"total": [7.0]})
    for name, each in (("a", HALF), ("b", other)):
        write_all(tmp_path / name, verdict({"day": each}, {}), {"day": each})
    names = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert names == [
        "bags.csv",
        "calibration.png",
        "confusion.png",
        "latency.json",
        "report.html",
        "timeline_day.png",
        "verdict.json",
    ]
    same = [
        name
        for name in names
        if (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    ]
    assert set(names) - set(same) == {"latency.json", "report.html"}


def test_a_line_per_recording(tmp_path):
    write_all(tmp_path, verdict({"a": HALF, "b": HALF}, {}), {"a": HALF, "b": HALF})
    with (tmp_path / "bags.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert [line["bag"] for line in lines] == ["a", "b", "(all)"]
    assert [line["faces"] for line in lines] == ["4", "4", "8"]
    assert lines[0]["accuracy"] == "0.75"


def test_the_page_needs_nothing_beside_it(tmp_path):
    moment = Moment(
        0.2, 0.1, "f1", "happiness", "sadness", 0.8, 1.6, (0, 0, 9, 9), jpeg=b"\xff\xd8"
    )
    odd = outcome(
        rows_of([1, 2], [1, 1]), moments=[moment], notes=["<b>odd</b>"], latency_ms=STAGES
    )
    write_all(tmp_path, verdict({"<day>": odd}, {}), {"<day>": odd})
    page = (tmp_path / "report.html").read_text()
    assert "http" not in page
    assert page.count("data:image/png;base64,") == 3
    assert page.count("data:image/jpeg;base64,") == 1
    assert "<b>odd</b>" not in page
    assert "&lt;day&gt;" in page
    assert "happiness, read as <b>sadness</b>" in page


def test_timelines_of_an_earlier_run_go(tmp_path):
    for name in ("a", "b"):
        write_all(tmp_path, verdict({name: HALF}, {}), {name: HALF})
    assert [path.name for path in tmp_path.glob("timeline_*")] == ["timeline_b.png"]


def test_what_is_kept_is_what_was_found(tmp_path):
    moment = Moment(
        0.2, 0.1, "f1", "happiness", "sadness", 0.8, 1.6, (0, 0, 9, 9), jpeg=b"\xff\xd8"
    )
    odd = outcome(rows_of([1, 2], [1, 1]), moments=[moment], troubles=["x"], latency_ms=STAGES)
    save(tmp_path / "day", odd, {"key": 1})
    again = load(tmp_path / "day", {"key": 1})
    assert again is not None
    assert (again.moments, again.troubles, again.latency_ms) == ([moment], ["x"], STAGES)
    assert verdict({"day": again}, {}) == verdict({"day": odd}, {})
    assert load(tmp_path / "day", {"key": 2}) is None
    assert load(tmp_path / "night") is None
    (tmp_path / "day" / "faces.csv").write_text("damaged")
    assert load(tmp_path / "day", {"key": 1}) is None


def run(folder: Path, tables: dict[str, tuple[list, list]], **fields) -> Path:
    outcomes = {name: outcome(rows_of(*pair), **fields) for name, pair in tables.items()}
    for name, each in outcomes.items():
        save(folder / "bags" / name, each, {})
    write_all(folder, verdict(outcomes, {}), outcomes)
    return folder


def readings(share: float, seconds: float, seed: int) -> tuple[list[int], list[int]]:
    """Labels that change every second, read rightly with this probability."""
    random = np.random.default_rng(seed)
    labels = [k // 10 % 8 for k in range(round(seconds * 10))]
    return [each if random.random() < share else (each + 1) % 8 for each in labels], labels


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


def test_a_run_and_itself_do_not_differ(runs):
    found = compare(read_run(runs["poor"]), read_run(runs["poor"]))
    assert found["faces"] == 1200
    for figure in found["figures"].values():
        assert (figure["difference"], figure["low"], figure["high"]) == (0, 0, 0)
        assert figure["real"] is False


@pytest.mark.parametrize(
    ("other", "real", "says"),
    [("good", True, "real"), ("alike", False, "may be chance"), ("short", None, "too few to say")],
)
def test_which_differences_are_real(runs, other, real, says):
    found = compare(read_run(runs["poor"]), read_run(runs[other]))
    accuracy = found["figures"]["accuracy"]
    assert accuracy["real"] is real
    assert accuracy["low"] <= accuracy["difference"] <= accuracy["high"]
    assert f"  {says}\n" in as_text(found)
    assert found == compare(read_run(runs["poor"]), read_run(runs[other]))


def test_what_cannot_be_compared_is_one_line(runs, tmp_path):
    with pytest.raises(RunError, match=r"found no verdict\.json"):
        read_run(tmp_path)
    with pytest.raises(RunError, match="no labelled face of the same recording"):
        compare(read_run(runs["poor"]), read_run(runs["other"]))
    damaged = run(tmp_path / "damaged", {"a": readings(0.9, 1, 0)})
    (damaged / "bags" / "a" / "faces.csv").unlink()
    with pytest.raises(RunError, match="bags/a is damaged or missing"):
        read_run(damaged)
