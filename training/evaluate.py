"""``python -m training.evaluate MODEL DATA``: the figures of a model folder, in it.

Writes ``metrics.json`` and ``CARD.md``. Runs what the robot runs, uint8 crops through
``FaceNetwork.predict``, on the test splits of DATA (packs of ``training.prepare``): FER+ by every
protocol of ``training.votes`` and without the pictures that stand in its train split too
(``ferplus-new``), and the landmarks of the photographs against the teacher's.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchmetrics import MetricCollection
from torchmetrics.classification import (
    MulticlassAccuracy,
    MulticlassCalibrationError,
    MulticlassConfusionMatrix,
    MulticlassF1Score,
    MulticlassRecall,
)
from tqdm import tqdm

from fer_ros.labels import EMOTIONS
from fer_ros.model.checkpoint import load_model
from fer_ros.model.network import FaceNetwork
from fer_ros.types import CROP_SIZE_PX
from fer_ros.weights import find_model, read_card
from training.card import card_text
from training.data import Faces, load_faces, seen_elsewhere
from training.landmarks import load, nme
from training.packs import MARGIN_PX, Pack
from training.votes import PROTOCOLS, by_protocol

_INSIDE = slice(MARGIN_PX, MARGIN_PX + CROP_SIZE_PX)


@torch.inference_mode()
def predict(network: FaceNetwork, canvases: Tensor, flip: bool) -> tuple[Tensor, Tensor]:
    """Points (N, 68, 2) in crop pixels, probabilities (N, 8); ``flip``: mean with the mirrored."""
    points, probabilities = [], []
    crops = canvases[:, _INSIDE, _INSIDE, None].expand(-1, -1, -1, 3)
    for part in tqdm(crops.split(32), desc="flipped" if flip else "plain"):
        seen = network.predict(part)
        points.append(seen[0])
        probabilities.append(seen[1])
        if flip:
            probabilities[-1] = (seen[1] + network.predict(part.flip(2))[1]) / 2
    return torch.cat(points), torch.cat(probabilities)


def metrics() -> MetricCollection:
    """What is measured of probabilities (N, 8) and labels (N,)."""
    classes = len(EMOTIONS)
    return MetricCollection(
        {
            "accuracy": MulticlassAccuracy(classes, average="micro"),
            "mean_recall": MulticlassRecall(classes, average="macro"),
            "macro_f1": MulticlassF1Score(classes, average="macro"),
            "ece": MulticlassCalibrationError(classes, n_bins=15),
            "recall": MulticlassRecall(classes, average="none"),
            "confusion": MulticlassConfusionMatrix(classes),
        },
        compute_groups=False,
    )


def scores(probabilities: Tensor, faces: Faces, keep: NDArray[np.bool_]) -> dict[str, Any]:
    """The figures of the rows ``keep`` (N,); rows of the confusion are labels."""
    chosen = torch.from_numpy(keep)
    seen, labels, votes = probabilities[chosen], faces.labels[chosen], faces.targets[chosen]
    found = metrics()(seen, labels)
    recall, confusion = found.pop("recall"), found.pop("confusion")
    cross_entropy = -(votes * seen.clamp_min(1e-9).log()).sum(dim=1).mean()
    return {
        "pictures": len(labels),
        **{name: _round(value) for name, value in found.items()},
        "cross_entropy_to_votes": _round(cross_entropy),
        "recall": {name: _round(value) for name, value in zip(EMOTIONS, recall, strict=True)},
        "confusion": confusion.tolist(),
    }


def landmark_scores(network: FaceNetwork, pack: Path) -> dict[str, Any]:
    """Median and 95th percentile of the error over the distance of the outer eye corners."""
    canvases, taught = load([pack])
    points, _ = predict(network, canvases, flip=False)
    errors = nme((points + 0.5) / CROP_SIZE_PX, taught)
    return {
        "pictures": len(taught),
        "median_nme": _round(errors.median()),
        "p95_nme": _round(errors.quantile(0.95)),
    }


def evaluate(network: FaceNetwork, data: Path) -> dict[str, Any]:
    """All figures of a network; ``data`` holds the packs."""
    test = data / "ferplus_test"
    faces, votes = load_faces(test), Pack.open(test).column("votes").astype(np.int64)
    counted = {name: by_protocol(name, votes)[0] for name in PROTOCOLS}
    counted["ferplus-new"] = ~seen_elsewhere(test, data / "ferplus_train")
    results: dict[str, Any] = {}
    for flip in (False, True):
        _, probabilities = predict(network, faces.canvases, flip)
        for name, keep in counted.items():
            results[f"{name}-flip" if flip else name] = scores(probabilities, faces, keep)
    results["landmarks-lfwx"] = landmark_scores(network, data / "lfwx_test")
    return results


def _round(value: Tensor) -> float:
    return round(float(value), 4)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("model", help="name or folder of a model")
    parser.add_argument("data", type=Path)
    arguments = parser.parse_args()
    folder = find_model(arguments.model)
    results = evaluate(load_model(folder), arguments.data)
    text = json.dumps(results, indent=1)
    (folder / "metrics.json").write_text(text + "\n", encoding="utf-8")
    (folder / "CARD.md").write_text(card_text(read_card(folder), results), encoding="utf-8")
    for name, figures in results.items():
        print(
            name, {key: value for key, value in figures.items() if isinstance(value, (int, float))}
        )


if __name__ == "__main__":
    main()
