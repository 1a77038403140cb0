"""Recordings from pictures and videos, and the commands."""

import json
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from bag_tools import TOPIC, NamedClassifier, portrait_bag, small_files, write_labels
from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from tree import ROOT

from fer_ros import cli
from fer_ros.evaluation.bags import Bag, expected_images
from fer_ros.evaluation.labels import read_labels
from fer_ros.evaluation.make import make_bag
from fer_ros.evaluation.messages import _DEFINITIONS, typestore
from fer_ros.labels import EMOTIONS
from fer_ros.media import MediaError


def picture(path: Path, value: int = 90) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.full((48, 64, 3), value, np.uint8))
    return path


def video(path: Path, frames: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 5.0, (64, 48))
    for _ in range(frames):
        writer.write(np.full((48, 64, 3), 90, np.uint8))
    writer.release()
    return path


def stamps_s(path: Path) -> list[float]:
    with Bag(path) as bag:
        stamps = [image.stamp_ns * 1e-9 for image in bag.images(bag.image_topic(None))]
    return [round(stamp_s - stamps[0], 3) for stamp_s in stamps]


def test_messages_are_those_of_the_interfaces():
    theirs = get_typestore(Stores.ROS2_HUMBLE)
    for file in sorted((ROOT / "interfaces").rglob("*.msg")):
        name = f"{file.parts[-3]}/msg/{file.stem}"
        theirs.register(get_types_from_msg(file.read_text(), name))
    wanted = {name: theirs.hash_rihs01(name) for name in _DEFINITIONS}
    assert wanted
    assert {name: typestore().hash_rihs01(name) for name in _DEFINITIONS} == wanted


@pytest.mark.parametrize("name", ["empty", "nothing"])
def test_a_folder_without_pictures_makes_no_bag(tmp_path, name):
    (tmp_path / "empty").mkdir()
    with pytest.raises(MediaError):
        make_bag(str(tmp_path / name), tmp_path / "bag")
    assert not (tmp_path / "bag").exists()


@pytest.mark.parametrize(("storage", "raw"), [("mcap", False), ("sqlite3", True)])
def test_a_video(tmp_path, storage, raw):
    made = make_bag(str(video(tmp_path / "a.avi", 4)), tmp_path / "bag", storage, raw)
    assert (made.images, made.duration_s, made.labels) == (4, 0.6, 0)
    assert made.topic == (TOPIC if raw else f"{TOPIC}/compressed")
    assert stamps_s(tmp_path / "bag") == [0, 0.2, 0.4, 0.6]
    assert expected_images(tmp_path / "bag", None) == 4
    assert not (tmp_path / "bag" / "labels.csv").exists()


def test_folders_that_are_named_like_emotions_are_labels(tmp_path):
    source = tmp_path / "source"
    picture(source / "happy" / "1.png")
    picture(source / "happy" / "2.png")
    video(source / "sadness" / "3.avi", 3)
    picture(source / "holidays" / "4.png")
    make_bag(str(source), tmp_path / "bag", picture_s=0.3)
    labels = read_labels(tmp_path / "bag" / "labels.csv")
    found = [(EMOTIONS[each.emotion], each.start_s, each.end_s) for each in labels]
    assert found == [
        ("happiness", 0, 0.21),
        ("happiness", 2.7, 2.91),
        ("sadness", 5.4, 5.81),
    ]
    assert stamps_s(tmp_path / "bag") == [0, 0.1, 0.2, 2.7, 2.8, 2.9, 5.4, 5.6, 5.8]


def test_half_a_recording_is_removed(tmp_path):
    picture(tmp_path / "source" / "1.png")
    (tmp_path / "source" / "2.png").write_bytes(b"no picture")
    with pytest.raises(MediaError, match=r"2\.png: not a picture"):
        make_bag(str(tmp_path / "source"), tmp_path / "bag")
    assert not (tmp_path / "bag").exists()
    (tmp_path / "bag").mkdir()
    with pytest.raises(MediaError, match="is there already"):
        make_bag(str(tmp_path / "source"), tmp_path / "bag")


@pytest.fixture
def quick(monkeypatch):
    """No network."""
    monkeypatch.setattr("fer_ros.classify.Classifier", lambda config: NamedClassifier())
    monkeypatch.setattr("fer_ros.evaluation.store.find_model", lambda name: name)
    monkeypatch.setattr("fer_ros.evaluation.store.read_card", lambda name: NamedClassifier.card)


def fer(capsys, *words) -> tuple[int, str, str]:
    code = cli.main([str(word) for word in words])
    said = capsys.readouterr()
    return code, said.out, said.err


@pytest.mark.usefixtures("quick")
def test_the_sample_is_recorded_and_evaluated(capsys, tmp_path):
    bag, out = tmp_path / "bag", tmp_path / "out"
    code, said, complaint = fer(capsys, "bag-from-video", "sample", bag)
    assert (code, complaint) == (0, "")
    assert "150 images, 9.9 s, topic /camera/image_raw/compressed, 2 labels in" in said
    code, said, complaint = fer(capsys, "evaluate-bag", bag, "--out", out, "--thumbnails")
    assert (code, complaint) == (0, "")
    assert "labelled faces read: accuracy 100.0%" in said
    found = json.loads((out / "verdict.json").read_text())
    assert found["video"]["coverage"] > 0.9
    assert found["bags"]["bag"]["image_topic"] == f"{TOPIC}/compressed"


@pytest.mark.usefixtures("quick")
def test_two_runs_are_alike_and_can_be_compared(capsys, tmp_path, astronaut):
    bag = portrait_bag(tmp_path / "bag", astronaut, 8)
    labels = write_labels(tmp_path / "labels.csv", (0, 0.4, "happy"), (0.4, 9, "sad"))
    for name in ("a", "b"):
        words = ["--labels", labels, "--record", "--thumbnails", "--out", tmp_path / name]
        assert fer(capsys, "evaluate-bag", bag, *words)[0] == 0
    files = [path.relative_to(tmp_path / "a") for path in (tmp_path / "a").rglob("*.*")]
    differ = {
        str(file)
        for file in files
        if (tmp_path / "a" / file).read_bytes() != (tmp_path / "b" / file).read_bytes()
    }
    assert differ == {"latency.json", "report.html", "bags/bag/latency.json"}
    assert len(files) > 10
    code, said, _ = fer(
        capsys, "compare", tmp_path / "a", tmp_path / "b", "--json", tmp_path / "c.json"
    )
    assert code == 0
    assert "too few to say" in said
    assert json.loads((tmp_path / "c.json").read_text())["faces"] == 7


@pytest.mark.usefixtures("quick")
def test_a_broken_bag_is_told_and_the_rest_goes_on(capsys, tmp_path, astronaut):
    good, broken = portrait_bag(tmp_path / "good", astronaut, 3), tmp_path / "broken"
    broken.mkdir()
    code, said, complaint = fer(
        capsys, "evaluate-bag", broken, good, "no/bag", "--out", tmp_path / "out"
    )
    assert code == 1
    assert complaint.splitlines() == [
        f"fer: {broken}: not a bag that can be read: metadata.yaml is missing",
        "fer: no/bag: no such bag",
    ]
    assert str(tmp_path / "out" / "verdict.json") in said
    found = json.loads((tmp_path / "out" / "verdict.json").read_text())
    assert (found["partial"], [*found["bags"]]) == (True, ["good"])


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--labels", "no.csv"], "no.csv: No such file or directory"),
        (["--labels", "LABELS"], "labels.csv: of 2 bags, which are the labels of?"),
        (["--labels", "STRANGE"], "labels of bag 'moon'; the bags are day, night"),
    ],
)
def test_labels_that_cannot_be_used_are_one_line(capsys, tmp_path, words, says):
    write_labels(tmp_path / "labels.csv", (0, 1, "sad"))
    strange = tmp_path / "strange.csv"
    strange.write_text("start_s,end_s,emotion,bag\n0,1,sad,moon\n")
    given = {"LABELS": tmp_path / "labels.csv", "STRANGE": strange}
    words = [given.get(word, word) for word in words]
    code, _, complaint = fer(capsys, "evaluate-bag", "day", "night", *words)
    assert code == 1
    assert complaint.count("\n") == 1
    assert says in complaint


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--of", "day"], "--of says what --predictions are about; name their topic as well"),
        (
            ["--predictions", "/said", "--record"],
            "--record has what a model says, and --predictions asks none",
        ),
    ],
)
def test_options_that_contradict_each_other_are_one_line(capsys, words, says):
    assert fer(capsys, "evaluate-bag", "day", *words) == (1, "", f"fer: {says}\n")


@pytest.mark.usefixtures("quick")
def test_results_that_cannot_be_stored_are_one_line(capsys, tmp_path, astronaut):
    bag = portrait_bag(tmp_path / "bag", astronaut, 2)
    (tmp_path / "file").touch()
    code, _, complaint = fer(capsys, "evaluate-bag", bag, "--out", tmp_path / "file" / "out")
    assert code == 1
    assert complaint.startswith(f"fer: {tmp_path / 'file'}")
    assert complaint.count("\n") == 1


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
def test_a_full_disk_leaves_no_half_recording(capsys, tmp_path, storage):
    with small_files(100_000):
        code, _, complaint = fer(
            capsys, "bag-from-video", "sample", tmp_path / "bag", "--storage", storage
        )
    assert code == 1
    assert complaint.startswith(f"fer: {tmp_path / 'bag'}: ")
    assert complaint.count("\n") == 1
    assert not (tmp_path / "bag").exists()


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(("most_bytes", "names"), [(100, "verdict.json"), (8_000, "")])
def test_a_full_disk_keeps_the_figures_for_people(capsys, tmp_path, astronaut, most_bytes, names):
    bag, out = portrait_bag(tmp_path / "bag", astronaut, 8), tmp_path / "out"
    write_labels(bag / "labels.csv", (0, 9, "happy"))
    with small_files(most_bytes):
        code, said, complaint = fer(capsys, "evaluate-bag", bag, "--out", out)
    assert code == 1
    assert "7 labelled faces read: accuracy 100.0%" in said
    assert complaint.splitlines()[-1] == f"fer: {out / names}: File too large"


def test_other_commands_do_without_what_reads_bags():
    code = (
        "import sys; sys.modules['rosbags'] = None; from fer_ros.cli import main; "
        "sys.exit(main(['evaluate-bag', 'day']))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.endswith("pip install -r requirements/evaluate.txt\n")
    assert "rosbags" in done.stderr
    assert done.stderr.count("\n") == 1
