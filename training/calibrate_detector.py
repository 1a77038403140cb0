"""``python -m training.calibrate_detector TRAIN VALID``: CenterFace in int8.

TRAIN and VALID are labeled photographs, such as Parquet files. Measures the ranges of the
activations on photographs of TRAIN, pasted into textures, and compares int8 with fp32 on those of
VALID, both in the detector of ``fer analyze``: recall and false detections for photographs of
several heights. Writes the ranges into the package when mean recall falls by less than half a
point.
"""

import argparse
import json
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np
import onnx
from numpy.typing import NDArray
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, create_calibrator

from fer_ros.boxes import iou
from fer_ros.config import DetectorConfig
from fer_ros.detector import ImageDetector
from fer_ros.detectors.base import pad_to_multiple
from fer_ros.detectors.centerface import CenterFace, find_model, load_centerface
from fer_ros.detectors.centerface_int8 import OPERATORS, RANGES_FILE, name_nodes, quantize
from fer_ros.detectors.session import DetectorSession, SessionNetwork
from fer_ros.inference.onnx_session import OnnxSession
from fer_ros.io.progress import progress_bar
from training.command_line import report_error
from training.datasets.localization import decode_image, fit_size
from training.datasets.readers.registry import open_source
from training.datasets.records import DatasetSource, SourceRequest
from training.datasets.scenes import textured_frame
from training.timing import time_interleaved

MAX_RECALL_DROP = 0.005
"""Largest drop of a recall with which int8 is kept."""

_CALIBRATION_WH, _CALIBRATION_SCENES, _CALIBRATION_PX = (320, 256), 240, (16, 192)
_SCENE_WH, _SCENES, _HEIGHTS_PX = (640, 480), 300, (32, 64, 128, 256)
_MIN_IOU = 0.25  # a photograph is larger than its face
_SEED = 0
_SECONDS = 20.0

Image = NDArray[np.uint8]
Ranges = dict[str, tuple[float, float]]


class GraphDetector(CenterFace):
    """CenterFace with a given graph, on one thread of the CPU."""

    def __init__(self, graph: onnx.ModelProto) -> None:
        session = OnnxSession(graph.SerializeToString(), threads=1)
        SessionNetwork.__init__(self, DetectorSession(session, lambda: session))


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return 1 when int8 is not kept."""
    parser = argparse.ArgumentParser(prog="python -m training.calibrate_detector")
    parser.description = __doc__.split("\n\n")[1]
    parser.add_argument("train", metavar="TRAIN", type=Path, help="photographs to calibrate on")
    parser.add_argument("valid", metavar="VALID", type=Path, help="photographs to compare on")
    arguments = parser.parse_args(argv)
    try:
        train, valid = (
            open_source(SourceRequest(path)) for path in (arguments.train, arguments.valid)
        )
        return _run(train, valid)
    except (ValueError, OSError) as error:
        return report_error("calibrate_detector", error)


def _run(train: DatasetSource, valid: DatasetSource) -> int:
    fp32 = name_nodes(load_centerface(find_model("")))
    ranges = measure_ranges(fp32, train)
    networks = [GraphDetector(fp32)]
    networks.append(GraphDetector(quantize(fp32, ranges)))
    recalls, false_faces = compare(networks, valid)
    for height_px, recall in zip(_HEIGHTS_PX, recalls, strict=True):
        print(f"photographs of {height_px} px: recall {recall[0]:.2%}, int8 {recall[1]:.2%}")
    scenes = _SCENES * len(_HEIGHTS_PX)
    print(f"false faces in {scenes} scenes: {false_faces[0]}, int8 {false_faces[1]}")
    fp32_ms, int8_ms = latencies_ms(networks)
    print(f"320x256: {fp32_ms:.1f} ms, int8 {int8_ms:.1f} ms, ratio {int8_ms / fp32_ms:.2f}")
    drop = float(recalls[:, 0].mean() - recalls[:, 1].mean())
    if drop >= MAX_RECALL_DROP:
        error = f"int8 is not kept: it loses {drop:.2%} of recall"
        return report_error("calibrate_detector", error)
    RANGES_FILE.write_text(json.dumps(ranges, indent=0, sort_keys=True) + "\n", encoding="utf-8")
    print(f"{RANGES_FILE}: {len(ranges)} activations")
    return 0


def latencies_ms(networks: list[GraphDetector]) -> list[float]:
    """Median milliseconds of each network for an image of 320x256, in alternation."""
    image_rgb = np.zeros((256, 320, 3), np.uint8)
    works = {
        number: lambda network=network: network.detect(image_rgb, 0.5, 0.3)
        for number, network in enumerate(networks)
    }
    return list(time_interleaved(works, _SECONDS).values())


def photographs(source: DatasetSource, count: int) -> Iterator[Image]:
    """Decode ``count`` photographs of a source, drawn at random."""
    order = np.random.default_rng(_SEED).permutation(len(source.samples))[:count]
    samples = source.at(order.tolist())
    for sample, data in zip(samples, source.read(samples), strict=True):
        yield decode_image(data, sample.name)


def paste(
    photograph_rgb: Image, height_px: int, size_wh: tuple[int, int], random: np.random.Generator
) -> tuple[Image, NDArray[np.float32]]:
    """A texture (H, W, 3) with a photograph whose long side is ``height_px``, and its box (4,)."""
    scene_rgb = textured_frame(random, size_wh)
    scale, (width, height) = fit_size(photograph_rgb, height_px)
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    x, y = (
        int(random.integers(outer - inner + 1))
        for outer, inner in zip(size_wh, (width, height), strict=True)
    )
    scene_rgb[y : y + height, x : x + width] = cv2.resize(
        photograph_rgb, (width, height), interpolation=method
    )
    return scene_rgb, np.array([x, y, x + width, y + height], np.float32)


def measure_ranges(model: onnx.ModelProto, source: DatasetSource) -> Ranges:
    """Lowest and highest value of each activation on scenes of a source."""
    with tempfile.TemporaryDirectory() as folder:
        path, augmented = Path(folder) / "fp32.onnx", Path(folder) / "augmented.onnx"
        onnx.save(model, path)
        calibrator = create_calibrator(
            path, OPERATORS, str(augmented), calibrate_method=CalibrationMethod.MinMax
        )
        calibrator.collect_data(_CalibrationReader(model.graph.input[0].name, source))
        ranges = calibrator.compute_data()
    return {
        name: (data.range_value[0].item(), data.range_value[1].item())
        for name, data in ranges.items()
    }


def compare(
    networks: list[GraphDetector], source: DatasetSource
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Recall (heights, networks) of photographs in scenes, and numbers of other detections."""
    detectors = [ImageDetector(network, DetectorConfig()) for network in networks]
    found = np.zeros((len(_HEIGHTS_PX), len(networks)))
    false_faces = np.zeros(len(networks), np.int64)
    random = np.random.default_rng(_SEED)
    for photograph in progress_bar(
        photographs(source, _SCENES), total=_SCENES, description="photographs"
    ):
        for row, height_px in enumerate(_HEIGHTS_PX):
            scene_rgb, box = paste(photograph, height_px, _SCENE_WH, random)
            for column, detector in enumerate(detectors):
                overlaps = iou(box[None], detector.detect(scene_rgb).boxes_xyxy)[0]
                found[row, column] += (overlaps >= _MIN_IOU).any()
                false_faces[column] += (overlaps < _MIN_IOU).sum()
    return found / _SCENES, false_faces


class _CalibrationReader(CalibrationDataReader):
    def __init__(self, input_name: str, source: DatasetSource) -> None:
        self._batches = self._read(input_name, source)

    def get_next(self) -> dict[str, NDArray[np.float32]] | None:
        return next(self._batches, None)

    @staticmethod
    def _read(input_name: str, source: DatasetSource) -> Iterator[dict[str, NDArray[np.float32]]]:
        random = np.random.default_rng(_SEED)
        for photograph in progress_bar(
            photographs(source, _CALIBRATION_SCENES),
            total=_CALIBRATION_SCENES,
            description="calibration",
        ):
            height_px = round(np.exp(random.uniform(*np.log(_CALIBRATION_PX))))
            scene_rgb, _ = paste(photograph, height_px, _CALIBRATION_WH, random)
            yield {input_name: pad_to_multiple(scene_rgb)}


if __name__ == "__main__":
    raise SystemExit(main())
