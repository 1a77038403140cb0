"""The command line ``fer``."""

import json
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from fer_ros import cli
from fer_ros.emotions import EMOTIONS
from fer_ros.inference.model_store import InputSpec
from fer_ros.models import build_model
from fer_ros.models.checkpoint import save_model
from fer_ros.models.wrapper import FaceNetwork


@pytest.fixture
def portrait(astronaut, tmp_path) -> Path:
    path = tmp_path / "portrait.png"
    cv2.imwrite(str(path), cv2.cvtColor(astronaut, cv2.COLOR_RGB2BGR))
    return path


@pytest.fixture
def broken(tmp_path) -> Path:
    path = tmp_path / "broken.jpg"
    path.write_bytes(b"not an image")
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
    """No network: what the command does with its predictions is tested here."""
    monkeypatch.setattr("fer_ros.multi_camera.Classifier", lambda config: fake_classifier)


def analyze(capsys, *arguments) -> tuple[int, list[dict], str]:
    code = cli.main(["analyze", *map(str, arguments)])
    output = capsys.readouterr()
    return code, [json.loads(line) for line in output.out.splitlines()], output.err


@pytest.mark.usefixtures("quick")
def test_an_empty_folder_is_an_error(capsys, tmp_path):
    code, records, errors = analyze(capsys, tmp_path)
    assert (code, records) == (1, [])
    assert errors == f"fer: {tmp_path}: the folder holds no image and no video\n"


@pytest.mark.usefixtures("quick")
def test_one_line_per_image(capsys, portrait):
    code, (record,), errors = analyze(capsys, portrait)
    assert (code, errors) == (0, "")
    assert record["source"] == str(portrait)
    (face,) = record["faces"]
    assert face["emotion"] == "happiness"
    assert set(face["probabilities"]) == set(EMOTIONS)
    assert np.shape(face["landmarks"]) == (68, 2)


@pytest.mark.usefixtures("quick")
def test_each_file_resets_the_tracker(capsys, portrait, video):
    """Faces of different files are never the same."""
    _, records, _ = analyze(capsys, portrait, portrait, video, video)
    ids = [face["id"] for record in records for face in record["faces"]]
    assert ids == ["f00001", "f00002", *["f00003"] * 6, *["f00004"] * 6]


@pytest.mark.usefixtures("quick")
def test_an_image_without_a_face(capsys, tmp_path):
    path = tmp_path / "wall.png"
    cv2.imwrite(str(path), np.full((90, 120, 3), 128, np.uint8))
    code, (record,), _ = analyze(capsys, path)
    assert (code, record["faces"]) == (0, [])


@pytest.mark.usefixtures("quick")
def test_an_unreadable_file_is_reported_and_skipped(capsys, broken, portrait):
    code, records, errors = analyze(capsys, broken, portrait, "no/such.png")
    assert code == 1
    assert [record["source"] for record in records] == [str(portrait)]
    assert f"fer: {broken}: not an image" in errors
    assert "fer: no/such.png: no such file or folder" in errors


@pytest.mark.usefixtures("quick")
def test_skipped_and_guessed_files_are_counted(capsys, tmp_path):
    for name in ("a.png", "b.png"):
        cv2.imwrite(str(tmp_path / name), np.full((48, 64), 1000, np.uint16))
    (tmp_path / "notes.txt").touch()
    code, records, errors = analyze(capsys, tmp_path)
    assert (code, len(records)) == (1, 2)
    assert errors.splitlines() == [
        f"fer: {tmp_path}: 1 files are no images or videos and skipped, the first notes.txt",
        f"fer: 2 images, the first {tmp_path / 'a.png'}: 16-bit file: only 10 of 16 bits are used; "
        "the range is stretched",
    ]


@pytest.mark.usefixtures("quick")
def test_an_animation_is_analyzed_as_a_video(capsys, portrait, tmp_path):
    frames = [Image.open(portrait).convert("L")] * 2
    frames[1] = frames[1].point(lambda value: value // 2)
    path = tmp_path / "a.gif"
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=200)
    code, records, errors = analyze(capsys, path)
    assert (code, errors) == (0, "")
    assert [record["stamp_s"] for record in records] == [0.0, 0.2]
    assert len({record["faces"][0]["id"] for record in records}) == 1


@pytest.mark.usefixtures("quick")
def test_one_line_per_frame_of_a_video_and_one_id(capsys, video):
    code, records, _ = analyze(capsys, video)
    assert code == 0
    assert [record["stamp_s"] for record in records] == [0.0, 0.25, 0.5, 0.75, 1.0, 1.25]
    ids = {face["id"] for record in records for face in record["faces"]}
    assert len(ids) == 1


@pytest.mark.usefixtures("quick")
def test_results_and_annotated_images_go_to_the_given_paths(capsys, portrait, video, tmp_path):
    out, annotated_folder = tmp_path / "out.jsonl", tmp_path / "drawn"
    code, records, _ = analyze(
        capsys, portrait, video, "--json", out, "--save-annotated", annotated_folder
    )
    assert (code, records) == (0, [])
    assert len(out.read_text().splitlines()) == 7
    names = ["portrait_faces.png", "short_00000s_faces.png", "short_00001s_faces.png"]
    assert sorted(path.name for path in annotated_folder.iterdir()) == names
    image, drawing = cv2.imread(str(portrait)), cv2.imread(str(annotated_folder / names[0]))
    assert drawing.shape == image.shape
    assert 0.7 < (drawing == image).mean() < 1  # in the same colors


@pytest.fixture(scope="module")
def untrained_models(tmp_path_factory) -> dict[str, Path]:
    """Model folders of networks that have learnt nothing, by architecture."""
    folders = {
        name: tmp_path_factory.mktemp("models") / name for name in ("two_stream_small", "vgg13")
    }
    for name, folder in folders.items():
        network = build_model(name)
        save_model(FaceNetwork(network, InputSpec(size_px=network.side_px)), folder, name)
    return folders


def test_attention_is_drawn_beside_the_faces(capsys, untrained_models, portrait, video, tmp_path):
    annotated_folder, wall = tmp_path / "drawn", tmp_path / "wall.png"
    cv2.imwrite(str(wall), np.full((90, 120, 3), 128, np.uint8))
    model = untrained_models["two_stream_small"]
    images = (portrait, wall, video)
    code, records, _ = analyze(
        capsys, *images, "--save-annotated", annotated_folder, "--attention", "--model", model
    )
    assert (code, [len(record["faces"]) for record in records]) == (0, [1, 0, *[1] * 6])
    stems = ("portrait", "short_00000s", "short_00001s", "wall")
    assert sorted(path.name for path in annotated_folder.iterdir()) == [
        f"{stem}_{kind}.png" for stem in stems for kind in ("attention", "faces")
    ]
    shapes = {
        stem: cv2.imread(str(annotated_folder / f"{stem}_attention.png")).shape for stem in stems
    }
    assert shapes["portrait"] == shapes["short_00000s"]
    height, width, _ = shapes["portrait"]
    assert (height > 3 * 112, width > 4 * 3 * 112) == (True, True)
    assert shapes["wall"][0] < 112


def test_a_model_without_attention_is_rejected_before_any_file_is_read(
    capsys, untrained_models, portrait, tmp_path
):
    annotated_folder = tmp_path / "drawn"
    options = (
        "--save-annotated",
        annotated_folder,
        "--attention",
        "--model",
        untrained_models["vgg13"],
    )
    code, records, errors = analyze(capsys, portrait, *options)
    assert (code, records) == (1, [])
    assert errors == (
        f"fer: model {untrained_models['vgg13']}: vgg13 has no attention maps; "
        "--attention needs a two-stream model\n"
    )
    assert not annotated_folder.exists()


def test_attention_without_a_folder_is_wrong_usage(capsys, portrait):
    with pytest.raises(SystemExit) as caught:
        analyze(capsys, portrait, "--attention")
    assert caught.value.code == 2
    assert "--attention needs --save-annotated DIR" in capsys.readouterr().err


@pytest.mark.usefixtures("quick")
def test_nothing_is_stored_by_default(capsys, portrait, tmp_path, monkeypatch):
    before = sorted(tmp_path.rglob("*"))
    monkeypatch.chdir(tmp_path)
    analyze(capsys, portrait)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.usefixtures("quick")
def test_images_of_the_same_name_get_separate_outputs(capsys, portrait, tmp_path):
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "portrait.png").write_bytes(portrait.read_bytes())
    analyze(capsys, portrait, tmp_path / "other", "--save-annotated", tmp_path / "drawn")
    assert len(list((tmp_path / "drawn").iterdir())) == 2


@pytest.mark.parametrize(
    ("model", "words"),
    [("two_stream_smal", "did you mean 'two_stream_small'"), ("no/folder", "no folder with")],
)
def test_an_unknown_model_is_reported_in_one_line(capsys, portrait, model, words):
    code, records, errors = analyze(capsys, portrait, "--model", model)
    assert (code, records) == (1, [])
    assert errors.count("\n") == 1
    assert words in errors


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
@pytest.mark.parametrize("option", ["--json", "--save-annotated"])
def test_an_unwritable_output_is_reported_in_one_line(capsys, portrait, broken, option):
    """A folder below a file cannot be."""
    code, records, errors = analyze(capsys, portrait, option, broken / "out")
    assert (code, records) == (1, [])
    assert errors.startswith(f"fer: {broken}")
    assert errors.count("\n") == 1


@pytest.mark.usefixtures("quick")
def test_progress_on_a_terminal(capsys, portrait, video, tmp_path, monkeypatch):
    """Not in log files for short work, and not between the lines of the results."""
    out = tmp_path / "out.jsonl"
    assert "7/7" not in analyze(capsys, portrait, video, "--json", out)[2]
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setattr("tqdm.tqdm.monitor_interval", 0)
    assert "/7 [" in analyze(capsys, portrait, video, "--json", out)[2]
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert "/7 [" not in analyze(capsys, portrait, video)[2]


@pytest.mark.parametrize(
    "command", [["models"], ["analyze", "PORTRAIT"]], ids=lambda words: words[0]
)
def test_a_closed_pipe_is_not_an_error(portrait, command):
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
