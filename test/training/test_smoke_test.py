"""The smoke test of training (``make smoke``)."""

import json

import pytest
from pretrain_tools import TINY

from fer_ros.models.backbones.registry import BACKBONES
from training import smoke_test
from training.datasets.shards import FaceDataset

COMMANDS = 3 * ["training.prepare"] + [
    "training.pretrain",
    "training.train",
    "models export",
    "training.evaluate",
]


def test_one_batch_passes_every_step(tmp_path, monkeypatch, capsys):
    """With a smaller backbone."""
    monkeypatch.setitem(BACKBONES, "tiny", TINY)
    monkeypatch.setattr(smoke_test, "_BACKBONE", "tiny")
    monkeypatch.setenv("FER_ROS_CACHE", "replaced by the command")
    out = tmp_path / "smoke"
    assert smoke_test.main([str(out)]) == 0
    output = capsys.readouterr().out
    shown = [line for line in output.splitlines() if line.startswith("$ ")]
    assert len(shown) == len(COMMANDS)
    assert [line for line, name in zip(shown, COMMANDS, strict=True) if name not in line] == []
    assert "smoke: all of it works" in output

    datasets = [
        FaceDataset.open(out / "datasets" / f"faces_{split}") for split in smoke_test.FRAMES
    ]
    assert sum(len(dataset) for dataset in datasets) == 8
    assert all(dataset.column("detected").all() for dataset in datasets)
    sha256 = json.loads((out / "figures.json").read_text())["model"]["sha256"]
    exported = [path.name for path in (out / "cache").iterdir() if path.suffix == ".onnx"]
    assert len(exported) == 1  # by `models export`, and then evaluated: nothing else was
    assert exported[0].startswith(sha256[:16])
    assert list(tmp_path.iterdir()) == [out]


def test_an_existing_folder_is_not_touched(tmp_path, capsys):
    assert smoke_test.main([str(tmp_path)]) == 1
    error = capsys.readouterr().err
    assert error == f"smoke: {tmp_path}: expected a new folder that can be made: File exists\n"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("code", [1, 2])
@pytest.mark.parametrize("command", [["fer"], ["python", "-m", "fer_ros.cli"]])
def test_a_failing_command_ends_the_smoke_test(capsys, code, command):
    given = []
    with pytest.raises(SystemExit) as ended:
        smoke_test.call(lambda argv: given.append(argv) or code, *command, "models")
    assert ended.value.code == code
    assert capsys.readouterr().out == f"$ {' '.join(command)} models\n"
    assert given == [["models"]]
