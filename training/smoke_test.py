"""``python -m training.smoke_test OUT``: run every training step once, in less than a minute.

One batch of eight images of one face, which come with a dependency, is prepared, used for
pretraining and training, and the result is exported and evaluated. The metrics mean nothing.
Each command is printed before it runs, and its seconds after it; the first failure ends the test.
All commands share this process, because importing PyTorch takes longer than running them.
"""

import argparse
import os
import shlex
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import torch
import yaml
from safetensors.torch import save_file

from fer_ros import cli
from fer_ros.io.synthetic import synthetic_frames
from fer_ros.models.mobilefacenet import MobileFaceNet
from training import evaluate, prepare, pretrain, train
from training.command_line import report_error

FRAMES = {"train": (20, 28, 36, 44), "valid": (95, 103), "test": (111, 119)}
"""Numbers of the sample's frames in each split; their labels are arbitrary and alternate."""

_EMOTIONS = ("happiness", "neutral")
_DATASETS = {"train": ["faces_train"], "valid": "faces_valid", "test": "faces_test"}
_ONCE = {"epochs": 1, "batch_size": len(FRAMES["train"])}
_BACKBONE = "vits8"


def write_images(folder: Path) -> None:
    """Frames of the sample, in a folder for each emotion within one for each split."""
    frame_numbers = {
        number: folder / split / _EMOTIONS[place % 2] / f"{number}.png"
        for split, numbers in FRAMES.items()
        for place, number in enumerate(numbers)
    }
    for number, frame in enumerate(synthetic_frames()):
        if number in frame_numbers:
            frame_numbers[number].parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(frame_numbers[number]), frame.image_rgb[..., ::-1])


def write_experiments(out: Path) -> None:
    """``pretrain.yaml``, and ``train.yaml`` with landmark weights that are untrained."""
    landmarks = out / "landmarks.safetensors"
    save_file(MobileFaceNet().state_dict(), landmarks)
    network = {
        "architecture": "two_stream_small",
        "config": {"image": _BACKBONE},
        "landmarks": str(landmarks),
    }
    pretraining = {
        "method": "mae",
        "backbone": _BACKBONE,
        "datasets": ["faces_train"],
        "probe": _DATASETS,
    }
    training = {"network": network, "data": _DATASETS}
    for name, values in (("pretrain", pretraining), ("train", training)):
        text = yaml.safe_dump({**values, **_ONCE}, sort_keys=False)
        (out / f"{name}.yaml").write_text(text, encoding="utf-8")


def call(main: Callable[[list[str]], int], *words: object) -> None:
    """Show a command and run it. Raises SystemExit with its code when it fails."""
    command = [str(word) for word in words]
    print(f"$ {shlex.join(command)}", flush=True)
    started = time.monotonic()
    first = command.index("-m") + 2 if "-m" in command else 1
    if code := main(command[first:]):
        raise SystemExit(code)
    print(f"  {time.monotonic() - started:.1f} s", flush=True)


def smoke(out: Path) -> None:
    """All commands, in the new folder ``out``."""
    images, datasets, faces, run = (out / name for name in ("images", "datasets", "faces", "run"))
    model = run / "model" / run.name
    write_images(images)
    write_experiments(out)
    python = ("python", "-m")
    for split in FRAMES:
        dataset = datasets / f"faces_{split}"
        call(prepare.main, *python, "training.prepare", images, dataset, "--split", split)
    call(pretrain.main, *python, "training.pretrain", out / "pretrain.yaml", datasets, faces)
    start = f"network.image_weights={faces / pretrain.BACKBONE}"
    call(train.main, *python, "training.train", out / "train.yaml", datasets, run, start)
    call(cli.main, "fer", "models", "export", model)
    test, figures = datasets / "faces_test", out / "figures.json"
    words = ("--model", model, "--data", test, "--json", figures)
    call(evaluate.main, *python, "training.evaluate", *words)


def main(argv: Sequence[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("out", type=Path, help="a new folder, for all that is made")
    out = parser.parse_args(argv).out
    started = time.monotonic()
    try:
        out.mkdir(parents=True)
    except OSError as error:
        message = f"{out}: expected a new folder that can be made: {error.strerror}"
        return report_error("smoke", message)
    os.environ["FER_ROS_CACHE"] = str((out / "cache").absolute())  # for the exported model
    torch.set_num_threads(1)  # on a busy machine, several would wait for each other
    smoke(out)
    print(f"smoke: all of it works, in {time.monotonic() - started:.0f} s")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
