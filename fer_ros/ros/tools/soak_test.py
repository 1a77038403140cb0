"""Endurance test of the node over DDS: random scenes for minutes or days, then leak checks.

    python -m fer_ros.ros.tools.soak_test --minutes 30 --out out/soak

This process publishes images and subscribes to results; the emotion node runs in a child process.
Writes ``soak.png``, ``soak.csv`` with one line per second, and the log of the node into the folder.
The exit code is 1 when a resource leaked, when latency increased, or when the node ended.
"""

import argparse
import csv
import math
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
import psutil
from matplotlib.figure import Figure
from numpy.typing import NDArray
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from sensor_msgs.msg import Image
from std_msgs.msg import Header
from vision_msgs.msg import Detection2DArray

from fer_ros.io.synthetic import SIZE_WH, synthetic_face, synthetic_frames
from fer_ros.ros.convert import stamp_s, to_image
from fer_ros.ros.runtime import NodeProcess, rclpy_context
from fer_ros.ros.tools.isolated_domain import isolated_domain

FPS = 10.0
MAX_FACES = 10
_NUM_PARTS = 10  # of a run; each shows the same scenes, so that they are comparable
_MAX_GROWTH_MIB = 20.0
_MAX_SLOWDOWN = 1.2
_SAMPLE_PERIOD_S = 1.0
_STARTUP_TIMEOUT_S = 120.0  # imports and model loading on a slow machine
_FACE_FRAME = 37  # frame of the synthetic video with a large, complete face
_FACE_HEIGHTS_PX = (50, 130)
_DURATIONS_S = (1.0, 6.0)


@dataclass(frozen=True)
class Sample:
    """One second of a run: memory in MiB, counts, and latency from image stamp to result.

    ``latency_p50_ms`` and ``latency_p95_ms`` are NaN in a second without a result.
    """

    at_s: float
    rss_mib: float
    threads: int
    files: int
    publishers: int
    faces: int
    latency_p50_ms: float
    latency_p95_ms: float


class SoakError(Exception):
    """The run cannot continue; the message is one line."""


class SyntheticScene:
    """0 to 10 faces that enter, move and leave; deterministic for a seed."""

    def __init__(self, duration_s: float, seed: int = 0) -> None:
        """The scene is empty at its start and at its end, ``duration_s`` later."""
        random = np.random.default_rng(seed)
        (frame,) = islice(synthetic_frames(), _FACE_FRAME, _FACE_FRAME + 1)
        face = synthetic_face(_FACE_FRAME)
        assert face is not None, "the frame shows a face"
        left, top, right, bottom = face.box_xyxy.round().astype(int)
        margin = (bottom - top) // 4
        self._face_rgb = frame.image_rgb[top - margin : bottom + margin, left:right]
        self._background_rgb = next(synthetic_frames()).image_rgb
        count = max(2, round(2 * MAX_FACES * duration_s / 10))
        self._trajectories = [_FaceTrajectory.draw(random, duration_s) for _ in range(count)]

    def image_at(self, at_s: float) -> NDArray[np.uint8]:
        """Image (480, 640, 3), RGB, ``at_s`` seconds after the start."""
        image_rgb = self._background_rgb.copy()
        visible = [face for face in self._trajectories if face.start_s <= at_s < face.end_s]
        for face in visible[:MAX_FACES]:
            face.paint(self._face_rgb, image_rgb, at_s)
        return image_rgb


@dataclass(frozen=True)
class _FaceTrajectory:
    start_s: float
    end_s: float
    height_px: int
    from_xy: NDArray[np.float64]
    to_xy: NDArray[np.float64]

    @classmethod
    def draw(cls, random: np.random.Generator, duration_s: float) -> "_FaceTrajectory":
        start_s = random.uniform(0.15, 0.8) * duration_s
        end_s = min(start_s + random.uniform(*_DURATIONS_S), 0.9 * duration_s)
        height_px = int(random.integers(*_FACE_HEIGHTS_PX))
        return cls(start_s, end_s, height_px, *random.uniform(0, SIZE_WH, (2, 2)))

    def paint(self, face_rgb: NDArray[np.uint8], image_rgb: NDArray[np.uint8], at_s: float) -> None:
        """Paint the face at its current position, which may be partly outside the image."""
        progress = (at_s - self.start_s) / (self.end_s - self.start_s)
        center = self.from_xy + progress * (self.to_xy - self.from_xy)
        scale = self.height_px / face_rgb.shape[0]
        offset = center - scale * np.array(face_rgb.shape[1::-1]) / 2
        to_image_px = np.array([[scale, 0, offset[0]], [0, scale, offset[1]]])
        cv2.warpAffine(
            face_rgb, to_image_px, SIZE_WH, dst=image_rgb, borderMode=cv2.BORDER_TRANSPARENT
        )


class Observer(Node):
    """Publishes the scene and measures the latency of the results."""

    def __init__(self, part_s: float) -> None:
        super().__init__("soak_test")
        self.num_results = 0
        self.num_faces = 0
        self.latencies_ms: list[float] = []
        self._scene = SyntheticScene(part_s)
        self._part_s = part_s
        self.start_s = time.monotonic()  # of the scenes
        self._publisher = self.create_publisher(Image, "image", 1)
        self.create_subscription(Detection2DArray, "emotion_node/emotions", self._on_result, 10)
        self.create_timer(1 / FPS, self._on_timer)

    def count_topics(self) -> int:
        """Number of topics that the emotion node publishes."""
        topics = self.get_publisher_names_and_types_by_node("emotion_node", "/")
        return len(topics)

    def _on_timer(self) -> None:
        at_s = (time.monotonic() - self.start_s) % self._part_s
        stamp = self.get_clock().now().to_msg()
        header = Header(stamp=stamp, frame_id="soak_test")
        self._publisher.publish(to_image(self._scene.image_at(at_s), header))

    def _on_result(self, message: Detection2DArray) -> None:
        self.num_results += 1
        self.num_faces = len(message.detections)
        now_s = self.get_clock().now().nanoseconds * 1e-9
        self.latencies_ms.append((now_s - stamp_s(message.header)) * 1000)


def observe(duration_s: float, out: Path, stop_requested: threading.Event) -> list[Sample]:
    """Take one sample per second; stop early when ``stop_requested`` is set.

    Raises SoakError when the node does not respond or has ended.
    """
    observer = Observer(duration_s / _NUM_PARTS)
    executor = SingleThreadedExecutor()
    executor.add_node(observer)
    try:
        with NodeProcess("emotion_node", out) as process:
            _wait_for_result(observer, executor, process, stop_requested)
            return list(_samples(observer, executor, process, duration_s, stop_requested))
    finally:
        executor.shutdown()
        observer.destroy_node()


def _wait_for_result(
    observer: Observer,
    executor: SingleThreadedExecutor,
    process: NodeProcess,
    stop_requested: threading.Event,
) -> None:
    deadline_s = time.monotonic() + _STARTUP_TIMEOUT_S
    while not observer.num_results and not stop_requested.is_set():
        executor.spin_once(timeout_sec=0.1)
        _check_process(process)
        if time.monotonic() > deadline_s:
            raise SoakError(
                f"the emotion node published no result within {_STARTUP_TIMEOUT_S:.0f} s; "
                f"last line of its log: {process.last_error_line()}"
            )


def _check_process(process: NodeProcess) -> None:
    if process.exit_code() is not None:
        raise SoakError(
            f"the emotion node ended with exit code {process.exit_code()}; "
            f"last line of its log: {process.last_error_line()}"
        )


def _samples(
    observer: Observer,
    executor: SingleThreadedExecutor,
    process: NodeProcess,
    duration_s: float,
    stop_requested: threading.Event,
) -> Iterator[Sample]:
    start_s = observer.start_s = time.monotonic()
    next_s = start_s + _SAMPLE_PERIOD_S
    while next_s <= start_s + duration_s and not stop_requested.is_set():
        executor.spin_once(timeout_sec=max(0.0, next_s - time.monotonic()))
        _check_process(process)
        if time.monotonic() >= next_s:
            yield _sample(observer, process.pid, next_s - start_s)
            next_s += _SAMPLE_PERIOD_S


def _sample(observer: Observer, pid: int, at_s: float) -> Sample:
    process = psutil.Process(pid)
    latencies_ms = observer.latencies_ms or [math.nan]
    median, percentile_95 = np.percentile(latencies_ms, (50, 95))
    observer.latencies_ms = []
    return Sample(
        at_s=at_s,
        rss_mib=process.memory_info().rss / 2**20,
        threads=process.num_threads(),
        files=process.num_fds(),
        publishers=observer.count_topics(),
        faces=observer.num_faces,
        latency_p50_ms=float(median),
        latency_p95_ms=float(percentile_95),
    )


def evaluate_run(samples: list[Sample]) -> list[tuple[bool, str]]:
    """Check memory, counts and latency; return for each check whether it passed, and a text.

    The run has ten parts. Memory and counts of the second part, after warm-up, are compared with
    those of the last one; latency of the first part with that of the last one.
    """
    parts = np.array_split(
        np.array([list(asdict(sample).values()) for sample in samples]), _NUM_PARTS
    )
    if not samples or min(len(part) for part in parts) == 0:
        return [(False, f"{len(samples)} samples are too few: expected {_NUM_PARTS} or more")]
    names = [item.name for item in fields(Sample)]
    column = {name: [part[:, names.index(name)] for part in parts] for name in names}
    memory_mib = [float(np.median(part)) for part in column["rss_mib"]]
    grown_mib = memory_mib[-1] - memory_mib[1]
    checks = [
        (
            grown_mib < _MAX_GROWTH_MIB,
            f"memory: {memory_mib[1]:.0f} MiB, at the end {memory_mib[-1]:.0f} MiB: "
            f"{grown_mib:+.1f} MiB, limit {_MAX_GROWTH_MIB:.0f} MiB",
        )
    ]
    for name in ("threads", "files", "publishers"):
        before, after = int(column[name][1].min()), int(column[name][-1].min())
        checks.append((after <= before, f"{name}: {before}, at the end {after}"))
    return [*checks, _check_latency(column["latency_p95_ms"])]


def _check_latency(parts_ms: list[NDArray[np.float64]]) -> tuple[bool, str]:
    """Compare the latency of two parts; seconds without a result are NaN."""
    measured = [part[np.isfinite(part)] for part in (parts_ms[0], parts_ms[-1])]
    if min(len(part) for part in measured) == 0:
        return False, "latency: no results in the first or in the last part"
    first_ms, last_ms = (float(np.median(part)) for part in measured)
    return (
        last_ms <= _MAX_SLOWDOWN * first_ms,
        f"latency p95: {first_ms:.0f} ms, at the end {last_ms:.0f} ms: "
        f"{last_ms / first_ms:.2f} times, limit {_MAX_SLOWDOWN} times",
    )


def draw_samples(samples: list[Sample], path: Path) -> None:
    """Plot memory, counts, faces and latency over time."""
    minutes = [sample.at_s / 60 for sample in samples]
    figure = Figure(figsize=(10, 9), layout="constrained")
    axes = figure.subplots(4, 1, sharex=True)
    panels = (
        ("MiB", ("rss_mib",)),
        ("count", ("threads", "files", "publishers")),
        ("faces", ("faces",)),
        ("ms", ("latency_p50_ms", "latency_p95_ms")),
    )
    for axis, (unit, names) in zip(axes, panels, strict=True):
        for name in names:
            axis.plot(minutes, [getattr(sample, name) for sample in samples], label=name)
        axis.set(ylabel=unit)
        axis.set_ylim(bottom=0)
        axis.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    axes[-1].set(xlabel="minutes")
    figure.savefig(path, dpi=100)


def _write(samples: list[Sample], path: Path) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [item.name for item in fields(Sample)])
        writer.writeheader()
        writer.writerows(asdict(sample) for sample in samples)


def main(args: list[str] | None = None) -> int:
    """Run the test; return 0 when all checks pass, 1 if not, 130 after Ctrl-C."""
    parser = argparse.ArgumentParser(
        prog="fer_ros.ros.tools.soak_test", description=__doc__.split("\n")[0]
    )
    parser.add_argument("--minutes", type=float, default=30.0, help="default: %(default)s")
    parser.add_argument("--out", metavar="FOLDER", type=Path, default=Path("out/soak"))
    options = parser.parse_args(args)
    out: Path = options.out
    try:
        out.mkdir(parents=True, exist_ok=True)
        with isolated_domain(), rclpy_context([]) as stop_requested:
            samples = observe(options.minutes * 60, out, stop_requested)
            if stop_requested.is_set():
                return 130
        _write(samples, out / "soak.csv")
        draw_samples(samples, out / "soak.png")
    except (SoakError, OSError) as error:
        print(f"soak_test: {error}", file=sys.stderr)
        return 1
    checks = evaluate_run(samples)
    for passed, text in checks:
        print("ok    " if passed else "FAILED", text)
    return 0 if all(passed for passed, _ in checks) else 1


if __name__ == "__main__":
    sys.exit(main())
