"""The figures of a model: what it reads, what counts, and the command line around it."""

import json
import re
import sys
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from pack_tools import write_pack

from fer_ros.labels import EMOTIONS, FERPLUS_VOTES
from fer_ros.model import build_model
from fer_ros.model.checkpoint import save_model
from fer_ros.model.network import FaceNetwork
from fer_ros.weights import InputSpec
from training.evaluate import (
    as_labels,
    evaluate,
    evaluate_packs,
    landmark_scores,
    latency,
    lines,
    main,
    read,
    read_twice,
    rotated,
)
from training.page import page
from training.sources import OPTIONS
from training.votes import PROTOCOLS

HAPPY, SAD = EMOTIONS.index("happiness"), EMOTIONS.index("sadness")


class Answers:
    """Happiness where the left half is bright, else sadness; the same points always."""

    card = SimpleNamespace(name="answers", sha256=64 * "0")
    points = np.random.default_rng(0).uniform(20, 90, (68, 2)).astype(np.float32)

    def classify(self, crops_rgb: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        bright = crops_rgb[:, :, :56].mean(axis=(1, 2, 3), dtype=float) > 128
        probabilities = np.zeros((len(crops_rgb), 8), np.float32)
        probabilities[bright, HAPPY] = 1.0
        probabilities[~bright, SAD] = 1.0
        return np.tile(self.points, (len(crops_rgb), 1, 1)), probabilities


def half_bright(count: int) -> np.ndarray:
    canvases = np.zeros((count, 144, 144), np.uint8)
    canvases[:, :, :72] = 255
    return canvases


@pytest.mark.parametrize("count", [1, 32, 70])
def test_what_is_read_of_crops(count):
    points, probabilities = read(Answers(), half_bright(count)[:, 16:128, 16:128], "crops")
    assert points.shape == (count, 68, 2)
    assert (probabilities == np.eye(8)[HAPPY]).all()
    assert probabilities.shape == (count, 8)


def test_mirror_image_counts_half():
    found = read_twice(Answers(), half_bright(3))
    assert [*found] == ["", "-flip"]
    assert (found[""] == np.eye(8)[HAPPY]).all()
    assert (found["-flip"] == (np.eye(8)[HAPPY] + np.eye(8)[SAD]) / 2).all()


def votes_for(*columns: int) -> np.ndarray:
    return 10 * np.eye(len(FERPLUS_VOTES), dtype=np.uint8)[list(columns)]


# Happiness, sadness, "unknown": the answer is happiness each time.
VOTED = {"canvas": half_bright(3), "votes": votes_for(1, 3, 8)}
SINGLE = {"canvas": half_bright(3), "label": np.array([HAPPY, HAPPY, SAD], np.int8)}


@pytest.mark.parametrize(
    ("columns", "protocols", "expected"),
    [
        (VOTED, [], {"ferplus-3573": 3, "ferplus-argmax10": 2, "ferplus-official": 2}),
        (VOTED, ["ferplus-official"], {"ferplus-official": 2}),
        (SINGLE, [], {"labels": 3}),
    ],
)
def test_faces_that_count(tmp_path, columns, protocols, expected):
    found = evaluate(Answers(), write_pack(tmp_path / "pack", **columns), protocols)
    assert found["data"] == {"name": "pack", "faces": 3, "undecodable": 0, "faceless": 0}
    assert found["model"] == {"name": "answers", "sha256": 64 * "0"}
    scored = {name: each["pictures"] for name, each in found.items() if "accuracy" in each}
    assert scored == expected | {f"{name}-flip": count for name, count in expected.items()}
    for name in expected:
        assert found[name]["recall"]["happiness"] == 1.0
        assert found[name]["recall"]["sadness"] == 0.0
        assert ("kl_to_votes" in found[name]) == ("votes" in columns)


@pytest.mark.parametrize(
    ("columns", "protocols", "message"),
    [
        ({"canvas": half_bright(1)}, [], "expected votes, labels or landmarks, found faces"),
        ({"points68": np.full((1, 68, 2), np.nan)}, [], "expected votes, labels or landmarks"),
        (SINGLE, ["ferplus-3573"], "ferplus-3573 counts votes, found none"),
        ({"points68": np.zeros((1, 68, 2))}, ["ferplus-3573"], "counts votes, found none"),
        ({"canvas": half_bright(1), "votes": votes_for(8)}, ["ferplus-argmax10"], "found none"),
    ],
)
def test_data_that_cannot_be_scored(tmp_path, columns, protocols, message):
    with pytest.raises(ValueError, match=message):
        evaluate(Answers(), write_pack(tmp_path / "pack", **columns), protocols)


@pytest.mark.parametrize("degrees", [0.0, 20.0, -20.0, 90.0])
def test_points_turn_with_the_face(degrees):
    canvases = np.zeros((1, 144, 144), np.uint8)
    canvases[0, 16 + 40, 16 + 70] = 255
    points = torch.full((1, 68, 2), 0.5)
    points[0, 30] = torch.tensor([70.5, 40.5]) / 112
    crops, moved = rotated(torch.from_numpy(canvases), points, degrees)
    assert crops.shape == (1, 112, 112)
    y, x = np.unravel_index(crops[0].argmax(), crops[0].shape)
    np.testing.assert_allclose(moved[0, 30] * 112, [x + 0.5, y + 0.5], atol=0.75)
    np.testing.assert_allclose(moved[0, 0], 0.5, atol=1e-6)
    if degrees == 0:
        assert (crops == canvases[:, 16:128, 16:128]).all()
    else:
        assert np.hypot(x - 70, y - 40) > 5


def test_landmarks_of_faces_that_the_teacher_found(tmp_path):
    """Points are 3 % of the eye distance off; the second face has no teacher's points."""
    truth = (Answers.points + 0.5) / 112
    off = 0.03 * np.linalg.norm(truth[36] - truth[45])
    points = np.stack([truth + np.array([off, 0]), np.full((68, 2), np.nan)]).astype(np.float32)
    pack = write_pack(tmp_path / "pack", canvas=half_bright(2), points68=points)
    upright = landmark_scores(Answers(), pack)
    figures = dict.fromkeys(("mean_nme", "median_nme", "p95_nme"), 0.03)
    assert upright == {"pictures": 1, "rotation_deg": 0.0, **figures}
    # a network that does not notice the rotation is off by as much as the points have moved
    turned = landmark_scores(Answers(), pack, 20.0)
    centred = truth + np.array([off, 0]) - 0.5
    eyes = np.linalg.norm(truth[36] - truth[45])
    errors = []
    for angle in np.radians([-20, 20]):
        turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
        errors.append(np.linalg.norm(centred @ turn.T + 0.5 - truth, axis=1).mean() / eyes)
    assert turned["rotation_deg"] == 20.0
    assert turned["median_nme"] == pytest.approx(np.median(errors), abs=2e-4)


@pytest.mark.parametrize(
    ("columns", "names"),
    [({"canvas": half_bright(3)}, ["landmarks"]), (SINGLE, ["labels", "labels-flip", "landmarks"])],
)
def test_landmarks_are_scored_where_a_pack_has_them(tmp_path, columns, names):
    """They are 3 % of the eye distance off in one face, 9 % in another; one has none."""
    truth = (Answers.points + 0.5) / 112
    off = np.array([0.03, 0.09, np.nan]) * np.linalg.norm(truth[36] - truth[45])
    points = np.stack([truth + np.array([each, 0]) for each in off]).astype(np.float32)
    pack = write_pack(tmp_path / "pack", points68=points, **columns)
    found = evaluate(Answers(), pack, [])
    assert [name for name in found if name not in {"model", "bootstrap", "data"}] == names
    assert found["landmarks"]["pictures"] == 2
    assert found["landmarks"]["mean_nme"] == 0.06
    assert ["landmarks: pictures 2" in line for line in lines(found)][-1]
    assert "Landmarks of 2 faces" in page(found)
    assert "off by 6.00% in the mean" in page(found)


def test_landmarks_of_a_network_without_any(tmp_path, monkeypatch):
    monkeypatch.setattr(Answers, "points", np.full((68, 2), np.nan, np.float32))
    points = np.random.default_rng(0).uniform(0, 1, (2, 68, 2)).astype(np.float32)
    pack = write_pack(tmp_path / "pack", canvas=half_bright(2), points68=points)
    found = landmark_scores(Answers(), pack)
    assert [found[name] for name in ("mean_nme", "median_nme", "p95_nme")] == [None] * 3


@pytest.fixture
def packs(tmp_path) -> Path:
    """Packs of four faces in each split, one of the test split's in train too."""
    rng = np.random.default_rng(0)
    canvas = rng.integers(0, 255, (4, 144, 144)).astype(np.uint8)
    for split in ("train", "valid", "test"):
        folder = tmp_path / "packs" / f"ferplus_{split}"
        groups = np.array([7, -1, -1, -1])
        write_pack(folder, canvas=canvas, votes=votes_for(0, 1, 2, 2), dup_group=groups)
    points = rng.uniform(0, 1, (4, 68, 2)).astype(np.float32)
    labelled = {"label": np.zeros(4, np.int8), "source": np.array(["lfw", "film", "lfw", "lfw"])}
    labelled["identity"] = np.array(["a", "b", "b", "a"])
    write_pack(tmp_path / "packs" / "lfwx_test", canvas=canvas, points68=points, **labelled)
    return tmp_path / "packs"


@pytest.fixture
def model(tmp_path) -> Path:
    """A model folder with fresh weights."""
    torch.manual_seed(0)
    network = FaceNetwork(build_model("two_stream_small"), InputSpec())
    save_model(network, tmp_path / "untrained", "two_stream_small")
    return tmp_path / "untrained"


def run(monkeypatch, *words: object) -> None:
    monkeypatch.setattr(sys, "argv", ["evaluate", *map(str, words)])
    main()


def test_figures_of_the_card(packs):
    results = evaluate_packs(Answers(), packs)
    names = [f"{name}{flip}" for flip in ("", "-flip") for name in (*PROTOCOLS, "ferplus-new")]
    assert [name for name in results if name.startswith("ferplus")] == names
    assert results["ferplus-3573"]["pictures"] == results["panel"]["pictures"] == 4
    assert results["ferplus-new"]["pictures"] == 3
    assert results["lfwx-lfw"]["pictures"] == 3
    assert results["lfwx-film"]["pictures"] == 1
    assert results["landmarks-lfwx"]["pictures"] == 4


@pytest.mark.parametrize(("said", "right"), [(0.6, 0.9), (0.9, 0.6)])
def test_a_temperature_makes_answers_probabilities_of_the_label(said, right):
    """Happiness is always answered with ``said``, and is the label as often as ``right``."""
    answers = np.full((100, 8), (1 - said) / 7, np.float32)
    answers[:, HAPPY] = said
    others = (HAPPY + 1 + np.arange(100) % 7) % 8
    labels = torch.from_numpy(np.where(np.arange(100) < 100 * right, HAPPY, others))
    found = as_labels((answers, labels), (answers, labels))
    assert (found["temperature"] < 1) == (said < right)
    assert found["ece"] < 0.02


def test_latency_is_that_of_single_faces(packs, monkeypatch):
    counts = []
    monkeypatch.setattr(Answers, "classify", lambda self, crops_rgb: counts.append(crops_rgb.shape))
    found = latency(Answers(), packs / "ferplus_test", threads=2)
    assert counts == [(1, 112, 112, 3)] * 5  # the first one warms up
    assert (found["faces"], found["threads"]) == (4, 2)
    assert 0 <= found["median_ms"] <= found["p95_ms"]
    assert re.fullmatch(r"\d+ cores of .+", found["machine"])


def test_card_goes_into_the_folder_of_the_model(packs, model, monkeypatch, capsys):
    run(monkeypatch, "--model", model, "--card", packs)
    results = json.loads((model / "metrics.json").read_text())
    card = (model / "CARD.md").read_text()
    assert card.startswith("# untrained\n")
    assert f"| all | 4 | {results['ferplus-3573']['accuracy']:.1%} (" in card
    flipped = results["ferplus-new-flip"]["accuracy"]
    assert f"| not in its train split, flip | 3 | {flipped:.1%} (" in card
    for name in ("confusion.png", "calibration.png"):
        assert cv2.imread(str(model / name)) is not None
    said = capsys.readouterr().out
    assert "ferplus-3573: pictures 4" in said
    assert "latency: faces 4" in said
    assert f"median {results['latency']['median_ms']:.1f} ms" in card
    assert "| Labeled Faces in the Wild | 2 | 3 | " in card
    assert "landmarks-lfwx-rotated: pictures 4" in said


@pytest.fixture
def pictures(astronaut, tmp_path) -> Path:
    """Two pictures of a face in a Parquet file, with votes, and one that does not decode."""
    face = astronaut[50:190, 160:290]
    encoded = [cv2.imencode(".png", each[..., ::-1])[1].tobytes() for each in (face, face // 2)]
    rows = {
        "name": ["face", "darker", "torn"],
        "image": [*encoded, b"not a picture"],
        "votes": votes_for(1, 1, 0).tolist(),
    }
    pq.write_table(pa.table(rows), tmp_path / "smiles_test.parquet")
    return tmp_path / "smiles_test.parquet"


def test_pictures_are_prepared_and_scored(pictures, tmp_path, monkeypatch, capsys):
    html, figures = tmp_path / "new" / "page.html", tmp_path / "new" / "figures.json"
    words = ["--protocol", "ferplus-3573", "--protocol", "ferplus-official"]
    words += ["--json", figures, "--html", html, "--tight"]
    run(monkeypatch, "--model", "two_stream_small", "--data", pictures, *words)
    results = json.loads(figures.read_text())
    assert results["data"] == {"name": "smiles_test", "faces": 2, "undecodable": 1, "faceless": 0}
    assert "ferplus-argmax10" not in results
    assert results["ferplus-official"]["accuracy"] == 1.0
    assert "two_stream_small on smiles_test" in html.read_text()
    said = capsys.readouterr().out
    assert "1 undecodable (torn)" in said
    assert "ferplus-3573-flip: pictures 2, accuracy (95 %) 100.0% (100.0 to 100.0)" in said


def test_a_pack_is_scored_as_it_is(packs, model, monkeypatch, capsys):
    run(monkeypatch, "--model", model, "--data", packs / "ferplus_test")
    assert "ferplus-argmax10: pictures 4" in capsys.readouterr().out


def test_the_help_lists_what_a_source_can_have(monkeypatch, capsys):
    with pytest.raises(SystemExit) as ended:
        run(monkeypatch, "--help")
    assert ended.value.code == 0
    said = capsys.readouterr().out
    assert [name for name in OPTIONS if f"--{name}" not in said] == []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--data", "{}/nothing"], "nothing: no such file or folder"),
        (["--data", "{}/nothing", "--card", "{}"], "not allowed with argument --data"),
        (["--card", "{}", "--json", "{}/a.json"], "nothing but --model goes with it"),
        (["--card", "{}", "--split", "test"], "nothing but --model goes with it"),
        (["--card", "{}"], "ferplus_test/pack.yaml: no such file"),
        (["--data", "{}/smiles_test.parquet", "--sides"], "unrecognized arguments: --sides"),
        (["--data", "{}/smiles_test.parquet", "--protocol", "x"], "invalid choice: 'x'"),
        (["--data", "{}", "--kind", "faces"], "expected votes, labels or landmarks, found faces"),
        (
            ["--data", "{}/pack", "--split", "test"],
            "pack: is a pack, for which there is no --split",
        ),
    ],
)
def test_command_lines_that_cannot_work(words, message, pictures, tmp_path, monkeypatch, capsys):
    cv2.imwrite(str(tmp_path / "unlabelled.png"), np.zeros((8, 8, 3), np.uint8))
    write_pack(tmp_path / "pack", **SINGLE)
    with pytest.raises(SystemExit) as ended:
        run(monkeypatch, "--model", "two_stream_small", *(word.format(tmp_path) for word in words))
    said = f"{ended.value.code} {capsys.readouterr().err}"
    assert message in said
