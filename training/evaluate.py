"""``python -m training.evaluate``: how good a model is, in figures with intervals.

``--model MODEL --data DATA``: on faces with labels or landmarks. DATA is a pack, or a source that
``training.sources`` knows, whose faces are found and cut by the rule of ``training.prepare``, with
the same options (``--split test``, ``--tight`` ...). Votes of FER+ are scored by the protocols of
``training.votes``, all of them or those that ``--protocol`` names, and ``panel`` tells how often a
label comes again from other people; single labels as ``labels``; the network's landmarks as
``landmarks``, where the faces have some. ``--json`` writes all figures, ``--html`` one page that
needs nothing beside it.

``--model MODEL --card DATA``: all figures of a model that is shipped. DATA is the folder of packs
that the model was made from; the model's folder gets ``metrics.json``, ``CARD.md`` and the card's
pictures. Beside FER+ by every protocol there is ``ferplus-new``, without the pictures that stand in
its train split too, ``as-labels``, the calibration of answers as probabilities of the label, the
photographs of each source apart, the error of the landmarks against the teacher's, in upright
photographs and in the same ones rotated by 20 degrees to either side, and the milliseconds of a
face on this CPU.

Every name comes a second time with ``-flip``: the mean of a picture and its mirror image. The
network runs as on the robot, ``fer_ros.classify`` on uint8 crops.
"""

import argparse
import json
import math
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from fer_ros.classify import Classifier
from fer_ros.config import ClassifierConfig
from fer_ros.evaluation import pictures
from fer_ros.evaluation.metrics import calibration_error, count_bins
from fer_ros.types import CROP_SIZE_PX
from fer_ros.weights import ModelCard
from training.augment import move_points, view
from training.benchmark_page import machine
from training.card import card_text
from training.data import Faces, load_faces, seen_elsewhere
from training.find import detector_for
from training.landmarks import load, nme
from training.packs import CARD, INSIDE, PLAN, Pack, in_rgb
from training.page import page
from training.panel import reach
from training.prepare import in_words, prepare
from training.rows import Source
from training.scores import FLOOR, RESAMPLES, SCORE_HEAD, SEED, score_cells, scores
from training.sources import OPTIONS, add_options, from_arguments
from training.train import fit_temperature
from training.votes import PROTOCOLS, emotional

ROTATION_DEG = 20.0
LATENCY_FACES = 300
_AT_ONCE = 32

Floats = NDArray[np.float32]


def read(classifier: Classifier, crops: NDArray[np.uint8], what: str) -> tuple[Floats, Floats]:
    """Points (N, 68, 2) in crop pixels and probabilities (N, 8) of grey crops (N, 112, 112)."""
    starts = range(0, max(1, len(crops)), _AT_ONCE)
    parts = [
        classifier.classify(in_rgb(crops[start : start + _AT_ONCE]))
        for start in tqdm(starts, desc=what)
    ]
    points, probabilities = zip(*parts, strict=True)
    return np.concatenate(points), np.concatenate(probabilities)


def read_twice(classifier: Classifier, canvases: NDArray[np.uint8]) -> dict[str, Floats]:
    """Probabilities (N, 8) of canvases (N, 144, 144): plain, and ``-flip`` with the mirrored."""
    crops = canvases[:, INSIDE, INSIDE]
    plain = read(classifier, crops, "plain")[1]
    mirrored = read(classifier, crops[:, :, ::-1], "mirrored")[1]
    return {"": plain, "-flip": (plain + mirrored) * np.float32(0.5)}


def score(
    answers: dict[str, Floats],
    faces: Faces,
    counted: dict[str, NDArray[np.bool_]],
    votes: NDArray[np.int64] | None = None,
) -> dict[str, Any]:
    """Figures by name, plain and with ``-flip``, of what ``read_twice`` read in the faces.

    ``counted``: which rows (N,) each name takes. ``votes`` (N, 10): those of the faces, whose
    ``panel`` is then told by ``training.panel``.
    """
    results = {}
    for flip, probabilities in answers.items():
        for name, keep in counted.items():
            targets = None if votes is None else faces.targets.numpy()[keep]
            labels = faces.labels.numpy()[keep]
            results[f"{name}{flip}"] = scores(probabilities[keep], labels, targets)
    if votes is not None and emotional(votes).any():
        results["panel"] = reach(answers["-flip"], votes)
    return results


def check(labels: str, annotated: bool, protocols: list[str], where: Path) -> None:
    """ValueError, one line, when data with such ``labels`` cannot be scored by the protocols.

    ``annotated``: it has landmarks.
    """
    if not labels and not annotated:
        raise ValueError(f"{where}: expected votes, labels or landmarks, found faces without any")
    if protocols and labels != "votes":
        raise ValueError(
            f"{where}: --protocol {protocols[0]} counts votes, found none: leave it away"
        )


def evaluate(classifier: Classifier, folder: Path, protocols: list[str]) -> dict[str, Any]:
    """The figures on one pack; no ``protocols``: all that fit.

    ValueError, one line, when the pack has nothing to score, or no votes for the protocols.
    """
    pack = Pack.open(folder)
    annotated = pack.has("points68") and bool(np.isfinite(pack.column("points68")).any())
    check(pack.card.labels, annotated, protocols, folder)
    missing = {name: len(pack.column(name)) for name in ("undecodable", "faceless")}
    results = {
        **_about(classifier.card),
        "data": {"name": str(pack), "faces": len(pack), **missing},
    }
    if pack.card.labels:
        results |= score_labels(classifier, pack, protocols)
    if annotated:
        results["landmarks"] = landmark_scores(classifier, folder)
    return results


def score_labels(classifier: Classifier, pack: Pack, protocols: list[str]) -> dict[str, Any]:
    """The figures of a pack with votes, by protocol, or with labels."""
    counted: dict[str, NDArray[np.bool_]] = {"labels": np.ones(len(pack), np.bool_)}
    votes = None
    if pack.card.labels == "votes":
        votes = pack.column("votes").astype(np.int64)
        counted = {name: PROTOCOLS[name](votes) for name in protocols or PROTOCOLS}
    faces = load_faces(pack.folder)
    return score(read_twice(classifier, faces.canvases.numpy()), faces, counted, votes)


def evaluate_packs(classifier: Classifier, packs: Path) -> dict[str, Any]:
    """All figures of the card; ``packs`` is a folder with FER+ and the photographs."""
    test, photographs = packs / "ferplus_test", packs / "lfwx_test"
    votes = Pack.open(test).column("votes").astype(np.int64)
    counted = {name: keep(votes) for name, keep in PROTOCOLS.items()}
    counted["ferplus-new"] = ~seen_elsewhere(test, packs / "ferplus_train")
    faces, valid = load_faces(test), load_faces(packs / "ferplus_valid")
    answers = read_twice(classifier, faces.canvases.numpy())
    _, fitted = read(classifier, valid.canvases[:, INSIDE, INSIDE].numpy(), "valid")
    return {
        **_about(classifier.card),
        **score(answers, faces, counted, votes),
        "as-labels": as_labels((fitted, valid.labels), (answers[""], faces.labels)),
        **score_sources(classifier, photographs),
        "landmarks-lfwx": landmark_scores(classifier, photographs),
        "landmarks-lfwx-rotated": landmark_scores(classifier, photographs, ROTATION_DEG),
    }


def as_labels(valid: tuple[Floats, Tensor], test: tuple[Floats, Tensor]) -> dict[str, Any]:
    """Calibration of answers (N, 8) as probabilities of the labels (N,), by split.

    The network's temperature makes them shares of the votes. Here a second one, ``temperature``, is
    fitted to the labels of ``valid``; ``ece`` is then the error on ``test``.
    """
    (fitted, labels), (answers, truth) = valid, test
    temperature = fit_temperature(_logarithm(fitted), labels)
    probabilities = (_logarithm(answers) / temperature).softmax(dim=1).numpy()
    found = calibration_error(count_bins(truth.numpy(), probabilities))
    return {"temperature": round(temperature, 4), "ece": round(float(found), 4)}


def _logarithm(probabilities: Floats) -> Tensor:
    return torch.from_numpy(probabilities).clamp_min(FLOOR).log()


def score_sources(classifier: Classifier, folder: Path) -> dict[str, Any]:
    """The figures of a pack with labels, as ``lfwx-SOURCE`` for each source of its faces.

    ``persons`` counts who is in the pictures, where the data set says so.
    """
    pack = Pack.open(folder)
    sources, who = pack.column("source"), pack.column("identity")
    counted = {f"{pack.card.dataset}-{name}": sources == name for name in np.unique(sources)}
    faces = load_faces(folder)
    results = score(read_twice(classifier, faces.canvases.numpy()), faces, counted)
    for name, keep in counted.items():
        results[name]["persons"] = len(np.unique(who[keep]))
    return results


def latency(classifier: Classifier, folder: Path, threads: int) -> dict[str, Any]:
    """Milliseconds from one crop to points and probabilities, over the first faces of a pack.

    ``load``: the machine's average of the minute before; ``threads``: those of the classifier.
    """
    load = round(os.getloadavg()[0], 1)
    crops_rgb = in_rgb(load_faces(folder).canvases[:LATENCY_FACES, INSIDE, INSIDE].numpy())
    classifier.classify(crops_rgb[:1])  # the first call of a runtime is slower
    spent_ms = []
    for place in range(len(crops_rgb)):
        since = perf_counter()
        classifier.classify(crops_rgb[place : place + 1])
        spent_ms.append((perf_counter() - since) * 1000)
    median, high = np.percentile(spent_ms, (50, 95))
    return {
        "faces": len(spent_ms),
        "median_ms": round(float(median), 1),
        "p95_ms": round(float(high), 1),
        "threads": threads,
        "machine": machine(),
        "load": load,
    }


def fill_card(model: str, packs: Path) -> dict[str, Any]:
    """Measures everything, writes it into the model's folder and returns it."""
    on_cpu = ClassifierConfig(model=model, backend="onnx", device="cpu", threads=2)
    spent = latency(Classifier(on_cpu), packs / "ferplus_test", on_cpu.threads)
    classifier = Classifier(ClassifierConfig(model=model))
    results = {**evaluate_packs(classifier, packs), "latency": spent}
    write_card(classifier.card, results)
    return results


def rotated(canvases: Tensor, points: Tensor, degrees: float) -> tuple[NDArray[np.uint8], Tensor]:
    """Crops (N, 112, 112) of canvases (N, 144, 144), turned, and where their points are then.

    ``points`` (N, 68, 2) are fractions of the crop, before and after.
    """
    cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    maps = torch.tensor([[cosine, -sine, 0.0], [sine, cosine, 0.0]]).repeat(len(canvases), 1, 1)
    crops = view(canvases, maps)[:, 0].mul(255).round().byte().numpy()
    return crops, move_points(points, maps, torch.zeros(len(canvases), dtype=torch.bool))


def landmark_scores(classifier: Classifier, folder: Path, degrees: float = 0.0) -> dict[str, Any]:
    """Mean, median and 95th percentile of the error over the distance of the outer eye corners.

    Against the points of the pack, in photographs rotated to either side by so many degrees. None
    when the network has no landmarks.
    """
    canvases, taught = load([folder])
    errors = []
    for angle in sorted({degrees, -degrees}):
        crops, expected = rotated(canvases, taught, angle)
        points, _ = read(classifier, crops, f"landmarks at {angle:g} degrees")
        errors.append(nme((torch.from_numpy(points) + 0.5) / CROP_SIZE_PX, expected))
    every = torch.cat(errors).double().numpy()
    figures = {"mean_nme": every.mean(), "median_nme": np.median(every)}
    figures["p95_nme"] = np.percentile(every, 95)
    return {
        "pictures": len(taught),
        "rotation_deg": degrees,
        **{
            name: None if np.isnan(value) else round(float(value), 4)
            for name, value in figures.items()
        },
    }


def write_card(card: ModelCard, results: dict[str, Any]) -> None:
    """``metrics.json``, ``CARD.md`` and its pictures, in the folder of the model."""
    _write_json(card.folder / "metrics.json", results)
    (card.folder / "CARD.md").write_text(card_text(card, results), encoding="utf-8")
    found = results["ferplus-3573"]
    confusion, bins = np.array(found["confusion"]), np.array(found["bins"])
    (card.folder / "confusion.png").write_bytes(pictures.confusion(confusion))
    (card.folder / "calibration.png").write_bytes(pictures.calibration(bins))


def _about(card: ModelCard) -> dict[str, Any]:
    return {
        "model": {"name": card.name, "sha256": card.sha256},
        "bootstrap": {"resamples": RESAMPLES, "seed": SEED},
    }


def _write_json(path: Path, results: dict[str, Any]) -> None:
    text = json.dumps(results, indent=1, ensure_ascii=False, allow_nan=False)
    path.write_text(text + "\n", encoding="utf-8")


def evaluate_source(
    classifier: Classifier, source: Source, protocols: list[str], where: Path
) -> dict[str, Any]:
    """The figures on pictures at ``where`` that are prepared for this once."""
    check(source.labels, source.annotated, protocols, where)
    with TemporaryDirectory() as folder:
        pack = Path(folder) / where.resolve().stem
        found = prepare(source, pack, detector_for(source.tight))
        print(f"{where}: {in_words(found)}")
        return evaluate(classifier, pack, protocols)


def on_data(arguments: argparse.Namespace) -> dict[str, Any]:
    """What ``--data`` asks for. ValueError, one line, when it cannot be."""
    classifier = Classifier(ClassifierConfig(model=arguments.model))
    data = arguments.source
    if any((data / name).is_file() for name in (CARD, PLAN)):
        if arguments.options:
            raise ValueError(f"{data}: is a pack, for which there is no --{arguments.options[0]}")
        return evaluate(classifier, data, arguments.protocol)
    return evaluate_source(classifier, from_arguments(arguments), arguments.protocol, data)


def lines(results: dict[str, Any]) -> Iterator[str]:
    """What the command line says: the figures of each name, in words."""
    for name, found in results.items():
        if "accuracy" in found:
            cells = zip(SCORE_HEAD, score_cells(found), strict=True)
            yield f"{name}: {', '.join(f'{title} {cell}' for title, cell in cells)}"
        elif name not in ("model", "bootstrap", "data"):
            yield f"{name}: {', '.join(f'{key} {value}' for key, value in found.items())}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n\n")[0],
        allow_abbrev=False,
    )
    parser.add_argument("--model", required=True, help="name or folder of a model")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument(
        "--data", dest="source", type=Path, help="a pack, or a source that training.sources knows"
    )
    what.add_argument(
        "--card", type=Path, metavar="PACKS", help="folder of packs: fills the model's folder"
    )
    parser.add_argument(
        "--protocol",
        action="append",
        choices=PROTOCOLS,
        default=[],
        help="which faces with votes count; may be given again; usual: all protocols",
    )
    add_options(parser)
    parser.add_argument("--json", type=Path, help="file for all figures")
    parser.add_argument("--html", type=Path, help="file for a page with pictures")
    return parser


def main() -> None:
    """Command line."""
    parser = _parser()
    arguments = parser.parse_args()
    arguments.options = [
        name for name in OPTIONS if getattr(arguments, name) != parser.get_default(name)
    ]
    files = [path for path in (arguments.json, arguments.html) if path]
    if arguments.card and (files or arguments.protocol or arguments.options):
        parser.error("--card has its own files and protocols: nothing but --model goes with it")
    try:
        for path in files:
            path.parent.mkdir(parents=True, exist_ok=True)
        if arguments.card:
            results = fill_card(arguments.model, arguments.card)
        else:
            results = on_data(arguments)
        if arguments.json:
            _write_json(arguments.json, results)
        if arguments.html:
            arguments.html.write_text(page(results), encoding="utf-8")
    except (ValueError, OSError) as error:
        sys.exit(f"evaluate: {error}")
    print(*lines(results), sep="\n")


if __name__ == "__main__":
    main()
