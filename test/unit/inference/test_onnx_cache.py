"""The cache of exported graphs: kept, verified, never in the way."""

import os
from dataclasses import replace
from pathlib import Path

import pytest

from fer_ros.inference.backends import BackendError, onnx_cache
from fer_ros.inference.backends.onnx_cache import (
    cache_path,
    load_or_export,
    store_graph,
    uses_nchwc_layout,
)
from fer_ros.inference.model_store import ModelError, ModelManifest, sha256_of


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """The cache, which is not there yet."""
    monkeypatch.setenv("FER_ROS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def manifest(tmp_path) -> ModelManifest:
    weights = tmp_path / "w.safetensors"
    weights.write_bytes(b"weights")
    return ModelManifest("made", "vgg13", weights.name, sha256_of(weights), folder=tmp_path)


@pytest.fixture
def exported(monkeypatch) -> list[str]:
    """Names of the models that were exported; a graph is the name and a number."""
    names = []

    def export(manifest, nchwc):
        names.append(manifest.name)
        return f"{manifest.name} {len(names)}".encode()

    monkeypatch.setattr(onnx_cache, "export_graph", export)
    return names


def place(manifest: ModelManifest) -> Path:
    """Of the graph for the CPU of this machine."""
    return cache_path(manifest, uses_nchwc_layout())


def test_a_model_is_exported_once(folder, manifest, exported, caplog):
    assert [load_or_export(manifest) for _ in range(3)] == [b"made 1"] * 3
    assert exported == ["made"]
    assert sorted(folder.iterdir()) == [
        place(manifest),
        Path(f"{place(manifest)}.sha256"),
    ]
    assert {file.stat().st_mode & 0o777 for file in folder.iterdir()} == {0o644}
    assert caplog.records == []


@pytest.mark.parametrize(
    "changes",
    [{"temperature": 1.5}, {"config": {"image": "face_resnet"}}, {"labels": ("a", "b")}],
)
def test_another_manifest_has_another_graph(folder, manifest, exported, changes):
    load_or_export(manifest)
    assert load_or_export(replace(manifest, **changes)) == b"made 2"


def test_a_moved_model_has_the_same_graph(folder, manifest):
    assert place(replace(manifest, folder=Path("elsewhere"))) == cache_path(
        manifest, uses_nchwc_layout()
    )


@pytest.mark.parametrize(("machine", "files"), [("x86_64", 2), ("AMD64", 2), ("aarch64", 1)])
def test_cpu_layouts_and_gpus_have_separate_graphs(
    folder, manifest, exported, monkeypatch, machine, files
):
    monkeypatch.setattr("platform.machine", lambda: machine)
    load_or_export(manifest, on_cpu=True)
    load_or_export(manifest, on_cpu=False)
    assert exported == ["made"] * files


def test_another_exporter_version_has_another_graph(folder, manifest, exported, monkeypatch):
    load_or_export(manifest)
    monkeypatch.setattr(onnx_cache, "EXPORT_VERSION", onnx_cache.EXPORT_VERSION + 1)
    assert load_or_export(manifest) == b"made 2"


@pytest.mark.parametrize("suffix", ["", ".sha256"])
@pytest.mark.parametrize("content", [b"", b"something else", b"\xff"])
def test_a_damaged_file_is_exported_again(folder, manifest, exported, caplog, suffix, content):
    load_or_export(manifest)
    Path(f"{place(manifest)}{suffix}").write_bytes(content)
    assert [load_or_export(manifest) for _ in range(2)] == [b"made 2"] * 2
    (record,) = caplog.records
    assert (record.levelname, "making it again" in record.getMessage()) == (
        "WARNING",
        True,
    )


@pytest.mark.parametrize("suffix", ["", ".sha256"])
def test_an_incomplete_cache_entry_is_exported_again(folder, manifest, exported, caplog, suffix):
    load_or_export(manifest)
    Path(f"{place(manifest)}{suffix}").unlink()
    assert [load_or_export(manifest) for _ in range(2)] == [b"made 2"] * 2
    assert caplog.records == []


def test_an_unwritable_cache_does_not_prevent_the_export(folder, manifest, exported, caplog):
    """A file where the folder should be: not even root can write there."""
    folder.write_text("")
    assert [load_or_export(manifest) for _ in range(2)] == [b"made 1", b"made 2"]
    messages = [record.getMessage() for record in caplog.records if "FER_ROS_CACHE" in record.msg]
    assert len(messages) == 2


def test_a_failed_write_leaves_no_file(folder, manifest, monkeypatch):
    store_graph(b"old", place(manifest))
    before = sorted(folder.iterdir())

    def full(self, target):
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(OSError, match="No space"):
        store_graph(b"new", place(manifest))
    assert sorted(folder.iterdir()) == before
    assert place(manifest).read_bytes() == b"old"


def test_weights_are_verified_before_the_cache_is_read(folder, manifest, exported):
    load_or_export(manifest)
    manifest.weights_path.write_bytes(b"others")
    with pytest.raises(ModelError, match="the file is damaged"):
        load_or_export(manifest)


def test_an_unexportable_network_is_reported_in_one_line(folder, manifest, monkeypatch):
    def refuse(manifest, nchwc):
        raise RuntimeError("no operator\nfor this")

    monkeypatch.setattr("fer_ros.inference.backends.onnx_export.export_onnx", refuse)
    with pytest.raises(BackendError, match=r"^model made cannot .*: no operator for this$"):
        load_or_export(manifest)
