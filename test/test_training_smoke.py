"""Everything fits together, as ``make smoke`` finds out."""

import json
import subprocess
import sys

import pytest
from tree import ROOT

from training import smoke
from training.packs import Pack

COMMANDS = 3 * ["training.prepare"] + [
    "training.pretrain",
    "training.train",
    "models export",
    "training.evaluate",
]


def test_one_batch_goes_the_whole_way(tmp_path):
    out = tmp_path / "smoke"
    command = [sys.executable, "-m", "training.smoke", str(out)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    shown = [line for line in done.stdout.splitlines() if line.startswith("$ ")]
    assert len(shown) == len(COMMANDS)
    assert [line for line, name in zip(shown, COMMANDS, strict=True) if name not in line] == []
    assert "smoke: all of it works" in done.stdout

    packs = [Pack.open(out / "packs" / f"faces_{split}") for split in smoke.FRAMES]
    assert sum(len(pack) for pack in packs) == 8
    assert all(pack.column("found").all() for pack in packs)
    sha256 = json.loads((out / "figures.json").read_text())["model"]["sha256"]
    exported = [path.name for path in (out / "cache").iterdir() if path.suffix == ".onnx"]
    assert len(exported) == 1  # by `models export`, and then evaluated: nothing else was
    assert exported[0].startswith(sha256[:16])
    assert list(tmp_path.iterdir()) == [out]


def run(monkeypatch, out: object) -> None:
    monkeypatch.setattr(sys, "argv", ["smoke", str(out)])
    smoke.main()


def test_a_folder_that_is_there_is_left_alone(tmp_path, monkeypatch):
    with pytest.raises(SystemExit, match="expected a new folder that can be made: File exists"):
        run(monkeypatch, tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("code", [1, 2])
def test_a_command_that_fails_ends_it(monkeypatch, capsys, code):
    monkeypatch.setattr(sys, "argv", [])
    with pytest.raises(SystemExit) as ended:
        smoke.call(lambda: code, "fer", "models")
    assert ended.value.code == code
    assert capsys.readouterr().out == "$ fer models\n"
    assert sys.argv == ["fer", "models"]
