"""``fer`` as people call it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from fer_ros import cli
from fer_ros.labels import EMOTIONS
from fer_ros.model import build_model
from fer_ros.model.checkpoint import save_model
from fer_ros.model.network import FaceNetwork
from fer_ros.weights import InputSpec


@pytest.fixture
def portrait(astronaut, tmp_path) -> Path:
    path = tmp_path / "portrait.png"
    cv2.imwrite(str(path), cv2.cvtColor(astronaut, cv2.COLOR_RGB2BGR))
    return path


@pytest.fixture
def broken(tmp_path) -> Path:
    path = tmp_path / "broken.jpg"
    path.write_bytes(b"not a picture")
    return path


@pytest.fixture
def video(astronaut, tmp_path) -> Path:
    path = tmp_path / "short.avi"
    small_bgr = cv2.cvtColor(cv2.resize(astronaut, (256, 256)), cv2.COLOR_RGB2BGR)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 4.0, (256, 256))
    for _ in range(6):
        writer.write(small_bgr)
    writer.release()
    return path


@pytest.fixture
def quick(monkeypatch, fake_classifier):
    """No network: what the command does with its answers is tested here."""
    monkeypatch.setattr("fer_ros.classify.Classifier", lambda config: fake_classifier)


def analyze(capsys, *arguments) -> tuple[int, list[dict], str]:
    code = cli.main(["analyze", *map(str, arguments)])
    said = capsys.readouterr()
    return code, [json.loads(line) for line in said.out.splitlines()], said.err


@pytest.mark.usefixtures("quick")
def test_an_empty_folder_is_an_error(capsys, tmp_path):
    code, records, complaint = analyze(capsys, tmp_path)
    assert (code, records) == (1, [])
    assert complaint == f"fer: {tmp_path}: the folder holds no picture and no video\n"


@pytest.mark.usefixtures("quick")
def test_one_line_per_picture(capsys, portrait):
    code, (record,), complaint = analyze(capsys, portrait)
    assert (code, complaint) == (0, "")
    assert record["source"] == str(portrait)
    (face,) = record["faces"]
    assert face["emotion"] == "happiness"
    assert set(face["probabilities"]) == set(EMOTIONS)
    assert np.shape(face["landmarks"]) == (68, 2)


@pytest.mark.usefixtures("quick")
def test_every_file_is_another_place(capsys, portrait, video):
    """Nobody in one of them is taken for somebody in another."""
    _, records, _ = analyze(capsys, portrait, portrait, video, video)
    ids = [face["id"] for record in records for face in record["faces"]]
    assert ids == ["f00001", "f00002", *["f00003"] * 6, *["f00004"] * 6]


@pytest.mark.usefixtures("quick")
def test_a_picture_without_a_face(capsys, tmp_path):
    path = tmp_path / "wall.png"
    cv2.imwrite(str(path), np.full((90, 120, 3), 128, np.uint8))
    code, (record,), _ = analyze(capsys, path)
    assert (code, record["faces"]) == (0, [])


@pytest.mark.usefixtures("quick")
def test_an_unreadable_file_is_told_and_skipped(capsys, broken, portrait):
    code, records, complaint = analyze(capsys, broken, portrait, "no/such.png")
    assert code == 1
    assert [record["source"] for record in records] == [str(portrait)]
    assert f"fer: {broken}: not a picture" in complaint
    assert "fer: no/such.png: no such file or folder" in complaint


@pytest.mark.usefixtures("quick")
def test_one_line_per_frame_of_a_video_and_one_id(capsys, video):
    code, records, _ = analyze(capsys, video)
    assert code == 0
    assert [record["stamp_s"] for record in records] == [0.0, 0.25, 0.5, 0.75, 1.0, 1.25]
    ids = {face["id"] for record in records for face in record["faces"]}
    assert len(ids) == 1


@pytest.mark.usefixtures("quick")
def test_results_and_drawings_go_where_asked(capsys, portrait, video, tmp_path):
    out, drawn = tmp_path / "out.jsonl", tmp_path / "drawn"
    code, records, _ = analyze(capsys, portrait, video, "--json", out, "--draw", drawn)
    assert (code, records) == (0, [])
    assert len(out.read_text().splitlines()) == 7
    names = ["portrait_faces.png", "short_00000s_faces.png", "short_00001s_faces.png"]
    assert sorted(path.name for path in drawn.iterdir()) == names
    picture, drawing = cv2.imread(str(portrait)), cv2.imread(str(drawn / names[0]))
    assert drawing.shape == picture.shape
    assert 0.7 < (drawing == picture).mean() < 1  # in the same colours


@pytest.fixture(scope="module")
def fresh(tmp_path_factory) -> dict[str, Path]:
    """Model folders of networks that have learnt nothing, by architecture."""
    folders = {
        name: tmp_path_factory.mktemp("models") / name for name in ("two_stream_small", "vgg13")
    }
    for name, folder in folders.items():
        network = build_model(name)
        save_model(FaceNetwork(network, InputSpec(size_px=network.side_px)), folder, name)
    return folders


def test_attention_is_drawn_beside_the_faces(capsys, fresh, portrait, video, tmp_path):
    drawn, wall = tmp_path / "drawn", tmp_path / "wall.png"
    cv2.imwrite(str(wall), np.full((90, 120, 3), 128, np.uint8))
    model = fresh["two_stream_small"]
    pictures = (portrait, wall, video)
    code, records, _ = analyze(capsys, *pictures, "--draw", drawn, "--attention", "--model", model)
    assert (code, [len(record["faces"]) for record in records]) == (0, [1, 0, *[1] * 6])
    stems = ("portrait", "short_00000s", "short_00001s", "wall")
    assert sorted(path.name for path in drawn.iterdir()) == [
        f"{stem}_{kind}.png" for stem in stems for kind in ("attention", "faces")
    ]
    shapes = {stem: cv2.imread(str(drawn / f"{stem}_attention.png")).shape for stem in stems}
    assert shapes["portrait"] == shapes["short_00000s"]
    height, width, _ = shapes["portrait"]
    assert (height > 3 * 112, width > 4 * 3 * 112) == (True, True)
    assert shapes["wall"][0] < 112


def test_a_model_without_attention_is_one_line_before_work_begins(
    capsys, fresh, portrait, tmp_path
):
    drawn = tmp_path / "drawn"
    options = ("--draw", drawn, "--attention", "--model", fresh["vgg13"])
    code, records, complaint = analyze(capsys, portrait, *options)
    assert (code, records) == (1, [])
    assert complaint == (
        f"fer: model {fresh['vgg13']}: vgg13 has no attention maps; "
        "--attention needs a two-stream model\n"
    )
    assert not drawn.exists()


def test_attention_without_a_folder_is_wrong_usage(capsys, portrait):
    with pytest.raises(SystemExit) as caught:
        analyze(capsys, portrait, "--attention")
    assert caught.value.code == 2
    assert "--attention needs --draw DIR" in capsys.readouterr().err


@pytest.mark.usefixtures("quick")
def test_nothing_is_stored_unless_asked(capsys, portrait, tmp_path, monkeypatch):
    before = sorted(tmp_path.rglob("*"))
    monkeypatch.chdir(tmp_path)
    analyze(capsys, portrait)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.usefixtures("quick")
def test_pictures_of_one_name_keep_their_drawings(capsys, portrait, tmp_path):
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "portrait.png").write_bytes(portrait.read_bytes())
    analyze(capsys, portrait, tmp_path / "other", "--draw", tmp_path / "drawn")
    assert len(list((tmp_path / "drawn").iterdir())) == 2


@pytest.mark.parametrize(
    ("model", "words"),
    [("two_stream_smal", "did you mean 'two_stream_small'"), ("no/folder", "no folder with")],
)
def test_an_unknown_model_is_one_line(capsys, portrait, model, words):
    code, records, complaint = analyze(capsys, portrait, "--model", model)
    assert (code, records) == (1, [])
    assert complaint.count("\n") == 1
    assert words in complaint


def test_no_command_is_wrong_usage(capsys):
    with pytest.raises(SystemExit) as caught:
        cli.main([])
    assert caught.value.code == 2


@pytest.mark.usefixtures("quick")
def test_results_go_into_a_new_folder(capsys, portrait, tmp_path):
    out = tmp_path / "new" / "deep" / "out.jsonl"
    assert analyze(capsys, portrait, "--json", out)[0] == 0
    assert len(out.read_text().splitlines()) == 1


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("option", ["--json", "--draw"])
def test_results_that_cannot_be_stored_are_one_line(capsys, portrait, broken, option):
    """A folder below a file cannot be."""
    code, records, complaint = analyze(capsys, portrait, option, broken / "out")
    assert (code, records) == (1, [])
    assert complaint.startswith(f"fer: {broken}")
    assert complaint.count("\n") == 1


@pytest.mark.usefixtures("quick")
def test_progress_is_shown_to_people(capsys, portrait, video, tmp_path, monkeypatch):
    """Not into files, and not between the lines of the results."""
    monkeypatch.setattr(cli.analyze, "_BAR_AFTER_S", 0.0)
    out = tmp_path / "out.jsonl"
    assert "7/7" not in analyze(capsys, portrait, video, "--json", out)[2]
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    assert "7/7" in analyze(capsys, portrait, video, "--json", out)[2]
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert "7/7" not in analyze(capsys, portrait, video)[2]


@pytest.mark.parametrize(
    "command", [["models"], ["analyze", "PORTRAIT"]], ids=lambda words: words[0]
)
def test_a_reader_who_has_enough_is_no_error(portrait, command):
    words = [str(portrait) if word == "PORTRAIT" else word for word in command]
    code = f"import sys; from fer_ros.cli import main; sys.exit(main({words}))"
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [sys.executable, "-c", code], stdout=writing, stderr=subprocess.PIPE, text=True, check=False
    )
    os.close(writing)
    assert (done.returncode, done.stderr) == (1, "")


def test_the_shipped_model_reads_the_portrait(capsys, portrait):
    code, (record,), _ = analyze(capsys, portrait)
    (face,) = record["faces"]
    assert (code, face["emotion"]) == (0, "happiness")
    points = np.array(face["landmarks"])
    eyes = points[36:42].mean(axis=0), points[42:48].mean(axis=0)
    np.testing.assert_allclose(eyes, [(202, 101), (246, 103.5)], atol=8)
