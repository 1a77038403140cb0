"""Tracking metrics on scripted scenes with jitter, gaps, crossings and stops.

    python -m fer_ros.evaluation.tracking_benchmark

The scenes are random but the same in every run. Each detection carries the number of its person, so
the metrics need no matching of boxes: IDF1 (Ristani et al., 2016), MOTA and id switches (Bernardin
and Stiefelhagen, 2008).
"""

import argparse
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from fer_ros.config import TrackerConfig
from fer_ros.tracker import Tracker
from fer_ros.types import FaceDetections

FPS = 15.0
SIDE_PX = 60.0
JITTER_PX = 3.0
GAPS_S = (0.5, 1.0, 1.5, 1.9)
_WIDTH_PX = 640.0
_NO_PERSON = -1

Scene = list[FaceDetections]
"""Detections of consecutive frames; the x of the first point is the number of the person."""


@dataclass
class TrackingScore:
    """Counts over the frames of one or more scenes."""

    num_detections: int = 0
    num_reported: int = 0
    num_switches: int = 0
    pairs: Counter[tuple[int, str]] = field(default_factory=Counter)
    num_persons: Counter[int] = field(default_factory=Counter)
    num_ids: Counter[str] = field(default_factory=Counter)

    @property
    def mota(self) -> float:
        """1 less misses, false positives and id switches, as a fraction of the detections."""
        missed = self.num_detections - sum(self.pairs.values())
        false = self.num_reported - sum(self.pairs.values())
        return 1 - (missed + false + self.num_switches) / max(1, self.num_detections)

    @property
    def idf1(self) -> float:
        """F1 score of the detections under the best one-to-one map from persons to ids."""
        persons, ids = sorted(self.num_persons), sorted(self.num_ids)
        counts = np.array([[self.pairs[person, id] for id in ids] for person in persons])
        rows, columns = linear_sum_assignment(-counts.reshape(len(persons), len(ids)))
        matched = counts[rows, columns].sum() if counts.size else 0
        return float(2 * matched / max(1, self.num_detections + self.num_reported))


def score(scene: Scene, tracker: Tracker, total: TrackingScore | None = None) -> TrackingScore:
    """Track a scene; add the counts to ``total``. Persons and ids of scenes are kept apart."""
    result = total or TrackingScore()
    offset = 1 + max(result.num_persons, default=-1)
    last_id: dict[int, str] = {}
    for number, detections in enumerate(scene):
        for person in _persons(detections.points_xy):
            if person != _NO_PERSON:
                result.num_detections += 1
                result.num_persons[offset + person] += 1
        for face in tracker.update(detections, number / FPS):
            (person,) = _persons(face.points_xy[None])
            id = f"{offset}/{face.id}"
            result.num_reported += 1
            result.num_ids[id] += 1
            if person == _NO_PERSON:
                continue
            result.pairs[offset + person, id] += 1
            result.num_switches += last_id.get(person, id) != id
            last_id[person] = id
    return result


def _persons(points_xy: NDArray[np.float32]) -> list[int]:
    return [int(number) for number in points_xy[:, 0, 0]]


def gap_scene(random: np.random.Generator, gap_s: float, stops: bool = False) -> Scene:
    """A face that is hidden for ``gap_s``: it stands, or walks up to the gap and stops in it."""
    speed_px_s = SIDE_PX * random.choice([-1, 1]) if stops else 0.0
    frames, gap = round(3 * FPS), round(gap_s * FPS)
    scene = []
    for number in range(2 * frames + gap):
        place = 300 + speed_px_s * min(number, frames) / FPS
        is_hidden = frames <= number < frames + gap - 1
        scene.append(_detect(random, {} if is_hidden else {0: (place, 200.0)}))
    return scene


def crossing_scene(random: np.random.Generator) -> Scene:
    """Two faces that walk through each other; the one behind is hidden while they overlap."""
    speeds = random.uniform(80, 250, 2) * [1, -1]
    meet_s, meet_x = random.uniform(1.5, 2.5), random.uniform(200, _WIDTH_PX - 200)
    apart_y = random.uniform(0, 0.3) * SIDE_PX
    scene = []
    for number in range(round(4 * FPS)):
        x = meet_x + speeds * (number / FPS - meet_s)
        people = {0: (x[0], 200.0), 1: (x[1], 200.0 + apart_y)}
        if abs(x[0] - x[1]) < 0.5 * SIDE_PX:
            del people[1]
        inside = {person: at for person, at in people.items() if 0 < at[0] < _WIDTH_PX}
        scene.append(_detect(random, inside))
    return scene


def crowd_scene(random: np.random.Generator) -> Scene:
    """Six faces that stand or walk back and forth, some of them missed, and false detections."""
    start = random.uniform([60, 60], [580, 420], (6, 2))
    swing = random.uniform(0, 150, 6)
    phase, period_s = random.uniform(0, 2 * np.pi, 6), random.uniform(2, 8, 6)
    scene = []
    for number in range(round(10 * FPS)):
        turn = 2 * np.pi * number / FPS / period_s + phase
        places = start + np.stack([swing * np.sin(turn), 0 * turn], axis=1)
        is_detected = random.random(6) > 0.15
        people = {person: tuple(places[person]) for person in np.flatnonzero(is_detected)}
        if random.random() < 0.1:
            people[_NO_PERSON] = tuple(random.uniform([0, 0], [640, 480]))
        scene.append(_detect(random, people))
    return scene


def _detect(random: np.random.Generator, people: dict[int, tuple[float, float]]) -> FaceDetections:
    """Boxes around the centers of these people, with jitter of center and size."""
    count = len(people)
    true_centers = np.array([*people.values()], np.float64).reshape(-1, 2)
    centers = true_centers + random.normal(0, JITTER_PX, (count, 2))
    half = (SIDE_PX + random.normal(0, JITTER_PX, (count, 1))) / 2
    points = np.zeros((count, 5, 2), np.float32)
    points[:, 0, 0] = [*people]
    boxes = np.concatenate([centers - half, centers + half], axis=1).astype(np.float32)
    return FaceDetections(boxes, np.full(count, 0.9, np.float32), points)


def kept_over_gap(tracker: Tracker, scene: Scene) -> bool:
    """Whether the only face of a scene has one id from beginning to end."""
    return len(score(scene, tracker).num_ids) == 1


def table(repeats: int, make_tracker: Callable[[TrackerConfig], Tracker]) -> Iterator[str]:
    """Lines of a Markdown table: each kind of scene ``repeats`` times."""
    config = TrackerConfig(max_age_s=2.0)
    yield "| scene | ids kept | IDF1 | MOTA | id switches |"
    yield "|---|---|---|---|---|"
    for name, stops in (("standing face", False), ("face that stops", True)):
        for gap_s in GAPS_S:
            random = np.random.default_rng(0)
            scenes = [gap_scene(random, gap_s, stops) for _ in range(repeats)]
            kept_ids = np.mean([kept_over_gap(make_tracker(config), scene) for scene in scenes])
            yield _row(f"{name}, gap of {gap_s} s", scenes, config, make_tracker, f"{kept_ids:.1%}")
    for name, make_scene in (("crossing", crossing_scene), ("crowd", crowd_scene)):
        random = np.random.default_rng(0)
        scenes = [make_scene(random) for _ in range(repeats)]
        yield _row(name, scenes, TrackerConfig(), make_tracker, "")


def _row(
    name: str,
    scenes: list[Scene],
    config: TrackerConfig,
    make_tracker: Callable[[TrackerConfig], Tracker],
    ids_kept: str,
) -> str:
    total = TrackingScore()
    for scene in scenes:
        score(scene, make_tracker(config), total)
    return f"| {name} | {ids_kept} | {total.idf1:.3f} | {total.mota:.3f} | {total.num_switches} |"


def main(argv: list[str] | None = None) -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(
        prog="python -m fer_ros.evaluation.tracking_benchmark", description=__doc__.split("\n")[0]
    )
    parser.add_argument("--repeats", type=int, default=100, help="scenes per kind (%(default)s)")
    args = parser.parse_args(argv)
    print("\n".join(table(args.repeats, Tracker)))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
