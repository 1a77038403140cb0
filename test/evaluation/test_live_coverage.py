"""Predictions that a live node recorded, against the recording that was played to it."""

from dataclasses import replace

from bag_tools import at, portrait_bag, write_bag

from fer_ros.emotions import EMOTIONS
from fer_ros.evaluation.bags.messages import DETECTIONS, make_header
from fer_ros.evaluation.bags.reader import Bag
from fer_ros.evaluation.ground_truth import Label
from fer_ros.evaluation.predictions import NO_LABEL
from fer_ros.evaluation.replay import EvaluationTask, evaluate

HAPPY = EMOTIONS.index("happiness")


def test_predictions_of_a_live_replay(tmp_path, astronaut):
    """The node missed the first two images: labels count from the first one all the same."""
    source = portrait_bag(tmp_path / "bag", astronaut, 6)
    record = tmp_path / "predictions"
    evaluate(EvaluationTask(source, record=record))
    with Bag(record) as bag:
        rows = [
            ("/predictions", DETECTIONS, k, message)
            for k, (_, message) in enumerate(bag.messages("/emotion_node/emotions"))
        ]
    late = write_bag(tmp_path / "late", rows[2:])
    task = EvaluationTask(
        late, predictions_topic="/predictions", source_bag=source, labels=(Label(0.3, 9, HAPPY),)
    )
    outcome = evaluate(task)
    assert (outcome.frames, outcome.dropped) == (4, 2)
    assert outcome.predictions.stamp_s.tolist() == [0.2, 0.3, 0.4, 0.5]
    assert outcome.predictions.label.tolist() == [NO_LABEL, HAPPY, HAPPY, HAPPY]


def test_few_predictions_of_a_recording_are_reported(tmp_path, astronaut):
    """A node too slow for the recording, and a player that ended early."""
    source = portrait_bag(tmp_path / "bag", astronaut, 30)
    record = tmp_path / "predictions"
    evaluate(EvaluationTask(source, record=record))
    with Bag(record) as bag:
        messages = [message for _, message in bag.messages("/emotion_node/emotions")]
    rows = [("/predictions", DETECTIONS, k, message) for k, message in enumerate(messages)]
    other = replace(messages[0], header=make_header(at(77.0), "eye"))
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
        "none": [f"30 of the 30 images of SOURCE {few}"],
        "most": [f"19 of the 30 images of SOURCE {few}"],
        "half": [],
        "start": ["no predictions for the last 1.2 s of SOURCE: was it played to its end?"],
    }
