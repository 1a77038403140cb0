"""``python -m training.detection_benchmark``: from which height on faces are found, and the cost.

Portraits of which scikit-image and Matplotlib ship one each (E. Collins and G. Hopper, both in the
public domain) appear in background images without people, at every height and frame size. All plans
see the same frames in turn, in one process. Times are CPU times of the process, so that their
ratios hold on a busy machine. ``--write`` puts the results into BENCHMARKS.md and draws the plot.
Fewer ``--sequences`` take proportionally less time; the page names their number.
"""

import argparse
import csv
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from time import process_time

import numpy as np
from numpy.typing import NDArray

from fer_ros.boxes import iou
from fer_ros.config import DetectorConfig, TrackerConfig
from fer_ros.detection_scheduler import DetectionScheduler
from fer_ros.detector import ImageDetector, make_detector
from fer_ros.detectors.base import DetectorError
from fer_ros.detectors.centerface import find_model, uses_int8
from fer_ros.io.image_decoding import decode_image_file
from fer_ros.io.progress import progress_bar
from fer_ros.tracker import Tracker
from fer_ros.types import FaceDetections, TrackedFace
from training.command_line import report_error
from training.datasets.scenes import add_noise, add_portrait, textured_frame
from training.reports import detection as report

FPS = 15.0
SIZES_WH = {"VGA": (640, 480), "720p": (1280, 720), "1080p": (1920, 1080), "4K": (3840, 2160)}
HEIGHTS_PX = (12, 16, 20, 24, 32, 48, 64, 96, 160)
FILLING = 0.95  # of the frame's height: a face that fills it
SECOND_HEIGHTS_PX = (20, 24, 32, 48)  # of faces that appear while another one is tracked

_MIN_IOU = 0.3
_EMPTY_FRAMES = (5, 12)  # before the face appears, so that it meets every phase of the plan
_SECONDS = 1.2
_SECOND_FACE_SECONDS = 2.2
_TRACKED_HEIGHT = 0.2  # of the frame's height
_THREADS = 2

Detect = Callable[[NDArray[np.uint8], float, Sequence[TrackedFace]], FaceDetections]


@dataclass(eq=False)
class Plan:
    """One way to search frames; ``start`` gives the function that searches those of a stream."""

    name: str
    start: Callable[[], Detect]
    spent_ms: dict[str, list[float]] = field(default_factory=dict)  # by frame size
    first_s: dict[tuple[str, int], list[float]] = field(default_factory=dict)  # by size and height
    false_frames: int = 0


@dataclass(frozen=True)
class Results:
    """Everything that the report shows; ``groups`` has the share of boxes found, by plan.

    ``second_face`` are the same plans, with faces that appear while another one is tracked.
    """

    plans: list[Plan]
    second_face: list[Plan]
    textured_frames: int
    groups: dict[str, float]
    num_group_boxes: int


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; ``argv`` has no program name."""
    parser = argparse.ArgumentParser(
        prog="python -m training.detection_benchmark", description=__doc__
    )
    parser.add_argument(
        "--sequences", type=int, default=6, metavar="N", help="sequences of each face height"
    )
    parser.add_argument("--sizes", nargs="+", choices=SIZES_WH, default=list(SIZES_WH))
    parser.add_argument(
        "--textured", type=int, default=1000, metavar="N", help="textured frames without people"
    )
    parser.add_argument("--yunet", metavar="FILE", help="measure YuNet as well")
    parser.add_argument("--groups", metavar="FOLDER", help="photographs with boxes.csv")
    parser.add_argument("--write", action="store_true", help="update BENCHMARKS.md and its plot")
    arguments = parser.parse_args(argv)
    try:
        plans = make_plans(arguments.yunet)
        second_face = [Plan(plan.name, plan.start) for plan in plans]
        for size in arguments.sizes:
            measure_size(plans, size, arguments.sequences)
            measure_second_face(second_face, size, arguments.sequences)
        measure_textures(plans, arguments.textured)
        groups, count = measure_groups(arguments.yunet, arguments.groups)
    except (DetectorError, OSError) as error:
        return report_error("detection_benchmark", error)
    results = Results(plans, second_face, arguments.textured, groups, count)
    if arguments.write:
        report.write(results, Path(__file__).parents[1])
    print(report.page(results))
    return 0


def detector_configs(yunet_path: str | None) -> dict[str, DetectorConfig]:
    """The detectors by name: CenterFace in fp32, in int8 where this CPU suits it, and YuNet."""
    configs = {"centerface": DetectorConfig(model_path=str(find_model("")))}
    if uses_int8(""):
        configs["centerface in int8"] = DetectorConfig()
    if yunet_path:
        configs["yunet"] = DetectorConfig(name="yunet", model_path=yunet_path)
    return configs


def full_pass(config: DetectorConfig) -> DetectorConfig:
    """The same detector, which searches each image once at the size of the reference."""
    return replace(config, input_size_px=report.REFERENCE_PX)


def make_plans(yunet_path: str | None) -> list[Plan]:
    """One full pass in fp32 on every frame as a reference, then each detector's planned search."""
    configs = detector_configs(yunet_path)
    reduced = make_detector(full_pass(configs["centerface"]), _THREADS)
    plans = [Plan(report.REFERENCE, lambda: lambda image, time_s, tracked: reduced.detect(image))]
    for name, config in configs.items():
        detector = make_detector(config, _THREADS)

        def start(detector: ImageDetector = detector) -> Detect:
            scheduler = DetectionScheduler(detector)
            return lambda image, time_s, tracked: scheduler.detect(
                image, time_s, tracked, [face.id for face in tracked]
            )

        plans.append(Plan(f"{name}, planned", start))
    return plans


def measure_size(plans: list[Plan], size: str, sequences: int) -> None:
    """Sequences in which one face appears, for every height, in frames of one size."""
    width, height = SIZES_WH[size]
    heights = [*HEIGHTS_PX, round(FILLING * height)]
    cases = [(px, number) for px in heights for number in range(sequences)]
    for face_px, number in progress_bar(cases, description=size):
        random = np.random.default_rng((face_px, number, width))
        background = textured_frame(random, (width, height))
        with_face, box = add_portrait(background, face_px, random, number)
        frames = (background, with_face)
        _search_sequence(plans, (size, face_px), frames, box, random, _SECONDS)


def measure_second_face(plans: list[Plan], size: str, sequences: int) -> None:
    """Sequences in which a face appears while another one is tracked."""
    width, height = SIZES_WH[size]
    cases = [(px, number) for px in SECOND_HEIGHTS_PX for number in range(sequences)]
    for face_px, number in progress_bar(cases, description=f"{size}, second face"):
        random = np.random.default_rng((face_px, number, width, 2))
        background = textured_frame(random, (width, height))
        tracked_px = round(_TRACKED_HEIGHT * height)
        background, tracked_box = add_portrait(background, tracked_px, random, number + 1)
        left, top, right, bottom = tracked_box.astype(int)
        tracked = np.s_[top:bottom, left:right]
        with_face, box = add_portrait(background, face_px, random, number)
        while not np.array_equal(with_face[tracked], background[tracked]):
            with_face, box = add_portrait(background, face_px, random, number)
        frames = (background, with_face)
        _search_sequence(plans, (size, face_px), frames, box, random, _SECOND_FACE_SECONDS)


def _search_sequence(
    plans: list[Plan],
    key: tuple[str, int],
    frames: tuple[NDArray[np.uint8], NDArray[np.uint8]],
    box_xyxy: NDArray[np.float32],
    random: np.random.Generator,
    seconds: float,
) -> None:
    """Add to each plan when it finds a face that appears, and what each frame costs.

    ``frames`` are those before and after; ``key`` is their size and the height of the face.
    """
    empty = int(random.integers(*_EMPTY_FRAMES))
    images = [frames[0]] * empty + [frames[1]] * round(seconds * FPS)
    streams = [(plan, plan.start(), Tracker(TrackerConfig())) for plan in plans]
    tracked: list[list[TrackedFace]] = [[] for _ in plans]
    found_s = [np.inf] * len(plans)
    for index, image in enumerate(images):
        frame = add_noise(image, random)
        for at, (plan, detect, tracker) in enumerate(streams):
            began_s = process_time()
            faces = detect(frame, index / FPS, tracked[at])
            if index:  # the first frame of a stream is searched whole
                spent_ms = (process_time() - began_s) * 1000
                plan.spent_ms.setdefault(key[0], []).append(spent_ms)
            tracked[at] = tracker.update(faces, index / FPS)
            if index >= empty and _shows(tracked[at], box_xyxy):
                found_s[at] = min(found_s[at], (index - empty) / FPS)
    for plan, first_s in zip(plans, found_s, strict=True):
        plan.first_s.setdefault(key, []).append(first_s)


def measure_textures(plans: list[Plan], frames: int) -> None:
    """Frames of a camera that pans over scenes without people; any confirmed face is false."""
    streams = [(plan, plan.start(), Tracker(TrackerConfig())) for plan in plans]
    tracked: list[list[TrackedFace]] = [[] for _ in plans]
    wide = (SIZES_WH["VGA"][0] + 60, SIZES_WH["VGA"][1])
    for number in progress_bar(range(frames), description="textures"):
        if number % 30 == 0:
            random = np.random.default_rng(number)
            scene = textured_frame(random, wide)
        at = 2 * (number % 30)
        frame = add_noise(scene[:, at : at + 640], random)
        for index, (plan, detect, tracker) in enumerate(streams):
            tracked[index] = tracker.update(
                detect(frame, number / FPS, tracked[index]), number / FPS
            )
            plan.false_frames += bool(tracked[index])


def measure_groups(yunet_path: str | None, folder: str | None) -> tuple[dict[str, float], int]:
    """Share of the boxes of ``boxes.csv`` that are found in each photograph by itself."""
    if not folder:
        return {}, 0
    ranges = detector_configs(yunet_path)
    configs = {report.REFERENCE: full_pass(ranges["centerface"])}
    configs |= {f"{name}, whole range": config for name, config in ranges.items()}
    detectors = {name: make_detector(config, _THREADS) for name, config in configs.items()}
    hits = dict.fromkeys(configs, 0)
    photographs = list(_photographs(Path(folder)))
    for image_rgb, boxes in photographs:
        for name, detector in detectors.items():
            overlap = iou(boxes, detector.detect(image_rgb).boxes_xyxy)
            hits[name] += int((overlap > _MIN_IOU).any(axis=1).sum())
    count = sum(len(boxes) for _, boxes in photographs)
    return {name: hit / count for name, hit in hits.items()}, count


def _photographs(folder: Path) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.float32]]]:
    rows: dict[str, list[list[float]]] = {}
    with (folder / "boxes.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            x, y, width, height = (float(row[key]) for key in ("x", "y", "w", "h"))
            rows.setdefault(row["file"], []).append([x, y, x + width, y + height])
    for name, boxes in rows.items():
        yield decode_image_file((folder / name).read_bytes()), np.array(boxes, np.float32)


def _shows(faces: list[TrackedFace], box_xyxy: NDArray[np.float32]) -> bool:
    boxes = np.array([face.box_xyxy for face in faces], np.float32).reshape(-1, 4)
    return bool((iou(box_xyxy[None], boxes) > _MIN_IOU).any())


if __name__ == "__main__":
    raise SystemExit(main())
