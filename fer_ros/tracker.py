"""Assign stable ids to detections over time.

Each track estimates the position and velocity of a face with a Kalman filter (constant velocity,
white-noise acceleration, in units of the box side). Tracks and detections are paired by the
Hungarian algorithm (scipy's ``linear_sum_assignment``) on their affinity:

* boxes that overlap, at the predicted position or at the last one, by their IoU;
* else the nearest boxes of similar size, for faces that moved too fast to overlap.

A track that was missed in the previous frame is matched at two predicted positions only: where the
face is if it moved on, and where it is if it slowed down to a stop. It ranks after tracks that
were not missed, so that a face that enters where another one left gets an id of its own.
"""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from fer_ros.boxes import areas, centers, iou
from fer_ros.config import TrackerConfig
from fer_ros.face_ids import IdFactory, sequential_ids
from fer_ros.types import FaceDetections, TrackedFace

# Standard deviations, in box sides (per second, per second squared).
_POSITION_NOISE = 0.05
_INITIAL_VELOCITY = 3.0
_ACCELERATION_NOISE = 5.0

_STOP_TIME_CONSTANT_S = 0.35  # time constant with which the velocity of a stopping face decays
_STATIC_WEIGHT = 0.8  # a face that moved on is more likely than one that stopped
_PREDICTION_DECAY_S = 0.5  # time constant with which a prediction loses its weight
_OVERLAP_BONUS = 2.0  # one pair that overlaps outweighs any number of pairs that are only near
# Limits for a face whose box does not overlap that of the track.
_MAX_CENTER_DISTANCE = 0.8  # distance of the centers, in box sides
_MAX_SIZE_RATIO = 2.0  # ratio of the box sizes


def _initial_covariance() -> NDArray[np.float64]:
    return np.diag([_POSITION_NOISE**2, _INITIAL_VELOCITY**2])


@dataclass(eq=False)
class _Track:
    """Kalman state: ``center_xy`` and ``velocity_xy`` share one covariance (2, 2), in box sides."""

    box_xyxy: NDArray[np.float32]
    last_seen_s: float
    center_xy: NDArray[np.float64]
    hits: int = 1
    id: str = ""  # given when the face is confirmed
    velocity_xy: NDArray[np.float64] = field(default_factory=lambda: np.zeros(2))
    covariance: NDArray[np.float64] = field(default_factory=_initial_covariance)

    def box_after(self, duration_s: float) -> NDArray[np.float64]:
        """Box (4,) after moving at the current velocity for a duration."""
        moved_xy = self.center_xy + self.velocity_xy * duration_s - centers(self.box_xyxy[None])[0]
        return self.box_xyxy + np.tile(moved_xy, 2)

    def update(self, box_xyxy: NDArray[np.float32], stamp_s: float) -> None:
        """Predict to ``stamp_s`` and correct by the detection."""
        elapsed_s = stamp_s - self.last_seen_s
        transition = np.array([(1.0, elapsed_s), (0.0, 1.0)])
        gain = np.array([elapsed_s**2 / 2, elapsed_s]) * _ACCELERATION_NOISE
        covariance = transition @ self.covariance @ transition.T + np.outer(gain, gain)
        kalman_gain = covariance[:, 0] / (covariance[0, 0] + _POSITION_NOISE**2)
        predicted_xy = self.center_xy + self.velocity_xy * elapsed_s
        innovation_xy = centers(box_xyxy[None])[0] - predicted_xy
        self.center_xy = predicted_xy + kalman_gain[0] * innovation_xy
        self.velocity_xy = self.velocity_xy + kalman_gain[1] * innovation_xy
        self.covariance = covariance - np.outer(kalman_gain, covariance[0])
        self.box_xyxy, self.last_seen_s = box_xyxy, stamp_s
        self.hits += 1


class Tracker:
    """Tracks the faces of one camera. ``new_id`` names a face when it is confirmed.

    Stamps must not decrease between two resets; StreamClock gives such ones.
    """

    def __init__(self, config: TrackerConfig, new_id: IdFactory | None = None) -> None:
        self.config = config
        self._new_id = new_id or sequential_ids()
        self.reset()

    @property
    def live_ids(self) -> list[str]:
        """Ids of the confirmed faces that are visible or may come back, oldest first."""
        return [track.id for track in self._tracks if track.id]

    def reset(self) -> None:
        """Forget all faces. Their ids are not given again."""
        self._tracks: list[_Track] = []
        self._stamp_s = self._previous_stamp_s = -np.inf

    def update(self, detections: FaceDetections, stamp_s: float) -> list[TrackedFace]:
        """Return the confirmed faces among ``detections``, best score first."""
        self._drop_old_tracks(stamp_s)
        self._previous_stamp_s, self._stamp_s = self._stamp_s, stamp_s
        tracks = self._associate(detections.boxes_xyxy, stamp_s)
        faces = [
            TrackedFace(self._id_of(track), box_xyxy, points_xy, float(score))
            for track, box_xyxy, points_xy, score in zip(
                tracks,
                detections.boxes_xyxy,
                detections.points_xy,
                detections.scores,
                strict=True,
            )
            if track.hits >= self.config.min_hits
        ]
        return sorted(faces, key=lambda face: -face.score)

    def _drop_old_tracks(self, stamp_s: float) -> None:
        """Drop tracks past ``max_age_s``; those of the previous frame stay, however long ago."""
        oldest_s = min(stamp_s - self.config.max_age_s, self._stamp_s)
        self._tracks = [track for track in self._tracks if track.last_seen_s >= oldest_s]

    def _associate(self, boxes_xyxy: NDArray[np.float32], stamp_s: float) -> list[_Track]:
        """Return the track of each box, a new one where none matches."""
        pairs = _match(self._affinity(boxes_xyxy, stamp_s))
        track_of = {box: self._tracks[track] for track, box in pairs}
        for i, box_xyxy in enumerate(boxes_xyxy):
            if i in track_of:
                track_of[i].update(box_xyxy, stamp_s)
            else:
                track_of[i] = _Track(box_xyxy, stamp_s, centers(box_xyxy[None])[0])
                self._tracks.append(track_of[i])
        return [track_of[i] for i in range(len(boxes_xyxy))]

    def _affinity(self, boxes_xyxy: NDArray[np.float32], stamp_s: float) -> NDArray[np.float64]:
        """Affinity (tracks, boxes): above the bonus they overlap, in 0..1 they are near, else 0."""
        unseen_s = np.array([stamp_s - track.last_seen_s for track in self._tracks])
        stopping_s = _STOP_TIME_CONSTANT_S * (1 - np.exp(-unseen_s / _STOP_TIME_CONSTANT_S))
        was_missed = np.array(
            [track.last_seen_s < self._previous_stamp_s for track in self._tracks], np.bool_
        )
        moved, stopped, last = (
            np.array(boxes, np.float64).reshape(-1, 4)
            for boxes in (
                [track.box_after(t) for track, t in zip(self._tracks, unseen_s, strict=True)],
                [track.box_after(t) for track, t in zip(self._tracks, stopping_s, strict=True)],
                [track.box_xyxy for track in self._tracks],
            )
        )
        static = np.where(was_missed[:, None], stopped, last)
        iou_static, iou_moved = iou(static, boxes_xyxy), iou(moved, boxes_xyxy)
        weight = np.exp(-unseen_s / _PREDICTION_DECAY_S)[:, None]
        overlap = weight * np.maximum(_STATIC_WEIGHT * iou_static, iou_moved)
        is_match = np.maximum(iou_static, iou_moved) >= self.config.match_iou_threshold
        near = np.maximum(_center_affinity(last, boxes_xyxy), _center_affinity(moved, boxes_xyxy))
        near[was_missed] = 0
        return np.where(is_match & (overlap > 0), _OVERLAP_BONUS + overlap, near)

    def _id_of(self, track: _Track) -> str:
        while not track.id:
            new_id = self._new_id()
            if new_id not in self.live_ids:
                track.id = new_id
        return track.id


def _match(affinity: NDArray[np.float64]) -> list[tuple[int, int]]:
    """Pairs (row, column) with the largest sum of affinities, all of them positive."""
    affinity = np.nan_to_num(affinity, nan=0.0, posinf=0.0, neginf=0.0)
    rows, columns = linear_sum_assignment(affinity, maximize=True)
    pairs = zip(rows.tolist(), columns.tolist(), strict=True)
    return [(row, column) for row, column in pairs if affinity[row, column] > 0]


def _center_affinity(first_xyxy: NDArray, second_xyxy: NDArray) -> NDArray[np.float64]:
    """1 at the same center; 0 out of reach of the larger box, or for another size (N, M)."""
    first, second = np.sqrt(areas(first_xyxy))[:, None], np.sqrt(areas(second_xyxy))[None]
    offsets = centers(first_xyxy)[:, None] - centers(second_xyxy)[None]
    larger, smaller = np.maximum(first, second), np.minimum(first, second)
    near = 1 - np.linalg.norm(offsets, axis=2) / (_MAX_CENTER_DISTANCE * larger)
    return np.where(larger <= _MAX_SIZE_RATIO * smaller, near, 0).clip(0, None)
