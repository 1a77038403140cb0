"""``python -m training.quantize MODEL DATA OUT``: quantize a model to int8, if it stays accurate.

DATA is the folder of the datasets that the model was trained with. Calibrates on faces of
``ferplus_train``. Writes the model folder OUT when the accuracy on ``ferplus_valid`` is at most
half a point below that of MODEL, and the landmarks differ by at most half a pixel on average.
Reports ``ferplus_test``, and latencies measured in alternation.
"""

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fer_ros.config import ClassifierConfig
from fer_ros.inference.backends.onnx_cache import load_or_export
from fer_ros.inference.backends.quantization import quantize, save_quantized
from fer_ros.inference.model_store import find_model, read_manifest
from fer_ros.inference.onnx_session import OnnxSession
from fer_ros.io.progress import progress_bar
from fer_ros.types import CROP_SIZE_PX
from training.command_line import report_error
from training.datasets.shards import CROP_SLICE, gray_to_rgb
from training.datasets.splits import load_faces
from training.timing import time_interleaved

MAX_ACCURACY_DROP = 0.005
"""Largest drop of the accuracy with which int8 is kept."""

MAX_LANDMARK_SHIFT_PX = 0.5
"""Largest mean shift of the landmarks, in pixels of the crop; the eyes are 30 px apart."""

_FACES = 256
_SEED = 0
_BATCH = 32
_SECONDS = 20.0


@dataclass(frozen=True)
class QuantizationResult:
    """Accuracies; ``landmark_shift_px``: mean distance of the landmarks in crop pixels."""

    images: int
    accuracy: float
    int8_accuracy: float
    landmark_shift_px: float


def labeled_crops(dataset: Path) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Gray crops (N, 112, 112) and labels (N,). Raises ValueError without labels."""
    faces = load_faces(dataset)
    return faces.padded_crops.numpy()[:, CROP_SLICE, CROP_SLICE], faces.labels.numpy()


def compare(fp32: OnnxSession, int8: OnnxSession, dataset: Path) -> QuantizationResult:
    """Run both on all faces of a dataset. Raises ValueError when it cannot be used."""
    crops, labels = labeled_crops(dataset)
    correct, shift_px = np.zeros((2, len(crops)), np.bool_), np.zeros(len(crops))
    for start in progress_bar(range(0, len(crops), _BATCH), description=dataset.name):
        part = slice(start, start + _BATCH)
        outputs = [session.run(gray_to_rgb(crops[part])) for session in (fp32, int8)]
        for is_correct, (_, probabilities, *_) in zip(correct, outputs, strict=True):
            is_correct[part] = probabilities.argmax(axis=1) == labels[part]
        shift_px[part] = np.linalg.norm(outputs[0][0] - outputs[1][0], axis=2).mean(axis=1)
    accuracy, int8_accuracy = correct.mean(axis=1).tolist()
    return QuantizationResult(len(crops), accuracy, int8_accuracy, float(shift_px.mean()))


def latencies(fp32: OnnxSession, int8: OnnxSession, seconds: float = _SECONDS) -> Iterator[str]:
    """Lines with the latencies for one face and for five."""
    works = {
        (name, count): lambda session=session, count=count: session.run(
            np.zeros((count, CROP_SIZE_PX, CROP_SIZE_PX, 3), np.uint8)
        )
        for count in (1, 5)
        for name, session in (("fp32", fp32), ("int8", int8))
    }
    times_ms = time_interleaved(works, seconds)
    for count in (1, 5):
        fp32_ms, int8_ms = (times_ms[name, count] for name in ("fp32", "int8"))
        ratio = int8_ms / fp32_ms
        yield f"faces {count}: {fp32_ms:.1f} ms, int8 {int8_ms:.1f} ms, ratio {ratio:.2f}"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return 1 when int8 is not kept."""
    parser = argparse.ArgumentParser(prog="python -m training.quantize", description=__doc__)
    parser.add_argument("model", metavar="MODEL", help="name or folder of a model")
    parser.add_argument("data", metavar="DATA", type=Path, help="folder of datasets")
    parser.add_argument("out", metavar="OUT", type=Path, help="the model folder to write")
    arguments = parser.parse_args(argv)
    try:
        return _run(arguments.model, arguments.data, arguments.out)
    except (ValueError, OSError) as error:
        return report_error("quantize", error)


def _run(model: str, data: Path, out: Path) -> int:
    manifest = read_manifest(find_model(model))
    graph = load_or_export(manifest)
    crops, _ = labeled_crops(data / "ferplus_train")
    chosen = np.random.default_rng(_SEED).permutation(len(crops))[:_FACES]
    quantized = quantize(graph, gray_to_rgb(crops[chosen]))
    fp32, int8 = (OnnxSession(model, ClassifierConfig.threads) for model in (graph, quantized))
    results = {}
    for split in ("valid", "test"):
        result = results[split] = compare(fp32, int8, data / f"ferplus_{split}")
        print(
            f"{split}, {result.images} faces: accuracy {result.accuracy:.1%}, int8 "
            f"{result.int8_accuracy:.1%}; landmarks shifted by {result.landmark_shift_px:.3f} px "
            "of the crop"
        )
    print(*latencies(fp32, int8), sep="\n")
    drop = results["valid"].accuracy - results["valid"].int8_accuracy
    shift_px = results["valid"].landmark_shift_px
    if drop > MAX_ACCURACY_DROP or shift_px > MAX_LANDMARK_SHIFT_PX:
        error = f"int8 is not kept: it loses {drop:.2%} of accuracy and shifts the landmarks by"
        return report_error("quantize", f"{manifest.name}: {error} {shift_px:.2f} px")
    saved = save_quantized(manifest, quantized, out)
    print(f"{saved.name}: {saved.folder}, {len(quantized) / 2**20:.1f} MiB")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
