"""Boxes over time to faces with stable ids.

Every face that was seen lately has a track. A detection continues the track whose box it overlaps
most, where that track was last seen or where its motion has taken it by now; a face that moved too
fast to overlap goes to the nearest track of similar size. A face that was not found in the frame
before is looked for only where its motion has taken it, and yields to those that were: who comes in
where another one left is not taken for that one. Pairs are made best first and each track and each
detection is used once, so two faces never share an id.
"""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from fer_ros.config import TrackerConfig
from fer_ros.types import FaceBoxes, TrackedFace

_BACK_S = 1.0  # time ran back further than messages overtake each other: a bag or clock restarted
_GAP_S = 2.0  # nobody knows who stands there after a longer pause between frames
_MOTION_S = 0.1  # time constant of the velocity
_STAYED = 0.8  # a face that went on is more likely than one that stopped where it was last seen
_LOST_S = 0.5  # time constant with which a prediction loses its weight
_REACH = 0.8  # a fast face is looked for this many box sides away
_SIZE_RATIO = 2.0  # and is at most this many times larger or smaller


@dataclass(eq=False)
class _Track:
    box_xyxy: NDArray[np.float32]
    seen_s: float
    hits: int = 1
    id: str = ""  # given when the face is confirmed
    velocity_px_s: NDArray[np.float64] = field(default_factory=lambda: np.zeros(2))

    def expected_box(self, stamp_s: float) -> NDArray[np.float64]:
        """Where the face is by now if it kept its velocity."""
        return self.box_xyxy + np.tile(self.velocity_px_s, 2) * max(0.0, stamp_s - self.seen_s)

    def see(self, box_xyxy: NDArray[np.float32], stamp_s: float) -> None:
        passed_s = stamp_s - self.seen_s
        if passed_s > 0:
            moved = (_centres(box_xyxy[None]) - _centres(self.box_xyxy[None]))[0]
            weight = 1 - np.exp(-passed_s / _MOTION_S) if self.hits > 1 else 1.0
            self.velocity_px_s += weight * (moved / passed_s - self.velocity_px_s)
            self.seen_s = stamp_s
        self.box_xyxy = box_xyxy
        self.hits += 1


class Tracker:
    """Follows the faces of one camera, by the time of its images."""

    def __init__(self, config: TrackerConfig) -> None:
        self.config = config
        self._tracks: list[_Track] = []
        self._stamp_s = self._before_s = -np.inf
        self._named = 0

    def reset(self) -> None:
        """Forgets every face. Ids go on counting: none is used twice."""
        self._tracks = []
        self._stamp_s = self._before_s = -np.inf

    def update(self, boxes: FaceBoxes, stamp_s: float) -> list[TrackedFace]:
        """The confirmed faces of this frame, best score first.

        A face that is not among ``boxes`` is not returned, but its id waits for it. Frames that
        overtake each other are fine; when time jumps back or pauses, all faces are new.
        """
        gap_s = max(_GAP_S, self.config.max_missed_s)
        if not -_BACK_S <= stamp_s - self._stamp_s <= gap_s:
            self.reset()
        self._forget(stamp_s)
        self._before_s, self._stamp_s = self._stamp_s, stamp_s
        seen = self._continue(boxes, stamp_s)
        tracked = [
            TrackedFace(self._name(track), boxes.boxes_xyxy[i], boxes.points_xy[i], float(score))
            for i, (track, score) in enumerate(zip(seen, boxes.scores, strict=True))
            if track.hits >= self.config.min_hits
        ]
        return sorted(tracked, key=lambda face: -face.score)

    def _forget(self, stamp_s: float) -> None:
        """Drops faces unseen for too long; those of the frame before stay, however slow it is."""
        oldest_s = min(stamp_s - self.config.max_missed_s, self._stamp_s)
        self._tracks = [track for track in self._tracks if track.seen_s >= oldest_s]

    def _continue(self, boxes: FaceBoxes, stamp_s: float) -> list[_Track]:
        """The track of every box; new ones are made where none fits."""
        pairs = _best_pairs(self._affinity(boxes.boxes_xyxy, stamp_s))
        track_of = {box: self._tracks[track] for track, box in pairs}
        for i, box in enumerate(boxes.boxes_xyxy):
            if i in track_of:
                track_of[i].see(box, stamp_s)
            else:
                track_of[i] = _Track(box, stamp_s)
                self._tracks.append(track_of[i])
        return [track_of[i] for i in range(len(boxes))]

    def _affinity(self, boxes_xyxy: NDArray[np.float32], stamp_s: float) -> NDArray[np.float64]:
        """How well each track (rows) fits each box (columns): above 1 overlap, 0..1 near, 0 no."""
        unseen_s = np.array([max(0.0, stamp_s - track.seen_s) for track in self._tracks])
        hidden = np.array([track.seen_s < self._before_s for track in self._tracks], np.bool_)
        now = np.array([track.expected_box(stamp_s) for track in self._tracks]).reshape(-1, 4)
        last = np.array([track.box_xyxy for track in self._tracks]).reshape(-1, 4)
        last[hidden] = now[hidden]
        stayed, went = overlaps(last, boxes_xyxy), overlaps(now, boxes_xyxy)
        sure = np.exp(-unseen_s / _LOST_S)[:, None]
        overlap = sure * np.maximum(_STAYED * stayed, went)
        fits = (np.maximum(stayed, went) >= self.config.min_overlap) & (overlap > 0)
        near = np.maximum(_nearness(last, boxes_xyxy), _nearness(now, boxes_xyxy))
        near[hidden] = 0
        return np.where(fits, 1 + overlap, near)

    def _name(self, track: _Track) -> str:
        if not track.id:
            self._named += 1
            track.id = f"f{self._named:05d}"
        return track.id


def _best_pairs(affinity: NDArray[np.float64]) -> list[tuple[int, int]]:
    """Pairs (row, column) of positive affinity, best first, each row and column at most once."""
    rows, columns = np.nonzero(affinity > 0)
    order = np.argsort(-affinity[rows, columns], kind="stable")
    column_of: dict[int, int] = {}
    taken: set[int] = set()
    for row, column in zip(rows[order].tolist(), columns[order].tolist(), strict=True):
        if row not in column_of and column not in taken:
            column_of[row] = column
            taken.add(column)
    return list(column_of.items())


def _centres(boxes_xyxy: NDArray) -> NDArray[np.float64]:
    return (boxes_xyxy[:, :2].astype(np.float64) + boxes_xyxy[:, 2:]) / 2


def _sides(boxes_xyxy: NDArray) -> NDArray[np.float64]:
    """Side (N,) of the square of equal area."""
    sizes = (boxes_xyxy[:, 2:].astype(np.float64) - boxes_xyxy[:, :2]).clip(1e-6, None)
    return np.sqrt(sizes.prod(axis=1))


def overlaps(first_xyxy: NDArray, second_xyxy: NDArray) -> NDArray[np.float64]:
    """Intersection over union (N, M)."""
    low = np.maximum(first_xyxy[:, None, :2], second_xyxy[None, :, :2])
    high = np.minimum(first_xyxy[:, None, 2:], second_xyxy[None, :, 2:])
    common = (high - low).clip(0, None).prod(axis=2)
    areas = _sides(first_xyxy)[:, None] ** 2 + _sides(second_xyxy)[None] ** 2
    return common / (areas - common)


def _nearness(first_xyxy: NDArray, second_xyxy: NDArray) -> NDArray[np.float64]:
    """1 at the same centre, 0 out of reach of the larger box or at another size (N, M)."""
    first, second = _sides(first_xyxy)[:, None], _sides(second_xyxy)[None]
    apart = _centres(first_xyxy)[:, None] - _centres(second_xyxy)[None]
    larger, smaller = np.maximum(first, second), np.minimum(first, second)
    near = 1 - np.linalg.norm(apart, axis=2) / (_REACH * larger)
    return np.where(larger <= _SIZE_RATIO * smaller, near, 0).clip(0, None)
