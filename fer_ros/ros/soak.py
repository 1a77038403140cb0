"""Does the node keep working? Random scenes over real DDS for minutes or days, and a verdict.

    python -m fer_ros.ros.soak --minutes 30 --out out/soak

This process is the camera and the listener, the emotion node is a process of its own. Leaves
``soak.png``, ``soak.csv`` with one line per second, and the log of the node in the folder. The exit
code is 1 when something leaked, when answers became slower, or when the node ended.
"""

import argparse
import csv
import math
import os
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from sensor_msgs.msg import Image
from std_msgs.msg import Header
from vision_msgs.msg import Detection2DArray

from fer_ros.ros.convert import stamp_s, to_image
from fer_ros.ros.local import free_domain, transport
from fer_ros.ros.process import NodeProcess, ros, status_of
from fer_ros.sample import SIZE_WH, sample_face, sample_frames

FPS = 10.0
MOST_FACES = 10
_PARTS = 10  # of a run; each shows the same scenes, so that they compare
_MOST_GROWTH_MB = 20.0
_MOST_SLOWER = 1.2
_SAMPLE_S = 1.0
_START_S = 120.0  # importing and loading on a slow machine
_PORTRAIT = 37  # a frame of the sample in which the whole face is close
_HEIGHTS_PX = (50, 130)  # of faces
_STAYS_S = (1.0, 6.0)


@dataclass(frozen=True)
class Sample:
    """One second: megabytes, counts, and milliseconds from an image's stamp to its answer.

    ``latency_p50_ms`` and ``latency_p95_ms`` are NaN in a second without an answer.
    """

    at_s: float
    rss_mb: float
    threads: int
    files: int
    publishers: int
    faces: int
    latency_p50_ms: float
    latency_p95_ms: float


class SoakError(Exception):
    """The run cannot go on; the message says why in one line."""


class Crowd:
    """0 to 10 people who come, wander about and leave; the same ones for the same seed."""

    def __init__(self, duration_s: float, seed: int = 0) -> None:
        """Nobody is there at the beginning and at the end, ``duration_s`` later."""
        random = np.random.default_rng(seed)
        (frame,) = islice(sample_frames(), _PORTRAIT, _PORTRAIT + 1)
        face = sample_face(_PORTRAIT)
        assert face is not None, "the sample shows its face there"
        left, top, right, bottom = face.box_xyxy.round().astype(int)
        margin = (bottom - top) // 4
        self._portrait_rgb = frame.image_rgb[top - margin : bottom + margin, left:right]
        self._room_rgb = next(sample_frames()).image_rgb
        count = max(2, round(2 * MOST_FACES * duration_s / 10))
        self._visits = [_Visit.draw(random, duration_s) for _ in range(count)]

    def image_at(self, at_s: float) -> NDArray[np.uint8]:
        """The picture (480, 640, 3), RGB, some seconds after the beginning."""
        image_rgb = self._room_rgb.copy()
        here = [visit for visit in self._visits if visit.begin_s <= at_s < visit.end_s]
        for visit in here[:MOST_FACES]:
            visit.paint(self._portrait_rgb, image_rgb, at_s)
        return image_rgb


@dataclass(frozen=True)
class _Visit:
    begin_s: float
    end_s: float
    height_px: int
    from_xy: NDArray[np.float64]
    to_xy: NDArray[np.float64]

    @classmethod
    def draw(cls, random: np.random.Generator, duration_s: float) -> "_Visit":
        begin_s = random.uniform(0.15, 0.8) * duration_s
        end_s = min(begin_s + random.uniform(*_STAYS_S), 0.9 * duration_s)
        height_px = int(random.integers(*_HEIGHTS_PX))
        return cls(begin_s, end_s, height_px, *random.uniform(0, SIZE_WH, (2, 2)))

    def paint(
        self, portrait_rgb: NDArray[np.uint8], image_rgb: NDArray[np.uint8], at_s: float
    ) -> None:
        """Draws the portrait where the visitor is by now, also beyond the border."""
        way = (at_s - self.begin_s) / (self.end_s - self.begin_s)
        middle = self.from_xy + way * (self.to_xy - self.from_xy)
        scale = self.height_px / portrait_rgb.shape[0]
        shift = middle - scale * np.array(portrait_rgb.shape[1::-1]) / 2
        placed = np.array([[scale, 0, shift[0]], [0, scale, shift[1]]])
        cv2.warpAffine(
            portrait_rgb, placed, SIZE_WH, dst=image_rgb, borderMode=cv2.BORDER_TRANSPARENT
        )


class Observer(Node):
    """Shows the crowd, and hears the answers and how long they took."""

    def __init__(self, part_s: float) -> None:
        super().__init__("soak")
        self.answers = 0
        self.faces = 0
        self.latencies_ms: list[float] = []
        self._crowd = Crowd(part_s)
        self._part_s = part_s
        self.begin_s = time.monotonic()  # of the scenes
        self._camera = self.create_publisher(Image, "image", 1)
        self.create_subscription(Detection2DArray, "emotion_node/emotions", self._hear, 10)
        self.create_timer(1 / FPS, self._show)

    def count_topics(self) -> int:
        """How many the emotion node publishes."""
        topics = self.get_publisher_names_and_types_by_node("emotion_node", "/")
        return len(topics)

    def _show(self) -> None:
        at_s = (time.monotonic() - self.begin_s) % self._part_s
        stamp = self.get_clock().now().to_msg()
        header = Header(stamp=stamp, frame_id="soak")
        self._camera.publish(to_image(self._crowd.image_at(at_s), header))

    def _hear(self, message: Detection2DArray) -> None:
        self.answers += 1
        self.faces = len(message.detections)
        now_s = self.get_clock().now().nanoseconds * 1e-9
        self.latencies_ms.append((now_s - stamp_s(message.header)) * 1000)


def observe(duration_s: float, out: Path, ended: threading.Event) -> list[Sample]:
    """One sample per second of a run, which ends earlier once ``ended`` is set.

    Raises SoakError when the node does not answer, or no longer runs.
    """
    observer = Observer(duration_s / _PARTS)
    executor = SingleThreadedExecutor()
    executor.add_node(observer)
    try:
        with NodeProcess("node", out) as process:
            _wait_for_answer(observer, executor, process, ended)
            return list(_samples(observer, executor, process, duration_s, ended))
    finally:
        executor.shutdown()
        observer.destroy_node()


def _wait_for_answer(
    observer: Observer,
    executor: SingleThreadedExecutor,
    process: NodeProcess,
    ended: threading.Event,
) -> None:
    last_s = time.monotonic() + _START_S
    while not observer.answers and not ended.is_set():
        executor.spin_once(timeout_sec=0.1)
        if process.exit_code() is not None or time.monotonic() > last_s:
            raise SoakError("the node does not answer; its log says why")


def _samples(
    observer: Observer,
    executor: SingleThreadedExecutor,
    process: NodeProcess,
    duration_s: float,
    ended: threading.Event,
) -> Iterator[Sample]:
    begin_s = observer.begin_s = time.monotonic()
    next_s = begin_s + _SAMPLE_S
    while next_s <= begin_s + duration_s and not ended.is_set():
        executor.spin_once(timeout_sec=max(0.0, next_s - time.monotonic()))
        if process.exit_code() is not None:
            raise SoakError(f"the node ended with code {process.exit_code()}; its log says why")
        if time.monotonic() >= next_s:
            yield _sample(observer, process.pid, next_s - begin_s)
            next_s += _SAMPLE_S


def _sample(observer: Observer, pid: int, at_s: float) -> Sample:
    status = status_of(pid)
    heard_ms = observer.latencies_ms or [math.nan]
    middle, high = np.percentile(heard_ms, (50, 95))
    observer.latencies_ms = []
    return Sample(
        at_s=at_s,
        rss_mb=int(status["VmRSS"].split()[0]) / 1024,
        threads=int(status["Threads"]),
        files=sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir()),
        publishers=observer.count_topics(),
        faces=observer.faces,
        latency_p50_ms=float(middle),
        latency_p95_ms=float(high),
    )


def verdict(samples: list[Sample]) -> list[tuple[bool, str]]:
    """Whether it is fine, and in words, for each thing that must not grow.

    The first of ten parts is for warming up: memory and counts of the second are compared with
    those of the last, latency that of the first with that of the last.
    """
    parts = np.array_split(np.array([list(asdict(each).values()) for each in samples]), _PARTS)
    if not samples or min(len(part) for part in parts) == 0:
        return [(False, f"{len(samples)} samples are too few: expected {_PARTS} or more")]
    names = [item.name for item in fields(Sample)]
    column = {name: [part[:, names.index(name)] for part in parts] for name in names}
    memory_mb = [float(np.median(part)) for part in column["rss_mb"]]
    grown_mb = memory_mb[-1] - memory_mb[1]
    found = [
        (
            grown_mb < _MOST_GROWTH_MB,
            f"memory: {memory_mb[1]:.0f} MB, at the end {memory_mb[-1]:.0f} MB: "
            f"{grown_mb:+.1f} MB, less than {_MOST_GROWTH_MB:.0f} MB allowed",
        )
    ]
    for name in ("threads", "files", "publishers"):
        before, after = int(column[name][1].min()), int(column[name][-1].min())
        found.append((after <= before, f"{name}: {before}, at the end {after}"))
    return [*found, _latency_verdict(column["latency_p95_ms"])]


def _latency_verdict(parts_ms: list[NDArray[np.float64]]) -> tuple[bool, str]:
    """NaN where nobody answered."""
    answered = [part[np.isfinite(part)] for part in (parts_ms[0], parts_ms[-1])]
    if min(len(part) for part in answered) == 0:
        return False, "latency: in the first or in the last part no image was answered"
    first_ms, last_ms = (float(np.median(part)) for part in answered)
    return (
        last_ms <= _MOST_SLOWER * first_ms,
        f"latency p95: {first_ms:.0f} ms, at the end {last_ms:.0f} ms: "
        f"{last_ms / first_ms:.2f} times, {_MOST_SLOWER} times allowed",
    )


def draw_samples(samples: list[Sample], path: Path) -> None:
    """Memory, counts, faces and latency over the minutes of a run."""
    minutes = [each.at_s / 60 for each in samples]
    figure = Figure(figsize=(10, 9), layout="constrained")
    axes = figure.subplots(4, 1, sharex=True)
    panels = (
        ("MB", ("rss_mb",)),
        ("count", ("threads", "files", "publishers")),
        ("faces", ("faces",)),
        ("ms", ("latency_p50_ms", "latency_p95_ms")),
    )
    for axis, (unit, names) in zip(axes, panels, strict=True):
        for name in names:
            axis.plot(minutes, [getattr(each, name) for each in samples], label=name)
        axis.set(ylabel=unit)
        axis.set_ylim(bottom=0)
        axis.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    axes[-1].set(xlabel="minutes")
    figure.savefig(path, dpi=100)


def _write(samples: list[Sample], path: Path) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [item.name for item in fields(Sample)])
        writer.writeheader()
        writer.writerows(asdict(each) for each in samples)


def main(args: list[str] | None = None) -> int:
    """0 when nothing leaked and answers stayed as fast; else 1, and 130 after Ctrl-C."""
    parser = argparse.ArgumentParser(prog="fer_ros.ros.soak", description=__doc__.split("\n")[0])
    parser.add_argument("--minutes", type=float, default=30.0, help="default: %(default)s")
    parser.add_argument("--out", metavar="FOLDER", type=Path, default=Path("out/soak"))
    options = parser.parse_args(args)
    out: Path = options.out
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory() as folder:
            os.environ.update(transport(Path(folder)), ROS_DOMAIN_ID=str(free_domain()))
            with ros([]) as ended:
                samples = observe(options.minutes * 60, out, ended)
                if ended.is_set():
                    return 130
        _write(samples, out / "soak.csv")
        draw_samples(samples, out / "soak.png")
    except (SoakError, OSError) as error:
        print(f"soak: {error}", file=sys.stderr)
        return 1
    findings = verdict(samples)
    for is_fine, words in findings:
        print("ok    " if is_fine else "FAILED", words)
    return 0 if all(is_fine for is_fine, _ in findings) else 1


if __name__ == "__main__":
    sys.exit(main())
