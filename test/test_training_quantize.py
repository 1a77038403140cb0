"""A model in int8 is kept when it reads the faces of a pack as well as before."""

import numpy as np
import pytest
import torch
from pack_tools import write_pack

from fer_ros.backends.graphs import graph_of
from fer_ros.model import build_model
from fer_ros.model.checkpoint import save_model
from fer_ros.model.network import FaceNetwork
from fer_ros.onnx_session import OnnxSession
from fer_ros.weights import InputSpec, ModelCard, read_card
from training import quantize

FACES = 33


@pytest.fixture(scope="module")
def card(tmp_path_factory) -> ModelCard:
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("models") / "fresh"
    return save_model(FaceNetwork(build_model("vgg13"), InputSpec(size_px=64)), folder, "vgg13")


def answers(session: OnnxSession, canvases: np.ndarray) -> np.ndarray:
    return session.run(quantize.in_rgb(canvases[:, 16:128, 16:128]))[1].argmax(axis=1)


@pytest.fixture
def packs(card, tmp_path):
    """Noise, labelled with what the model makes of it."""
    for number, split in enumerate(("train", "valid", "test")):
        canvases = np.random.default_rng(number).integers(0, 256, (FACES, 144, 144), np.uint8)
        labels = answers(OnnxSession(graph_of(card), 1), canvases).astype(np.int8)
        write_pack(tmp_path / f"ferplus_{split}", canvas=canvases, label=labels)
    return tmp_path


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(quantize, "in_turn", lambda works, seconds: dict.fromkeys(works, 2.0))


def test_what_is_compared(card, packs):
    same = OnnxSession(graph_of(card), 1)

    class Wrong:
        def run(self, crops_rgb):
            points_xy, probabilities = same.run(crops_rgb)
            return points_xy + np.float32(0), np.roll(probabilities, 1, axis=1)

    found = quantize.compare(same, Wrong(), packs / "ferplus_valid")
    assert (found.pictures, found.before, found.after) == (FACES, 1.0, 0.0)


def test_int8_is_kept_when_it_reads_as_well(card, packs, tmp_path, capsys):
    arguments = [str(card.folder), str(packs), str(tmp_path / "fresh_int8")]
    assert quantize.main(arguments) == 0
    said = capsys.readouterr().out
    assert f"valid, {FACES} faces: accuracy 100.0%, int8 100.0%" in said
    assert "faces 5: 2.0 ms, int8 2.0 ms, ratio 1.00" in said
    saved = read_card(tmp_path / "fresh_int8")
    saved.verify()
    assert OnnxSession(graph_of(saved), 1).metadata["precision"] == "int8"


@pytest.mark.parametrize(
    ("lost", "moved_px"),
    [(quantize.MOST_LOST + 0.001, 0.0), (0.0, quantize.MOST_MOVED_PX + 0.001)],
)
def test_int8_that_loses_too_much_is_not_kept(card, packs, tmp_path, monkeypatch, lost, moved_px):
    lossy = quantize.Compared(FACES, 0.8, 0.8 - lost, moved_px)
    monkeypatch.setattr(quantize, "compare", lambda before, after, pack: lossy)
    assert quantize.main([str(card.folder), str(packs), str(tmp_path / "lossy")]) == 1
    assert not (tmp_path / "lossy").exists()


@pytest.mark.parametrize("model", ["", "nobody"])
def test_what_cannot_be_used_is_one_line(card, packs, tmp_path, capsys, model):
    assert quantize.main([model, str(packs), str(tmp_path / "out")]) == 1
    assert quantize.main([str(card.folder), str(tmp_path / "none"), str(tmp_path / "out")]) == 1
    first, second = capsys.readouterr().err.splitlines()
    assert first.startswith("quantize: ")
    assert "ferplus_train" in second
