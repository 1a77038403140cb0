"""What evaluate.launch.py asks about a recording."""

import json
import subprocess
import sys

import numpy as np
import pytest
from bag_tools import jpeg_image, raw_image, write_bag

from fer_ros.evaluation import EvaluationError
from fer_ros.evaluation.bags.messages import COMPRESSED, IMAGE, make
from fer_ros.evaluation.playback import check_playback, main

STRING = "std_msgs/msg/String"
PIXELS = np.zeros((4, 4, 3), np.uint8)
MESSAGES = {
    IMAGE: raw_image(0.0, PIXELS),
    COMPRESSED: jpeg_image(0.0, PIXELS),
    STRING: make(STRING, "anger"),
}


@pytest.fixture
def record(tmp_path):
    def write(**topics):
        rows = [(f"/{name}", kind, 0.0, MESSAGES[kind]) for name, kind in topics.items()]
        return write_bag(tmp_path / "day", rows)

    return write


@pytest.mark.parametrize(
    ("topics", "image", "says"),
    [
        ({"text": STRING}, "", "0 image topics; choose one with image:= (available: none)"),
        ({"eye": IMAGE, "ear": COMPRESSED}, "", "2 image topics; choose one with image:="),
        ({"eye": IMAGE}, "/nose", "no image topic /nose; choose one with image:="),
    ],
)
def test_the_image_topic_must_be_clear(record, topics, image, says):
    with pytest.raises(EvaluationError) as caught:
        check_playback(record(**topics), image, "", "")
    assert says in str(caught.value)


@pytest.mark.parametrize(("kind", "transport"), [(IMAGE, "raw"), (COMPRESSED, "compressed")])
def test_images_labels_and_calibration_of_a_recording(record, kind, transport):
    bag = record(**{"eye/image": kind, "eye/camera_info": STRING, "other": STRING})
    playback = check_playback(bag, "", "", "")
    assert playback == ("/eye/image", transport, ["/eye/image", "/eye/camera_info"], [])
    (bag / "labels.csv").write_text("start_s,end_s,emotion\n0,1,anger\n")
    labels = ["--labels", str(bag / "labels.csv")]
    assert check_playback(bag, "", "", "").label_arguments == labels
    assert check_playback(bag, "", "", "/other").label_arguments == ["--label-topic", "/other"]


def test_the_program_prints_json_or_one_line(record, tmp_path, capsys):
    command = [sys.executable, "-m", "fer_ros.evaluation.playback"]
    bag = record(eye=IMAGE)
    done = subprocess.run([*command, str(bag), "", "", ""], capture_output=True, check=True)
    assert json.loads(done.stdout) == {
        "image_topic": "/eye",
        "transport": "raw",
        "topics": ["/eye"],
        "label_arguments": [],
    }
    assert main([str(tmp_path / "none"), "", "", ""]) == 1
    assert main([str(bag), "", "none.csv", ""]) == 1
    first, second = capsys.readouterr().err.splitlines()
    assert "none: no such" in first
    assert second == "labels: none.csv: no such file"
