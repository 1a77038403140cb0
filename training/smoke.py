"""``python -m training.smoke OUT``: does everything fit together, in less than a minute.

Eight pictures of one face, which come with a dependency, go the whole way, one batch of each step:
prepared, pre-trained on, trained on from the trunk of the pre-training, exported and evaluated.
Nothing true is to be learned from them. Every command is shown before it runs, with the seconds
that it took behind it; the first one that fails ends it all. They share this process, because each
of them alone would load PyTorch for longer than it works.
"""

import argparse
import os
import shlex
import sys
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import torch
import yaml
from safetensors.torch import save_file

from fer_ros import cli
from fer_ros.model.mobilefacenet import MobileFaceNet
from fer_ros.sample import sample_frames
from training import evaluate, prepare, pretrain, train

FRAMES = {"train": (20, 28, 36, 44), "valid": (95, 103), "test": (111, 119)}
"""Numbers of the sample's frames in each split; their emotions, made up, take turns."""

_EMOTIONS = ("happiness", "neutral")
_PACKS = {"train": ["faces_train"], "valid": "faces_valid", "test": "faces_test"}
_ONCE = {"epochs": 1, "batch": len(FRAMES["train"])}
_STREAM = "vits8"


def draw_pictures(folder: Path) -> None:
    """Frames of the sample, in a folder for each emotion within one for each split."""
    wanted = {
        number: folder / split / _EMOTIONS[place % 2] / f"{number}.png"
        for split, numbers in FRAMES.items()
        for place, number in enumerate(numbers)
    }
    for number, frame in enumerate(sample_frames()):
        if number in wanted:
            wanted[number].parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(wanted[number]), frame.image_rgb[..., ::-1])


def write_experiments(out: Path) -> None:
    """``pretrain.yaml``, and ``train.yaml`` with landmarks that have learned nothing either."""
    landmarks = out / "landmarks.safetensors"
    save_file(MobileFaceNet().state_dict(), landmarks)
    network = {
        "architecture": "two_stream_small",
        "config": {"image": _STREAM},
        "landmarks": str(landmarks),
    }
    pretraining = {"method": "mae", "stream": _STREAM, "packs": ["faces_train"], "probe": _PACKS}
    training = {"network": network, "data": _PACKS}
    for name, values in (("pretrain", pretraining), ("train", training)):
        text = yaml.safe_dump({**values, **_ONCE}, sort_keys=False)
        (out / f"{name}.yaml").write_text(text, encoding="utf-8")


def call(main: Callable[[], int | None], *words: object) -> None:
    """Shows a command and runs it. SystemExit, with its line or code, when it fails."""
    command = [str(word) for word in words]
    print(f"$ {shlex.join(command)}", flush=True)
    started = time.monotonic()
    sys.argv = command[command.index("-m") + 1 :] if "-m" in command else command
    if code := main():
        sys.exit(code)
    print(f"  {time.monotonic() - started:.1f} s", flush=True)


def smoke(out: Path) -> None:
    """All commands, in the new folder ``out``."""
    pictures, packs, faces, run = (out / name for name in ("pictures", "packs", "faces", "run"))
    model = run / "model" / run.name
    draw_pictures(pictures)
    write_experiments(out)
    python = ("python", "-m")
    for split in FRAMES:
        pack = packs / f"faces_{split}"
        call(prepare.main, *python, "training.prepare", pictures, pack, "--split", split)
    call(pretrain.main, *python, "training.pretrain", out / "pretrain.yaml", packs, faces)
    start = ("--image-weights", faces / "trunk.safetensors")
    call(train.main, *python, "training.train", out / "train.yaml", packs, run, *start)
    call(cli.main, "fer", "models", "export", model)
    test, figures = packs / "faces_test", out / "figures.json"
    words = ("--model", model, "--data", test, "--json", figures)
    call(evaluate.main, *python, "training.evaluate", *words)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("out", type=Path, help="a new folder, for all that is made")
    out = parser.parse_args().out
    started = time.monotonic()
    try:
        out.mkdir(parents=True)
    except OSError as error:
        sys.exit(f"smoke: {out}: expected a new folder that can be made: {error.strerror}")
    os.environ["FER_ROS_CACHE"] = str((out / "cache").absolute())  # for the exported model
    torch.set_num_threads(1)  # on a busy machine, several would wait for each other
    smoke(out)
    print(f"smoke: all of it works, in {time.monotonic() - started:.0f} s")


if __name__ == "__main__":
    main()
