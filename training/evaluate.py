"""``python -m training.evaluate``: accuracy and calibration of a model, with confidence intervals.

``--model MODEL --data DATA``: on faces with labels or landmarks. DATA is a dataset, or a source of
``training.datasets.readers.registry``, which is prepared first, with the options of
``training.prepare`` (``--split test``, ``--tight-crops`` ...). Votes of FER+ are scored by the
protocols of ``training.datasets.ferplus_votes``, all of them or those of ``--protocol``;
``annotator_agreement`` estimates how often other people would give the same label. Single labels
are scored as ``labels``, the landmarks of the network as ``landmarks``, where the faces have some.
``--json`` writes all metrics, ``--html`` one self-contained page.

``--model MODEL --update-model-card DATA``: all metrics of a shipped model. DATA is the folder of
the datasets that the model was trained with; the model's folder gets ``metrics.json``, ``CARD.md``
and the plots of the card. Besides FER+ by every protocol: ``ferplus-without-duplicates``, without
the images that are in its other splits, too; ``label-calibration``, the calibration as
probabilities of the label; nhfi, and lfwx for each of its sources, with intervals over persons; the
errors of blendshapes and landmarks, the latter also in images rotated by 20 degrees to either side;
the latency on this CPU.

Every name is repeated with ``-flip``: the mean over an image and its mirror image. Models with
class priors have all names at the natural one, and again with ``-balanced``. Crops are of uint8.
"""

import argparse
import json
import math
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fer_ros.classifier import Classifier
from fer_ros.config import ClassifierConfig
from fer_ros.evaluation.report import plots
from fer_ros.inference.model_store import ModelManifest
from fer_ros.types import CROP_SIZE_PX
from training.augment import sample_crops, transform_landmarks
from training.command_line import report_error
from training.datasets.ferplus_votes import PROTOCOLS, has_emotion_votes
from training.datasets.landmarks import load_landmarks
from training.datasets.localization import make_dataset_detector
from training.datasets.readers.registry import OPTIONS, add_options, from_arguments
from training.datasets.records import DatasetSource
from training.datasets.shards import (
    CROP_SLICE,
    METADATA_FILE,
    PARTIAL_FILE,
    FaceDataset,
    gray_to_rgb,
)
from training.datasets.splits import Faces, find_duplicates, load_faces
from training.metrics.annotator_agreement import estimate_annotator_agreement
from training.metrics.blendshapes import blendshape_scores
from training.metrics.class_priors import accuracy_by_coverage, at_each_prior
from training.metrics.classification import RESAMPLES, SCORE_HEAD, SEED, score_cells, scores
from training.metrics.label_calibration import calibrate_to_labels
from training.metrics.landmarks import nme
from training.metrics.predictions import predict, predict_arrays, predict_with_flip
from training.prepare import format_report, prepare
from training.reports.benchmarks import machine
from training.reports.html import page
from training.reports.model_card import card_text, web_figures

ROTATION_DEG = 20.0
LATENCY_FACES = 300


def score(
    predictions: dict[str, NDArray[np.float32]],
    faces: Faces,
    counted: dict[str, NDArray[np.bool_]],
    votes: NDArray[np.int64] | None = None,
    persons: NDArray[np.str_] | None = None,
) -> dict[str, Any]:
    """Metrics by name, plain and with ``-flip``, of the results of ``predict_with_flip``.

    ``counted``: rows (N,) of each name. ``votes`` (N, 10) of the faces add ``annotator_agreement``.
    ``persons`` (N,): ids, "" if unknown.
    """
    results = {}
    for flip, probabilities in predictions.items():
        for name, keep in counted.items():
            targets = None if votes is None else faces.targets.numpy()[keep]
            labels = faces.labels.numpy()[keep]
            shown_persons = None if persons is None else persons[keep]
            results[f"{name}{flip}"] = scores(probabilities[keep], labels, targets, shown_persons)
    if votes is not None and has_emotion_votes(votes).any():
        results["annotator_agreement"] = estimate_annotator_agreement(predictions["-flip"], votes)
    return results


def check_labels(labels: str, annotated: bool, protocols: list[str], where: Path) -> None:
    """Raise ValueError, one line, when data with these labels cannot be scored by ``protocols``.

    ``annotated``: it has landmarks.
    """
    if not labels and not annotated:
        raise ValueError(f"{where}: expected votes, labels or landmarks, found faces without any")
    if protocols and labels != "votes":
        raise ValueError(
            f"{where}: --protocol {protocols[0]} needs votes, found none: remove the option"
        )


def evaluate(classifier: Classifier, folder: Path, protocols: list[str]) -> dict[str, Any]:
    """The metrics on one dataset; no ``protocols``: all that fit.

    Raises ValueError, one line, when it has nothing to score, or no votes for the protocols.
    """
    dataset = FaceDataset.open(folder)
    annotated = dataset.has("landmarks68") and bool(
        np.isfinite(dataset.column("landmarks68")).any()
    )
    check_labels(dataset.metadata.labels, annotated, protocols, folder)
    missing = {name: len(dataset.column(name)) for name in ("undecodable", "undetected")}
    results = {
        **_describe(classifier.manifest),
        "data": {"name": str(dataset), "faces": len(dataset), **missing},
    }
    if dataset.metadata.labels:
        results |= score_labels(classifier, dataset, protocols)
    if annotated:
        results["landmarks"] = landmark_scores(classifier, folder)
    return results


def score_labels(
    classifier: Classifier, dataset: FaceDataset, protocols: list[str]
) -> dict[str, Any]:
    """The metrics of a dataset with votes, by protocol, or with labels."""
    counted: dict[str, NDArray[np.bool_]] = {"labels": np.ones(len(dataset), np.bool_)}
    votes = None
    if dataset.metadata.labels == "votes":
        votes = dataset.column("votes").astype(np.int64)
        counted = {name: PROTOCOLS[name](votes) for name in protocols or PROTOCOLS}
    faces = load_faces(dataset.folder)
    predictions = predict_with_flip(classifier, faces.padded_crops.numpy())
    return score(predictions, faces, counted, votes, dataset.column("identity"))


def evaluate_datasets(classifier: Classifier, datasets: Path) -> dict[str, Any]:
    """All metrics of the card; ``datasets`` is a folder with FER+, nhfi and lfwx."""
    test, photographs, web = (datasets / f"{name}_test" for name in ("ferplus", "lfwx", "nhfi"))
    votes = FaceDataset.open(test).column("votes").astype(np.int64)
    counted = {name: keep(votes) for name, keep in PROTOCOLS.items()}
    others = [datasets / f"ferplus_{split}" for split in ("train", "valid")]
    counted["ferplus-without-duplicates"] = ~find_duplicates(test, *others)
    faces, valid = load_faces(test), load_faces(datasets / "ferplus_valid")
    predictions = predict_with_flip(classifier, faces.padded_crops.numpy())
    crops = valid.padded_crops[:, CROP_SLICE, CROP_SLICE].numpy()
    _, balanced = predict_arrays(classifier, crops, "valid")
    fitted = at_each_prior({"": balanced}, classifier.manifest)[""]
    return {
        **_describe(classifier.manifest),
        **score(predictions, faces, counted, votes),
        "label-calibration": calibrate_to_labels(
            (fitted, valid.labels), (predictions[""], faces.labels)
        ),
        **score_sources(classifier, photographs),
        **score_web_photographs(classifier, web),
        "landmarks-lfwx": landmark_scores(classifier, photographs),
        "landmarks-lfwx-rotated": landmark_scores(classifier, photographs, ROTATION_DEG),
        **score_blendshapes(classifier, (web, photographs)),
    }


def score_web_photographs(classifier: Classifier, folder: Path) -> dict[str, Any]:
    """The metrics on nhfi, with accuracy by coverage."""
    faces, persons = load_faces(folder), FaceDataset.open(folder).column("identity")
    predictions = predict_with_flip(classifier, faces.padded_crops.numpy())
    results = score(predictions, faces, {"nhfi": np.ones(len(faces), np.bool_)}, persons=persons)
    labels = faces.labels.numpy()
    for suffix, probabilities in predictions.items():
        results[f"nhfi{suffix}"]["selective"] = accuracy_by_coverage(probabilities, labels)
    return results


def score_blendshapes(classifier: Classifier, folders: Iterable[Path]) -> dict[str, Any]:
    """``blendshapes-DATASET`` against the teacher's; nothing for networks without that head."""
    results = {}
    for folder in folders:
        dataset = FaceDataset.open(folder)
        crops = load_faces(folder).padded_crops[:, CROP_SLICE, CROP_SLICE].numpy()
        predicted = predict(classifier, crops, "blendshapes").blendshapes
        if predicted is None:
            return {}
        teacher = dataset.column("blendshapes")
        results[f"blendshapes-{dataset.metadata.name}"] = blendshape_scores(predicted, teacher)
    return results


def score_sources(classifier: Classifier, folder: Path) -> dict[str, Any]:
    """The metrics of a dataset with labels, as ``lfwx-SOURCE`` for each source of its faces."""
    dataset = FaceDataset.open(folder)
    sources, persons = dataset.column("source"), dataset.column("identity")
    counted = {f"{dataset.metadata.name}-{name}": sources == name for name in np.unique(sources)}
    faces = load_faces(folder)
    predictions = predict_with_flip(classifier, faces.padded_crops.numpy())
    return score(predictions, faces, counted, persons=persons)


def latency(classifier: Classifier, folder: Path, threads: int) -> dict[str, Any]:
    """Milliseconds from one crop to points and probabilities, over the first faces of a dataset.

    ``load``: the machine's average of the minute before; ``threads``: those of the classifier.
    """
    load = round(os.getloadavg()[0], 1)
    crops_rgb = gray_to_rgb(
        load_faces(folder).padded_crops[:LATENCY_FACES, CROP_SLICE, CROP_SLICE].numpy()
    )
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


def update_model_card(model: str, datasets: Path) -> dict[str, Any]:
    """Measure everything, write it into the folder of the model and return it."""
    config = ClassifierConfig(model=model, precision="fp32")
    on_cpu = replace(config, backend="onnx", device="cpu", threads=2)
    spent = latency(Classifier(on_cpu), datasets / "ferplus_test", on_cpu.threads)
    classifier = Classifier(config)
    results = {**evaluate_datasets(classifier, datasets), "latency": spent}
    write_card(classifier.manifest, results)
    return results


def rotated(
    padded_crops: Tensor, points: Tensor, degrees: float
) -> tuple[NDArray[np.uint8], Tensor]:
    """Rotate padded crops (N, 144, 144); return crops (N, 112, 112) and their landmarks.

    ``points`` (N, 68, 2) are fractions of the crop, before and after.
    """
    cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    maps = torch.tensor([[cosine, -sine, 0.0], [sine, cosine, 0.0]]).repeat(len(padded_crops), 1, 1)
    crops = sample_crops(padded_crops, maps)[:, 0].mul(255).round().byte().numpy()
    unmirrored = torch.zeros(len(padded_crops), dtype=torch.bool)
    return crops, transform_landmarks(points, maps, unmirrored)


def landmark_scores(classifier: Classifier, folder: Path, degrees: float = 0.0) -> dict[str, Any]:
    """Mean, median and 95th percentile of the error over the distance of the outer eye corners.

    Against the landmarks of the dataset, in images rotated to both sides by ``degrees``. None
    when the network has no landmarks.
    """
    padded_crops, points68 = load_landmarks([folder])
    errors = []
    for angle in sorted({degrees, -degrees}):
        crops, expected = rotated(padded_crops, points68, angle)
        points, _ = predict_arrays(classifier, crops, f"landmarks at {angle:g} degrees")
        errors.append(nme((torch.from_numpy(points) + 0.5) / CROP_SIZE_PX, expected))
    every = torch.cat(errors).double().numpy()
    figures = {"mean_nme": every.mean(), "median_nme": np.median(every)}
    figures["p95_nme"] = np.percentile(every, 95)
    rounded = {
        name: None if np.isnan(value) else round(float(value), 4) for name, value in figures.items()
    }
    return {"images": len(points68), "rotation_deg": degrees, **rounded}


def write_card(manifest: ModelManifest, results: dict[str, Any]) -> None:
    """``metrics.json``, ``CARD.md`` and its images, in the folder of the model."""
    _write_json(manifest.folder / "metrics.json", results)
    (manifest.folder / "CARD.md").write_text(card_text(manifest, results), encoding="utf-8")
    metrics = results["ferplus-3573"]
    confusion, bins = np.array(metrics["confusion"]), np.array(metrics["bins"])
    (manifest.folder / "confusion.png").write_bytes(plots.confusion(confusion))
    (manifest.folder / "calibration.png").write_bytes(plots.calibration(bins))
    if web := web_figures(results):
        confusion = np.array(web["confusion"])
        (manifest.folder / "confusion_web.png").write_bytes(plots.confusion(confusion))


def _describe(manifest: ModelManifest) -> dict[str, Any]:
    return {
        "model": {"name": manifest.name, "sha256": manifest.sha256},
        "bootstrap": {"resamples": RESAMPLES, "seed": SEED},
    }


def _write_json(path: Path, results: dict[str, Any]) -> None:
    text = json.dumps(results, indent=1, ensure_ascii=False, allow_nan=False)
    path.write_text(text + "\n", encoding="utf-8")


def evaluate_source(
    classifier: Classifier, source: DatasetSource, protocols: list[str], where: Path
) -> dict[str, Any]:
    """The metrics on images at ``where`` that are prepared for this once."""
    check_labels(source.labels, source.has_landmarks, protocols, where)
    with TemporaryDirectory() as folder:
        dataset = Path(folder) / where.resolve().stem
        report = prepare(source, dataset, make_dataset_detector(source.tight_crops))
        print(f"{where}: {format_report(report)}")
        return evaluate(classifier, dataset, protocols)


def evaluate_data(arguments: argparse.Namespace) -> dict[str, Any]:
    """Evaluate ``--data``. Raises ValueError when it cannot be used."""
    classifier = Classifier(ClassifierConfig(model=arguments.model, precision="fp32"))
    data = arguments.source
    if any((data / name).is_file() for name in (METADATA_FILE, PARTIAL_FILE)):
        if arguments.options:
            raise ValueError(
                f"{data}: is a dataset, for which there is no --{arguments.options[0]}"
            )
        return evaluate(classifier, data, arguments.protocol)
    return evaluate_source(classifier, from_arguments(arguments), arguments.protocol, data)


def format_results(results: dict[str, Any]) -> Iterator[str]:
    """Lines of text with the metrics of each name."""
    for name, metrics in results.items():
        if "accuracy" in metrics:
            cells = zip(SCORE_HEAD, score_cells(metrics), strict=True)
            yield f"{name}: {', '.join(f'{title} {cell}' for title, cell in cells)}"
        elif name not in ("model", "bootstrap", "data"):
            yield f"{name}: {', '.join(f'{key} {value}' for key, value in metrics.items())}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0], allow_abbrev=False)
    parser.add_argument("--model", required=True, help="name or folder of a model")
    mode = parser.add_mutually_exclusive_group(required=True)
    mode.add_argument(
        "--data",
        dest="source",
        type=Path,
        help="a dataset, or a source that training.datasets.readers.registry knows",
    )
    mode.add_argument(
        "--update-model-card",
        type=Path,
        metavar="DATASETS",
        help="folder of datasets: fills the model's folder",
    )
    parser.add_argument(
        "--protocol",
        action="append",
        choices=PROTOCOLS,
        default=[],
        help="which faces with votes count; can be repeated; default: all protocols",
    )
    add_options(parser)
    parser.add_argument("--json", type=Path, help="file for all metrics")
    parser.add_argument("--html", type=Path, help="file for a page with plots")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Command line."""
    parser = _parser()
    arguments = parser.parse_args(argv)
    arguments.options = [
        name for name in OPTIONS if getattr(arguments, name) != parser.get_default(name)
    ]
    files = [path for path in (arguments.json, arguments.html) if path]
    if arguments.update_model_card and (files or arguments.protocol or arguments.options):
        parser.error(
            "--update-model-card has its own files and protocols: nothing but --model goes with it"
        )
    try:
        for path in files:
            path.parent.mkdir(parents=True, exist_ok=True)
        if arguments.update_model_card:
            results = update_model_card(arguments.model, arguments.update_model_card)
        else:
            results = evaluate_data(arguments)
        if arguments.json:
            _write_json(arguments.json, results)
        if arguments.html:
            arguments.html.write_text(page(results), encoding="utf-8")
    except (ValueError, OSError) as error:
        return report_error("evaluate", error)
    print(*format_results(results), sep="\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
