"""Labels and predictions of topics, whatever clock stamps the images."""

import numpy as np
import pytest
from bag_tools import TOPIC, NamedClassifier, detection, jpeg_image, write_bag

from fer_ros.emotions import EMOTIONS
from fer_ros.evaluation.bags.messages import (
    COMPRESSED,
    DETECTIONS,
    LABEL_INFO,
    STRING,
    make,
    make_header,
)
from fer_ros.evaluation.bags.reader import BagError
from fer_ros.evaluation.ground_truth import Label, LabelClock
from fer_ros.evaluation.predictions import NO_LABEL
from fer_ros.evaluation.replay import EvaluationTask, evaluate

HAPPY, SAD = EMOTIONS.index("happiness"), EMOTIONS.index("sadness")
COUNT = 10
CLOCKS_S = [0.0, 0.6, 12.0, 84_000.0, 1_790_000_000.0]  # simulations, time since boot, since 1970


@pytest.fixture(autouse=True)
def classifier(monkeypatch) -> None:
    monkeypatch.setattr("fer_ros.multi_camera.Classifier", lambda config: NamedClassifier())


def images(astronaut, first_s):
    """Rows of a bag: images with stamps from ``first_s`` on, recorded in wall time."""
    small = np.ascontiguousarray(astronaut[::2, ::2])
    for k in range(COUNT):
        message = jpeg_image(0, small)
        message.header = make_header(round((first_s + k / 10) * 1e9), "eye")
        yield (TOPIC, COMPRESSED, k / 10, message)


def detections(first_s, names):
    for k, name in enumerate(names):
        header = make_header(round((first_s + k / 10) * 1e9), "eye")
        face = detection(header, {name: 0.9}, (82, 20, 142, 100))
        yield ("/truth", DETECTIONS, k / 10, make(DETECTIONS, header, [face]))


@pytest.mark.parametrize("first_s", CLOCKS_S)
def test_labels_of_stamped_topics(tmp_path, astronaut, first_s):
    names = ["happiness", "sadness"] * (COUNT // 2)
    rows = [*images(astronaut, first_s), *detections(first_s, names)]
    result = evaluate(EvaluationTask(write_bag(tmp_path / "bag", rows), label_topic="/truth"))
    assert (result.frames, result.errors, result.warnings) == (COUNT, [], [])
    assert result.predictions.label.tolist() == [HAPPY, SAD] * (COUNT // 2)


@pytest.mark.parametrize("first_s", CLOCKS_S)
def test_string_labels_use_the_time_of_receipt(tmp_path, astronaut, first_s):
    words = [
        ("/word", STRING, at_s, make(STRING, word)) for at_s, word in ((0, "happy"), (0.55, "sad"))
    ]
    rows = [*words[:1], *images(astronaut, first_s), *words[1:]]
    result = evaluate(EvaluationTask(write_bag(tmp_path / "bag", rows), label_topic="/word"))
    assert (result.errors, result.warnings) == ([], [])
    assert result.predictions.label.tolist() == [HAPPY] * 6 + [SAD] * 4


@pytest.mark.parametrize("first_s", CLOCKS_S)
@pytest.mark.parametrize(("clock", "expected"), [(LabelClock.RELATIVE, 0), (LabelClock.STAMP, 1)])
def test_label_files_declare_their_clock(tmp_path, astronaut, first_s, clock, expected):
    start_s = first_s * expected
    label = Label(start_s - 0.01, start_s + 0.35, SAD, clock=clock)
    path = write_bag(tmp_path / "bag", images(astronaut, first_s))
    result = evaluate(EvaluationTask(path, labels=(label,)))
    assert result.predictions.label.tolist() == [SAD] * 4 + [NO_LABEL] * 6
    assert result.errors == []


def test_labels_that_hold_for_no_image_are_an_error(tmp_path, astronaut):
    path = write_bag(tmp_path / "bag", images(astronaut, 1.79e9))
    result = evaluate(EvaluationTask(path, labels=(Label(1.79e9, 1.79e9 + 1, SAD),)))
    (error,) = result.errors
    assert "1 of 1 labels hold for no image of the recording" in error
    assert error.endswith("for header stamps, add the column clock with the value stamp")


def label_info(names):
    classes = [make("vision_msgs/msg/VisionClass", *pair) for pair in enumerate(names)]
    return make(LABEL_INFO, make_header(0, ""), classes, 0.0)


def test_predictions_with_a_label_map(tmp_path):
    """The node publishes other names; its label topic says what they mean."""
    names = ["joy" if name == "happiness" else name for name in EMOTIONS]
    predictions = list(detections(5.0, ["joy", "sadness"]))
    rows = [("/truth/labels", LABEL_INFO, 0, label_info(names)), *predictions]
    path = write_bag(tmp_path / "mapped", rows)
    result = evaluate(EvaluationTask(path, predictions_topic="/truth"))
    assert result.predictions.emotion.tolist() == [HAPPY, SAD]
    rows = [(topic, kind, at_s, message) for topic, kind, at_s, message in predictions]
    for *_, message in rows:
        message.detections[0].results[0].hypothesis.class_id = "no emotion"
    path = write_bag(tmp_path / "unknown", rows)
    with pytest.raises(BagError, match="with a label_map, record /truth/labels as well"):
        evaluate(EvaluationTask(path, predictions_topic="/truth"))


def test_predictions_of_two_publishers_are_an_error(tmp_path):
    rows = [*detections(5.0, ["happy"] * 3), *detections(5.0, ["sad"] * 3)]
    path = write_bag(tmp_path / "bag", sorted(rows, key=lambda row: row[2]))
    (error,) = evaluate(EvaluationTask(path, predictions_topic="/truth")).errors
    assert "3 messages of /truth repeat the stamp of another one" in error
