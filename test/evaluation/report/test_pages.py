"""HTML reports: one self-contained file, and what its timelines do in a browser."""

import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from prediction_tools import row

from fer_ros.evaluation.comparison import Run, compare
from fer_ros.evaluation.metrics.error_segments import ErrorSegment
from fer_ros.evaluation.predictions import NO_LABEL, PredictionTable
from fer_ros.evaluation.replay import EvaluationResult
from fer_ros.evaluation.report import timelines
from fer_ros.evaluation.report.html import Image, Table, format_value
from fer_ros.evaluation.report.pages import comparison_page, evaluation_page
from fer_ros.evaluation.report.results import latencies, summarize
from fer_ros.evaluation.report.timelines import timeline_data

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "chrome"))), None)
EVENTS = """
const at = (id, time) => {
  const canvas = document.querySelector(`#${id} canvas`), box = canvas.getBoundingClientRect();
  const [start, end] = document.getElementById(id).dataset.view.split(",").map(Number);
  return { canvas, x: box.left + 8 + (time - start) / (end - start) * (box.width - 16) };
};
const move = (id, time) => {
  const { canvas, x } = at(id, time);
  canvas.dispatchEvent(new PointerEvent("pointermove", { clientX: x, bubbles: true }));
};
const wheel = (id, time, deltaY) => {
  const { canvas, x } = at(id, time);
  canvas.dispatchEvent(new WheelEvent("wheel", { clientX: x, deltaY, cancelable: true }));
};
"""


def result(seconds: float = 10.0, wrong_from_s: float = 6.0) -> EvaluationResult:
    """Ten predictions per second: happiness, and sadness from some time on; happiness is right."""
    rows = [
        row(k / 10, emotion=1 if k / 10 < wrong_from_s else 2, label=1)
        for k in range(round(seconds * 10))
    ]
    segment = ErrorSegment(7.5, 3.9, "f1", "happiness", "sadness", 0.8, 9.0, (0.0, 0.0, 9.0, 9.0))
    return EvaluationResult(
        PredictionTable.from_rows(rows),
        frames=len(rows),
        duration_s=seconds - 0.1,
        model="fake",
        sha256="0" * 64,
        error_segments=[segment] if wrong_from_s < seconds else [],
        latency_ms={"total": [10.0]},
    )


def report(results: dict[str, EvaluationResult]) -> str:
    return evaluation_page(summarize(results, {}), latencies(results), results, {})


def comparison(first: EvaluationResult, second: EvaluationResult) -> str:
    runs = [
        Run(Path(name), summarize({"day": each}, {}), {"day": each})
        for name, each in (("a", first), ("b", second))
    ]
    return comparison_page(compare(*runs), *runs)


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (None, "share", "-"),
        (0.5, "share", "50.0%"),
        (2.0, "count", "2"),
        (1.25, "seconds", "1.25 s"),
    ],
)
def test_values_have_a_unit(value, unit, text):
    assert format_value(value, unit) == text


def test_images_are_embedded():
    assert Image(b"abc", "x").uri == "data:image/png;base64,YWJj"
    assert Table([], []).rows == []


def test_a_recording_without_faces():
    empty = EvaluationResult(PredictionTable.from_rows([]))
    data, notes = timeline_data(empty.predictions, 0.0)
    assert (data, notes) == ({"duration_s": 0.1, "faces": []}, [])
    page = report({"empty": empty})
    assert "nothing to score" in page
    assert "No model ran" in page


def test_a_timeline_notes_omitted_faces(monkeypatch):
    monkeypatch.setattr(timelines, "MAX_FACES", 2)
    monkeypatch.setattr(timelines, "MAX_POINTS", 10)
    rows = [row(k / 10, face=f"f{face}") for k in range(25) for face in range(3) if k > face]
    rows.append(row(2.5, "", NO_LABEL, 1))
    data, notes = timeline_data(PredictionTable.from_rows(rows), 2.5)
    assert [face["id"] for face in data["faces"]] == ["f0", "f1"]
    assert {len(face["times"]) for face in data["faces"]} == {8}
    assert notes == [
        "The 2 faces with the most frames of 3.",
        "Of the longest face, one frame in 3 is shown.",
        "1 labels of faces that were not detected are not shown.",
    ]


def test_probabilities_that_are_unknown_are_null():
    unreadable = row(0, emotion=NO_LABEL)
    data, _ = timeline_data(PredictionTable.from_rows([unreadable, row(0.1)]), 0.1)
    (face,) = data["faces"]
    assert face["probabilities"][0] == [None] * 8
    assert face["emotions"] == [NO_LABEL, 1]
    assert np.sum(face["probabilities"][1]) == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize("name", ["<day>", "</script><b>", "day & night"])
def test_names_cannot_break_the_page(name):
    page = report({name: result(1.0)})
    assert name not in page
    assert "http" not in page
    assert page.count("<script") == page.count("</script>") == 2


@pytest.fixture
def browse(tmp_path):
    """Load a page in headless Chromium, run a script and return the document after it."""
    if CHROMIUM is None:
        pytest.skip("Chromium is not installed: apt-get install chromium")

    def dom(page: str, script: str = "") -> str:
        file = tmp_path / "page.html"
        script = f"<script>{EVENTS}{script}</script></body>"
        file.write_text(page.replace("</body>", script), encoding="utf-8")
        command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom"]
        command += [f"--user-data-dir={tmp_path / 'profile'}", "--window-size=1200,900"]
        done = subprocess.run(
            [*command, file.as_uri()], capture_output=True, text=True, timeout=240, check=True
        )
        return done.stdout

    return dom


def view(document: str, timeline: str) -> list[float]:
    """Start and end in seconds of what a timeline shows."""
    section = re.search(rf'<section[^>]*id="{timeline}"[^>]*>', document)
    assert section
    match = re.search(r'data-view="([^"]*)"', section[0])
    assert match, "the script did not run"
    return [float(value) for value in match[1].split(",")]


def outputs(document: str) -> list[str]:
    return re.findall(r"<output>(.*?)</output>", document, flags=re.S)


def test_a_timeline_shows_everything_at_first(browse):
    document = browse(report({"day": result(), "night": result(4.0)}))
    assert view(document, "timeline0") == [0, 9.9]
    assert view(document, "timeline1") == [0, 3.9]
    assert outputs(document) == ["", ""]


def test_the_wheel_zooms_around_the_pointer_which_shows_values(browse):
    script = """
      for (let k = 0; k < 10; k++) wheel("timeline0", 3, -1);
      move("timeline0", 3);
    """
    document = browse(report({"day": result()}), script)
    start, end = view(document, "timeline0")
    assert end - start == pytest.approx(9.9 * 0.8**10, abs=0.05)
    assert start < 3 < end
    (text,) = outputs(document)
    assert text.startswith("3.00 s\nf1: predicted happiness, label happiness; happiness 8")


def test_a_worst_segment_jumps_to_its_place(browse):
    script = 'document.querySelector("button.seek").click();'
    document = browse(report({"day": result()}), script)
    assert view(document, "timeline0") == [5.5, 9.5]
    (text,) = outputs(document)
    assert text.startswith("7.50 s\nf1: predicted sadness, label happiness")


def test_two_runs_zoom_together(browse):
    page = comparison(result(), result(wrong_from_s=99))
    script = 'for (let k = 0; k < 5; k++) wheel("timeline0_first", 7, -1);'
    script += 'move("timeline0_second", 7);'
    document = browse(page, script)
    first, second = (view(document, f"timeline0_{run}") for run in ("first", "second"))
    assert first == second
    assert first[1] - first[0] < 4
    assert "predicted happiness" in outputs(document)[1]
    assert "balanced accuracy" in document
