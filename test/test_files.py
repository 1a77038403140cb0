"""Files that are whole or not there."""

import os

import pytest
import torch

from fer_ros.backends.graphs import replace_file
from fer_ros.files import whole_file
from fer_ros.model import build_model
from fer_ros.model.checkpoint import save_model
from fer_ros.model.network import FaceNetwork
from fer_ros.weights import InputSpec
from training.state import write_weights


@pytest.fixture(params=[0o022, 0o027], ids=oct)
def umask(request):
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


@pytest.mark.parametrize("before", [None, "old"])
def test_what_fails_leaves_what_was_there(tmp_path, before):
    path = tmp_path / "file"
    if before:
        path.write_text(before)
    with pytest.raises(ValueError, match="half"), whole_file(path) as file:
        file.write_text("ne")
        raise ValueError("half")
    assert [each.read_text() for each in tmp_path.iterdir()] == ([before] if before else [])


def test_what_is_written_takes_its_place(tmp_path):
    path = tmp_path / "new folder" / "file"
    for text in ("first", "second"):
        with whole_file(path) as file:
            file.write_text(text)
        assert [(each.name, each.read_text()) for each in path.parent.iterdir()] == [("file", text)]


def model(folder):
    save_model(FaceNetwork(build_model("vgg13"), InputSpec(size_px=64)), folder, "vgg13")


@pytest.mark.parametrize(
    "write",
    [
        model,
        lambda folder: write_weights(folder / "file.safetensors", {"a": torch.zeros(1)}),
        lambda folder: replace_file(folder / "file", b"graph"),
    ],
    ids=["model", "weights", "graph"],
)
def test_others_may_read_it_as_far_as_the_user_allows(tmp_path, umask, write):
    write(tmp_path)
    modes = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.iterdir()}
    assert modes
    assert set(modes.values()) == {0o666 & ~umask}
