"""The cache of exported graphs: kept, verified, never in the way."""

import os
from dataclasses import replace
from pathlib import Path

import pytest

from fer_ros.backends import BackendError, graphs
from fer_ros.backends.graphs import graph_of, is_blocked, path_of, store
from fer_ros.weights import ModelCard, ModelError, sha256_of


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """The cache, which is not there yet."""
    monkeypatch.setenv("FER_ROS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def card(tmp_path) -> ModelCard:
    weights = tmp_path / "w.safetensors"
    weights.write_bytes(b"weights")
    return ModelCard("made", "vgg13", weights.name, sha256_of(weights), folder=tmp_path)


@pytest.fixture
def exported(monkeypatch) -> list[str]:
    """Names of the models that were exported; a graph is the name and a number."""
    names = []

    def export(card, blocked):
        names.append(card.name)
        return f"{card.name} {len(names)}".encode()

    monkeypatch.setattr(graphs, "export", export)
    return names


def place(card: ModelCard) -> Path:
    """Of the graph for the CPU of this machine."""
    return path_of(card, is_blocked())


def test_a_model_is_exported_once(folder, card, exported, caplog):
    assert [graph_of(card) for _ in range(3)] == [b"made 1"] * 3
    assert exported == ["made"]
    assert sorted(folder.iterdir()) == [
        place(card),
        Path(f"{place(card)}.sha256"),
    ]
    assert {file.stat().st_mode & 0o777 for file in folder.iterdir()} == {0o644}
    assert caplog.records == []


@pytest.mark.parametrize(
    "changes",
    [{"temperature": 1.5}, {"config": {"image": "face_resnet"}}, {"labels": ("a", "b")}],
)
def test_another_card_is_another_graph(folder, card, exported, changes):
    graph_of(card)
    assert graph_of(replace(card, **changes)) == b"made 2"


def test_a_model_that_moved_is_the_same(folder, card):
    assert place(replace(card, folder=Path("elsewhere"))) == path_of(card, is_blocked())


@pytest.mark.parametrize(("machine", "files"), [("x86_64", 2), ("AMD64", 2), ("aarch64", 1)])
def test_other_kinds_of_cpus_and_gpus_have_their_own(
    folder, card, exported, monkeypatch, machine, files
):
    monkeypatch.setattr("platform.machine", lambda: machine)
    graph_of(card, on_cpu=True)
    graph_of(card, on_cpu=False)
    assert exported == ["made"] * files


def test_another_exporter_is_another_graph(folder, card, exported, monkeypatch):
    graph_of(card)
    monkeypatch.setattr(graphs, "VERSION", graphs.VERSION + 1)
    assert graph_of(card) == b"made 2"


@pytest.mark.parametrize("suffix", ["", ".sha256"])
@pytest.mark.parametrize("content", [b"", b"something else", b"\xff"])
def test_a_damaged_file_is_made_again(folder, card, exported, caplog, suffix, content):
    graph_of(card)
    Path(f"{place(card)}{suffix}").write_bytes(content)
    assert [graph_of(card) for _ in range(2)] == [b"made 2"] * 2
    (said,) = caplog.records
    assert (said.levelname, "exported again" in said.getMessage()) == ("WARNING", True)


@pytest.mark.parametrize("suffix", ["", ".sha256"])
def test_half_of_it_is_as_good_as_nothing(folder, card, exported, caplog, suffix):
    graph_of(card)
    Path(f"{place(card)}{suffix}").unlink()
    assert [graph_of(card) for _ in range(2)] == [b"made 2"] * 2
    assert caplog.records == []


def test_without_a_cache_it_works_all_the_same(folder, card, exported, caplog):
    """A file where the folder should be: nobody can write there, not even root."""
    folder.write_text("")
    assert [graph_of(card) for _ in range(2)] == [b"made 1", b"made 2"]
    told = [record.getMessage() for record in caplog.records if "FER_ROS_CACHE" in record.msg]
    assert len(told) == 2


def test_a_write_that_fails_leaves_nothing(folder, card, monkeypatch):
    store(b"old", place(card))
    before = sorted(folder.iterdir())

    def full(self, target):
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(OSError, match="No space"):
        store(b"new", place(card))
    assert sorted(folder.iterdir()) == before
    assert place(card).read_bytes() == b"old"


def test_weights_are_verified_before_the_cache_is_asked(folder, card, exported):
    graph_of(card)
    card.weights_path.write_bytes(b"others")
    with pytest.raises(ModelError, match="the file is damaged"):
        graph_of(card)


def test_a_network_that_cannot_be_exported_is_one_line(folder, card, monkeypatch):
    def refuse(card, blocked):
        raise RuntimeError("no operator\nfor this")

    monkeypatch.setattr("fer_ros.backends.export.export_onnx", refuse)
    with pytest.raises(BackendError, match=r"^model made cannot .*: no operator for this$"):
        graph_of(card)
