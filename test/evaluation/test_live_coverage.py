"""Predictions that a live node recorded, against the recording that was played to it."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from bag_tools import at, portrait_bag, write_bag

from fer_ros.emotions import EMOTIONS
from fer_ros.evaluation.bags.messages import DETECTIONS, make_header
from fer_ros.evaluation.bags.reader import Bag
from fer_ros.evaluation.ground_truth import Label
from fer_ros.evaluation.live_coverage import LiveCoverage
from fer_ros.evaluation.predictions import NO_LABEL
from fer_ros.evaluation.replay import EvaluationTask, evaluate

HAPPY = EMOTIONS.index("happiness")


def predicted(recording: Path, record: Path) -> list[tuple[str, str, int, Any]]:
    """Rows for write_bag: the predictions for each image of a recording."""
    evaluate(EvaluationTask(recording, record=record))
    with Bag(record) as bag:
        messages = [message for _, message in bag.messages("/emotion_node/emotions")]
    return [("/predictions", DETECTIONS, k, message) for k, message in enumerate(messages)]


def test_predictions_of_a_live_replay(tmp_path, astronaut):
    """The node missed the first two images: labels count from the first one all the same."""
    source = portrait_bag(tmp_path / "bag", astronaut, 6)
    rows = predicted(source, tmp_path / "predictions")
    late = write_bag(tmp_path / "late", rows[2:])
    task = EvaluationTask(
        late, predictions_topic="/predictions", source_bag=source, labels=(Label(0.3, 9, HAPPY),)
    )
    outcome = evaluate(task)
    assert (outcome.frames, outcome.dropped) == (4, 2)
    assert outcome.predictions.stamp_s.tolist() == [0.2, 0.3, 0.4, 0.5]
    assert outcome.predictions.label.tolist() == [NO_LABEL, HAPPY, HAPPY, HAPPY]
    assert outcome.recording == {"images": 6, "first_ns": at(0), "duration_s": 0.5}
    assert outcome.recording == evaluate(EvaluationTask(source)).recording
    early = write_bag(tmp_path / "early", rows[:3])
    assert evaluate(replace(task, bag=early)).recording == outcome.recording


def test_few_predictions_of_a_recording_are_reported(tmp_path, astronaut):
    """A node too slow for the recording, and a player that ended early."""
    source = portrait_bag(tmp_path / "bag", astronaut, 30)
    rows = predicted(source, tmp_path / "predictions")
    other = replace(rows[0][-1], header=make_header(at(77.0), "eye"))
    cases = {
        "none": [("/predictions", DETECTIONS, 0, other)],
        "most": rows[::3] + rows[-1:],
        "half": rows[::2] + rows[-1:],
        "start": rows[:18],
    }
    few = "have no prediction: the scores are those of the others"
    reported = {}
    for name, kept in cases.items():
        late = write_bag(tmp_path / name, kept)
        outcome = evaluate(
            EvaluationTask(late, predictions_topic="/predictions", source_bag=source)
        )
        reported[name] = [
            line.removeprefix(f"{late}: ").replace(str(source), "SOURCE")
            for line in (*outcome.warnings, *outcome.errors)
        ]
    assert reported == {
        "none": ["none of the 30 images of SOURCE has a prediction"],
        "most": [f"19 of the 30 images of SOURCE {few}"],
        "half": [],
        "start": ["no predictions for the last 1.2 s of SOURCE: was it played to its end?"],
    }


def test_the_end_is_missing_after_a_second_and_three_images():
    slow = {stamp: stamp * 2_000_000_000 for stamp in range(10)}
    recording, predictions = Path("day"), Path("live")
    lines = [
        LiveCoverage.of(slow, set(range(count))).errors(predictions, recording)
        for count in (0, 5, 7, 9, 10)
    ]
    assert lines[1] == [
        "live: no predictions for the last 10.0 s of day: was it played to its end?"
    ]
    assert lines[0] == lines[2] == lines[3] == lines[4] == []
    assert LiveCoverage.of({}, set()) == LiveCoverage(0, 0, 0.0, 0.0)


def test_labels_that_score_nothing_are_reported(tmp_path, astronaut):
    """Of a face that is not there, and after the end of the recording that was played."""
    source = portrait_bag(tmp_path / "bag", astronaut, 30)
    rows = predicted(source, tmp_path / "predictions")
    live = write_bag(tmp_path / "live", rows[:25])
    labels = (Label(0.0, 1.0, HAPPY, "f00099"), Label(77.0, 78.0, HAPPY))
    task = EvaluationTask(live, predictions_topic="/predictions", source_bag=source, labels=labels)
    assert evaluate(task).errors == [
        f"{source}: 1 of 2 labels hold for no image of the recording, which lasts 2.900 s; the "
        "first starts at 77.000 s",
        f"{source}: 1 of 2 labels name faces that are not in the results, the first f00099; ids of "
        "faces differ between runs of a node: label positions (x, y) instead",
    ]
