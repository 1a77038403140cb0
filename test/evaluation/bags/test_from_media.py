"""Recordings from images and videos, and the commands."""

import json
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from bag_tools import (
    TOPIC,
    NamedClassifier,
    at,
    portrait_bag,
    small_files,
    write_bag,
    write_labels,
)
from PIL import Image
from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from tree import ROOT

from fer_ros import cli
from fer_ros.emotions import EMOTIONS
from fer_ros.evaluation.bags.from_media import make_bag
from fer_ros.evaluation.bags.messages import (
    _DEFINITIONS,
    IMAGE,
    make,
    make_header,
    typestore,
)
from fer_ros.evaluation.bags.reader import Bag, expected_images
from fer_ros.evaluation.label_files import read_labels
from fer_ros.io.media import MediaError


def image_rgb(path: Path, value: int = 90) -> Path:
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


def test_message_definitions_equal_the_interfaces():
    theirs = get_typestore(Stores.ROS2_HUMBLE)
    for file in sorted((ROOT / "interfaces").rglob("*.msg")):
        name = f"{file.parts[-3]}/msg/{file.stem}"
        theirs.register(get_types_from_msg(file.read_text(), name))
    expected = {name: theirs.hash_rihs01(name) for name in _DEFINITIONS}
    assert expected
    assert {name: typestore().hash_rihs01(name) for name in _DEFINITIONS} == expected


@pytest.mark.parametrize("name", ["empty", "nothing"])
def test_a_folder_without_images_makes_no_bag(tmp_path, name):
    (tmp_path / "empty").mkdir()
    with pytest.raises(MediaError):
        make_bag(str(tmp_path / name), tmp_path / "bag")
    assert not (tmp_path / "bag").exists()


@pytest.mark.parametrize(("storage", "raw"), [("mcap", False), ("sqlite3", True)])
def test_a_video(tmp_path, storage, raw):
    summary = make_bag(str(video(tmp_path / "a.avi", 4)), tmp_path / "bag", storage, raw)
    assert (summary.images, summary.duration_s, summary.labels) == (4, 0.6, 0)
    assert summary.topic == (TOPIC if raw else f"{TOPIC}/compressed")
    assert stamps_s(tmp_path / "bag") == [0, 0.2, 0.4, 0.6]
    assert expected_images(tmp_path / "bag", None) == 4
    assert not (tmp_path / "bag" / "labels.csv").exists()


def test_folders_that_are_named_like_emotions_are_labels(tmp_path):
    source = tmp_path / "source"
    image_rgb(source / "happy" / "1.png")
    image_rgb(source / "happy" / "2.png")
    video(source / "sadness" / "3.avi", 3)
    image_rgb(source / "holidays" / "4.png")
    summary = make_bag(str(source), tmp_path / "bag", image_duration_s=0.3)
    assert summary.skipped_folders == ("holidays",)
    labels = read_labels(tmp_path / "bag" / "labels.csv")
    intervals = [(EMOTIONS[label.emotion], label.start_s, label.end_s) for label in labels]
    assert intervals == [
        ("happiness", 0, 0.21),
        ("happiness", 2.7, 2.91),
        ("sadness", 5.4, 5.81),
    ]
    assert stamps_s(tmp_path / "bag") == [0, 0.1, 0.2, 2.7, 2.8, 2.9, 5.4, 5.6, 5.8]


def test_a_recording_without_an_image_is_removed(tmp_path):
    image_rgb(tmp_path / "bag" / "1.png")
    with pytest.raises(MediaError, match="exists already"):
        make_bag(str(tmp_path / "bag"), tmp_path / "bag")
    (tmp_path / "2.png").write_bytes(b"not images")
    with pytest.raises(MediaError, match=r"2\.png: not an image"):
        make_bag(str(tmp_path / "2.png"), tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_skipped_and_guessed_images_are_reported_and_the_rest_becomes_a_bag(tmp_path, capsys):
    source = tmp_path / "source"
    image_rgb(source / "happy" / "1.png")
    (source / "happy" / "2.png").write_bytes(b"not images")
    image_rgb(source / "3.png")
    (source / "notes.txt").touch()
    cv2.imwrite(str(source / "happy" / "4.png"), np.full((48, 64), 1000, np.uint16))
    code, output, errors = fer(
        capsys, "bag-from-video", source, tmp_path / "bag", "--image-duration", 0.1
    )
    assert code == 1
    assert "2 images, 2.5 s" in output
    assert errors.splitlines() == [
        f"fer: {source}: 1 files are no images or videos and skipped, the first notes.txt",
        f"fer: {source}: 1 files outside the emotion folders are left out, the first 3.png",
        f"fer: {source / 'happy' / '2.png'}: not an image: OpenCV cannot read 10 bytes",
        f"fer: 1 images, the first {source / 'happy' / '4.png'}: 16-bit file: only 10 of 16 bits "
        "are used; the range is stretched",
    ]
    assert stamps_s(tmp_path / "bag") == [0, 2.5]


def test_an_animation_keeps_its_timing(tmp_path):
    frames = [Image.fromarray(np.full((48, 64, 3), gray, np.uint8)) for gray in (0, 100, 200)]
    frames[0].save(
        tmp_path / "a.gif", save_all=True, append_images=frames[1:], duration=[50, 1000, 50]
    )
    summary = make_bag(str(tmp_path / "a.gif"), tmp_path / "bag")
    assert (summary.images, summary.errors) == (3, ())
    assert stamps_s(tmp_path / "bag") == [0, 0.05, 1.05]


@pytest.fixture
def quick(monkeypatch):
    """No network."""
    monkeypatch.setattr("fer_ros.multi_camera.Classifier", lambda config: NamedClassifier())
    monkeypatch.setattr(
        "fer_ros.evaluation.result_cache._model_digests",
        lambda config: {"model": NamedClassifier.manifest.sha256},
    )


def fer(capsys, *words) -> tuple[int, str, str]:
    """Exit code, output, and errors without the progress that a slow machine shows."""
    code = cli.main([str(word) for word in words])
    captured = capsys.readouterr()
    errors = [line for line in captured.err.splitlines(True) if "image/s]" not in line]
    return code, captured.out, "".join(errors)


@pytest.mark.usefixtures("quick")
def test_the_sample_is_recorded_and_evaluated(capsys, tmp_path):
    bag, out = tmp_path / "bag", tmp_path / "out"
    code, output, errors = fer(capsys, "bag-from-video", "sample", bag)
    assert (code, errors) == (0, "")
    assert "150 images, 9.9 s, topic /camera/image_raw/compressed, 2 labels in" in output
    code, output, errors = fer(capsys, "evaluate-bag", bag, "--out", out, "--with-images")
    assert (code, errors) == (0, "")
    assert "labeled faces predicted: accuracy 100.0%" in output
    results = json.loads((out / "results.json").read_text())
    assert results["temporal"]["detection_recall"] > 0.9
    assert results["bags"]["bag"]["image_topic"] == f"{TOPIC}/compressed"


@pytest.mark.usefixtures("quick")
def test_two_runs_are_identical_and_comparable(capsys, tmp_path, astronaut):
    bag = portrait_bag(tmp_path / "bag", astronaut, 8)
    labels = write_labels(tmp_path / "labels.csv", (0, 0.4, "happy"), (0.4, 9, "sad"))
    for name in ("a", "b"):
        words = ["--labels", labels, "--record", "--with-images", "--out", tmp_path / name]
        assert fer(capsys, "evaluate-bag", bag, *words)[0] == 0
    files = [path.relative_to(tmp_path / "a") for path in (tmp_path / "a").rglob("*.*")]
    differ = {
        str(file)
        for file in files
        if (tmp_path / "a" / file).read_bytes() != (tmp_path / "b" / file).read_bytes()
    }
    assert differ == {"latency.json", "report.html", "bags/bag/latency.json"}
    assert len(files) > 10
    code, output, _ = fer(
        capsys, "compare", tmp_path / "a", tmp_path / "b", "--json", tmp_path / "c.json"
    )
    assert code == 0
    assert "too few blocks" in output
    assert json.loads((tmp_path / "c.json").read_text())["faces"] == 7


@pytest.mark.usefixtures("quick")
def test_a_stretched_16_bit_range_is_reported_with_a_count(capsys, tmp_path, astronaut):
    gray = cv2.cvtColor(np.ascontiguousarray(astronaut[::2, ::2]), cv2.COLOR_RGB2GRAY)
    ten_bits = gray.astype("<u2") * 4
    height, width = gray.shape
    data = ten_bits.view(np.uint8).reshape(-1)
    rows = [
        (
            TOPIC,
            IMAGE,
            k / 10,
            make(
                IMAGE, make_header(at(k / 10), "eye"), height, width, "mono16", 0, 2 * width, data
            ),
        )
        for k in range(3)
    ]
    bag = write_bag(tmp_path / "bag", rows)
    write_labels(bag / "labels.csv", (0, 9, "happy"))
    code, output, errors = fer(capsys, "evaluate-bag", bag, "--out", tmp_path / "out")
    assert code == 1
    assert "3 images evaluated, 0.2 s" in output
    assert "2 labeled faces predicted: accuracy 100.0%" in output
    assert errors == (
        f"fer: {bag}: 3 images, the first at 0.000 s: mono16: only 10 of 16 bits are used; the "
        "range is stretched\n"
    )


@pytest.mark.usefixtures("quick")
def test_a_broken_bag_is_reported_and_the_rest_is_evaluated(capsys, tmp_path, astronaut):
    good, broken = portrait_bag(tmp_path / "good", astronaut, 3), tmp_path / "broken"
    broken.mkdir()
    code, output, errors = fer(
        capsys, "evaluate-bag", broken, good, "no/bag", "--out", tmp_path / "out"
    )
    assert code == 1
    assert errors.splitlines() == [
        f"fer: {broken}: not a bag that can be read: metadata.yaml is missing",
        "fer: no/bag: no such bag",
    ]
    assert str(tmp_path / "out" / "results.json") in output
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert (results["partial"], [*results["bags"]]) == (True, ["good"])


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--labels", "no.csv"], "no.csv: No such file or directory"),
        (["--labels", "LABELS"], "labels.csv: 2 bags, and labels that name none"),
        (["--labels", "STRANGE"], "labels of bag 'moon'; the bags are day, night"),
    ],
)
def test_unusable_labels_are_reported_in_one_line(capsys, tmp_path, words, message):
    write_labels(tmp_path / "labels.csv", (0, 1, "sad"))
    strange = tmp_path / "strange.csv"
    strange.write_text("start_s,end_s,emotion,bag\n0,1,sad,moon\n")
    given = {"LABELS": tmp_path / "labels.csv", "STRANGE": strange}
    words = [given.get(word, word) for word in words]
    code, _, errors = fer(capsys, "evaluate-bag", "day", "night", *words)
    assert code == 1
    assert errors.count("\n") == 1
    assert message in errors


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["--source-bag", "day"],
            "--source-bag needs --predictions-topic",
        ),
        (
            ["--predictions-topic", "/output", "--record"],
            "--record runs a model, --predictions-topic does not: drop one",
        ),
    ],
)
def test_contradicting_options_are_reported_in_one_line(capsys, words, message):
    assert fer(capsys, "evaluate-bag", "day", *words) == (1, "", f"fer: {message}\n")


@pytest.mark.usefixtures("quick")
def test_an_unwritable_output_is_reported_in_one_line(capsys, tmp_path, astronaut):
    bag = portrait_bag(tmp_path / "bag", astronaut, 2)
    (tmp_path / "file").touch()
    code, _, errors = fer(capsys, "evaluate-bag", bag, "--out", tmp_path / "file" / "out")
    assert code == 1
    assert errors.startswith(f"fer: {tmp_path / 'file'}")
    assert errors.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        *(
            (["bag-from-video", "a.png", "bag", f"--image-duration={value}"], "number above 0")
            for value in ("nan", "inf", "1e400", "1e9", "-1", "0", "long")
        ),
        *(
            (["evaluate-bag", "day", f"--jobs={value}"], "expected a whole number of 1 or more")
            for value in ("-3", "0", "1.5", "²")
        ),
    ],
)
def test_numbers_out_of_range_are_refused(capsys, words, message):
    with pytest.raises(SystemExit, match="2"):
        cli.main(words)
    assert message in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("names", [[], ["Labels.csv", "labels.yaml"]])
def test_a_bag_without_labels_is_reported(capsys, tmp_path, astronaut, names):
    bag = portrait_bag(tmp_path / "bag", astronaut, 2)
    for name in names:
        (bag / name).touch()
    code, output, errors = fer(capsys, "evaluate-bag", bag, "--out", tmp_path / "out")
    line = (
        f"{bag}: no labels: expected labels.csv in the bag, --labels or --label-topic, found "
        f"{', '.join(names) or 'none'}\n"
    )
    assert (code, errors) == ((1, f"fer: {line}") if names else (0, ""))
    assert output.startswith("2 images evaluated" if names else line)
    write_labels(tmp_path / "labels.csv", (0, 9, "happy"))
    words = ["--labels", tmp_path / "labels.csv", "--out", tmp_path / "out"]
    assert fer(capsys, "evaluate-bag", bag, *words)[0] == 0


def test_a_report_of_the_user_is_kept(capsys, tmp_path):
    report = tmp_path / "report.html"
    report.write_text("mine")
    code, _, errors = fer(capsys, "evaluate-bag", "day", "--out", tmp_path)
    assert (code, [*tmp_path.iterdir()]) == (1, [report])
    assert errors.startswith(f"fer: {report}: expected a file of an earlier report")
    assert errors.count("\n") == 1


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
def test_a_full_disk_leaves_no_partial_recording(capsys, tmp_path, storage):
    with small_files(100_000):
        code, _, errors = fer(
            capsys, "bag-from-video", "sample", tmp_path / "bag", "--storage", storage
        )
    assert code == 1
    assert errors.startswith(f"fer: {tmp_path / 'bag'}: ")
    assert errors.count("\n") == 1
    assert not (tmp_path / "bag").exists()


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(("most_bytes", "names"), [(100, "results.json"), (8_000, "")])
def test_a_full_disk_still_prints_the_metrics(capsys, tmp_path, astronaut, most_bytes, names):
    bag, out = portrait_bag(tmp_path / "bag", astronaut, 8), tmp_path / "out"
    write_labels(bag / "labels.csv", (0, 9, "happy"))
    with small_files(most_bytes):
        code, output, errors = fer(capsys, "evaluate-bag", bag, "--out", out)
    assert code == 1
    assert "7 labeled faces predicted: accuracy 100.0%" in output
    assert errors.splitlines()[-1] == f"fer: {out / names}: File too large"


def test_other_commands_do_not_import_the_bag_reader():
    code = (
        "import sys; sys.modules['rosbags'] = None; from fer_ros.cli import main; "
        "sys.exit(main(['evaluate-bag', 'day']))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.endswith("pip install -r requirements/evaluate.txt\n")
    assert "rosbags" in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_truncated_video_becomes_a_bag_with_a_warning(tmp_path, capsys):
    path = video(tmp_path / "a.avi", 60)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    summary = make_bag(str(path), tmp_path / "bag")
    assert 10 < summary.images < 60
    (error,) = summary.errors
    assert "of 60 images are missing" in error
    assert cli.main(["bag-from-video", str(path), str(tmp_path / "again")]) == 1
    assert f"fer: {error}" in capsys.readouterr().err
