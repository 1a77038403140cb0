"""Files that are whole or not there."""

import os

import pytest
import torch

from fer_ros.inference.backends.onnx_cache import replace_file
from fer_ros.inference.model_store import InputSpec
from fer_ros.io.atomic_write import atomic_write
from fer_ros.models import build_model
from fer_ros.models.checkpoint import save_model
from fer_ros.models.wrapper import FaceNetwork
from training.engine.checkpoint import save_weights


@pytest.fixture(params=[0o022, 0o027], ids=oct)
def umask(request):
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


@pytest.mark.parametrize("before", [None, "old"])
def test_a_failed_write_keeps_the_previous_content(tmp_path, before):
    path = tmp_path / "file"
    if before:
        path.write_text(before)
    with pytest.raises(ValueError, match="half"), atomic_write(path) as file:
        file.write_text("ne")
        raise ValueError("half")
    assert [file.read_text() for file in tmp_path.iterdir()] == ([before] if before else [])


def test_a_successful_write_replaces_the_file(tmp_path):
    path = tmp_path / "new folder" / "file"
    for text in ("first", "second"):
        with atomic_write(path) as file:
            file.write_text(text)
        assert [(file.name, file.read_text()) for file in path.parent.iterdir()] == [("file", text)]


def model(folder):
    save_model(FaceNetwork(build_model("vgg13"), InputSpec(size_px=64)), folder, "vgg13")


@pytest.mark.parametrize(
    "write",
    [
        model,
        lambda folder: save_weights(folder / "file.safetensors", {"a": torch.zeros(1)}),
        lambda folder: replace_file(folder / "file", b"graph"),
    ],
    ids=["model", "weights", "graph"],
)
def test_the_file_has_the_default_permissions(tmp_path, umask, write):
    write(tmp_path)
    modes = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.iterdir()}
    assert modes
    assert set(modes.values()) == {0o666 & ~umask}
