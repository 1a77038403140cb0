"""``python -m training.quantize MODEL DATA OUT``: a model in int8, if it reads faces as well.

DATA is the folder of packs that the model was made from. Calibrated on faces of ``ferplus_train``,
it is kept, as the model folder OUT, when its accuracy on ``ferplus_valid`` is at most half a point
below that of MODEL and its points are at most half a pixel from MODEL's, on average;
``ferplus_test`` is read to report. Milliseconds are measured in turn.
"""

import argparse
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from fer_ros.backends.graphs import graph_of
from fer_ros.backends.quantize import quantize, save_quantized
from fer_ros.config import ClassifierConfig
from fer_ros.onnx_session import OnnxSession
from fer_ros.types import CROP_SIZE_PX
from fer_ros.weights import find_model, read_card
from training.benchmark import in_turn
from training.data import load_faces
from training.packs import INSIDE, in_rgb

MOST_LOST = 0.005
"""Of accuracy, for int8 to be kept."""

MOST_MOVED_PX = 0.5
"""Of the points, on average, in pixels of the crop; the eyes are 30 apart there."""

_FACES = 256
_SEED = 0
_AT_ONCE = 32
_SECONDS = 20.0


@dataclass(frozen=True)
class Compared:
    """Accuracies before and in int8; ``moved_px``: mean shift of the points in crop pixels."""

    pictures: int
    before: float
    after: float
    moved_px: float


def crops_of(pack: Path) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Grey crops (N, 112, 112) and labels (N,). ValueError when it is no pack with labels."""
    faces = load_faces(pack)
    return faces.canvases.numpy()[:, INSIDE, INSIDE], faces.labels.numpy()


def compare(before: OnnxSession, after: OnnxSession, pack: Path) -> Compared:
    """Both on all faces of a pack. ValueError, one line, when it cannot be used."""
    crops, labels = crops_of(pack)
    right, moved = np.zeros((2, len(crops)), np.bool_), np.zeros(len(crops))
    for start in tqdm(range(0, len(crops), _AT_ONCE), desc=pack.name, disable=None):
        rows = slice(start, start + _AT_ONCE)
        answers = [session.run(in_rgb(crops[rows])) for session in (before, after)]
        for each, (_, probabilities) in zip(right, answers, strict=True):
            each[rows] = probabilities.argmax(axis=1) == labels[rows]
        shifts = np.linalg.norm(answers[0][0] - answers[1][0], axis=2)
        moved[rows] = shifts.mean(axis=1)
    before_right, after_right = right.mean(axis=1).tolist()
    return Compared(len(crops), before_right, after_right, float(moved.mean()))


def speeds(before: OnnxSession, after: OnnxSession, seconds: float = _SECONDS) -> Iterator[str]:
    """Lines of milliseconds for one face and for five."""
    works = {
        (name, count): lambda session=session, count=count: session.run(
            np.zeros((count, CROP_SIZE_PX, CROP_SIZE_PX, 3), np.uint8)
        )
        for count in (1, 5)
        for name, session in (("before", before), ("int8", after))
    }
    spent_ms = in_turn(works, seconds)
    for count in (1, 5):
        mine, theirs = (spent_ms[name, count] for name in ("int8", "before"))
        yield f"faces {count}: {theirs:.1f} ms, int8 {mine:.1f} ms, ratio {mine / theirs:.2f}"


def main(argv: list[str] | None = None) -> int:
    """The command; ``argv`` without the program's name. 1 when int8 is not kept."""
    parser = argparse.ArgumentParser(prog="python -m training.quantize", description=__doc__)
    parser.add_argument("model", metavar="MODEL", help="name or folder of a model")
    parser.add_argument("data", metavar="DATA", type=Path, help="folder of packs")
    parser.add_argument("out", metavar="OUT", type=Path, help="the model folder to write")
    arguments = parser.parse_args(argv)
    try:
        return _run(arguments.model, arguments.data, arguments.out)
    except (ValueError, OSError) as error:
        print(f"quantize: {error}", file=sys.stderr)
        return 1


def _run(model: str, data: Path, out: Path) -> int:
    card = read_card(find_model(model))
    graph = graph_of(card)
    crops, _ = crops_of(data / "ferplus_train")
    drawn = np.random.default_rng(_SEED).permutation(len(crops))[:_FACES]
    quantized = quantize(graph, in_rgb(crops[drawn]))
    before, after = (OnnxSession(each, ClassifierConfig.threads) for each in (graph, quantized))
    found = {}
    for split in ("valid", "test"):
        each = found[split] = compare(before, after, data / f"ferplus_{split}")
        print(
            f"{split}, {each.pictures} faces: accuracy {each.before:.1%}, int8 {each.after:.1%}; "
            f"points moved by {each.moved_px:.3f} px of the crop"
        )
    print(*speeds(before, after), sep="\n")
    lost, moved_px = found["valid"].before - found["valid"].after, found["valid"].moved_px
    if lost > MOST_LOST or moved_px > MOST_MOVED_PX:
        told = f"loses {lost:.2%} and moves its points by {moved_px:.2f} px"
        print(f"quantize: {card.name} {told}, not kept", file=sys.stderr)
        return 1
    saved = save_quantized(card, quantized, out)
    print(f"{saved.name}: {saved.folder}, {len(quantized) / 2**20:.1f} MiB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
