"""Spreads the search for faces over the frames of a camera.

Searching a whole frame for small faces costs several times as much as a robot can spend on each
frame. Three kinds of work share the time instead:

* the levels of ``detection_plan`` in turn: the coarsest, which shows the largest faces, five times
  a second, the tiles of the finest one within 0.4 s (0.95 s in 1920x1080), those between within
  0.5 s; a slow network takes twice as long for the finest level while faces are tracked;
* regions around faces that are not confirmed yet, were lost, or move fast: at once;
* regions around all other faces: four times a second. In between, their landmarks move their boxes.

The first frame of a stream is searched whole. All of it depends on the frames and their stamps
alone, so a recording always gives the same faces; only ``detector.budget_ms`` brings in the speed
of the machine.
"""

import logging
import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from fer_ros.boxes import centers, iou
from fer_ros.detection_plan import (
    REFINED_HEIGHT_PX,
    Level,
    View,
    ViewDetections,
    detect_in_views,
    intersection_over_minimum,
    merge,
    plan_levels,
    region_view,
)
from fer_ros.detector import ImageDetector
from fer_ros.types import FaceDetections, TrackedFace

_COARSEST_PERIOD_S = 0.2
_COARSE_PERIOD_S = 0.5  # period of the levels between the coarsest and the finest
_SEARCH_PERIOD_S = 0.4  # period of the finest level; with the frame that confirms, half a second
_MAX_SEARCH_PX_S = 1.26e6  # maximum search rate on the finest level; above, its period grows
_TRACKING_SLOWDOWN = 2.0  # factor on a slow network's periods while faces are classified
_VERIFY_PERIOD_S = 0.25
_CANDIDATE_TIMEOUT_S = 0.5  # a candidate waits so long for a free region, a lost face too
_FAST_MOTION_SIDES = 0.1  # motion between two frames, in sides of the face: too fast for landmarks
_MAX_REGIONS = 12  # maximum regions in one frame
_MAX_CANDIDATES = 8  # maximum regions of candidates in one frame
_MAX_FULL_REGIONS = 4  # with more regions, each gets a smaller view
_SAME_CENTER_SIDES = 0.5
_MIN_REPORTED_SLOWDOWN = 2.0
_SLOW_PERIOD_S = 2.0  # a longer period of the finest level is reported; 1920x1080 takes 0.95 s
_SPEED_WEIGHT = 0.1  # weight of a new measurement in the running means

_log = logging.getLogger(__name__)


@dataclass(eq=False)
class _Track:
    """State of a face that the tracker has confirmed."""

    box_xyxy: NDArray[np.float32]
    verified_s: float
    moved_sides: float = math.inf  # from the last frame to this one; not known at first


@dataclass(eq=False)
class _Candidate:
    """A box that a region is to confirm; those of higher ``priority`` come first."""

    box_xyxy: NDArray[np.float32]
    priority: float
    expires_s: float
    tries: float = 1


class DetectionScheduler:
    """Detects the faces of one camera, by the time of its images."""

    def __init__(self, detector: ImageDetector) -> None:
        """Use the network and the configuration of ``detector``, which others may share."""
        self._detector = detector
        self._network = detector.network
        self._frame_wh = (0, 0)
        self._planned_for: tuple[object, ...] = ()
        self._reported: set[tuple[object, ...]] = set()
        self._levels: list[Level] = []
        self._ms_per_px = 0.0  # measured; 0: not yet
        self._frame_s = 0.0  # mean time between frames; 0: not known yet
        self._region_px = 0.0  # mean of one frame
        self._slowdown = 1.0  # of the search, to keep the budget
        self._has_warned = False
        self.reset()

    def reset(self) -> None:
        """Forget all faces and start the search again."""
        self._time_s = -math.inf
        self._tracks: dict[str, _Track] = {}
        self._candidates: list[_Candidate] = []
        self._last_s: dict[View, float] = {}
        self._credit_px = 0.0

    def detect(
        self,
        image_rgb: NDArray[np.uint8],
        time_s: float,
        tracked: Sequence[TrackedFace] = (),
        propagated_ids: Collection[str] = (),
    ) -> FaceDetections:
        """Detect the faces of the next frame (H, W, 3), best score first, boxes inside the frame.

        ``tracked`` are the confirmed faces of the previous frame, at the positions of their
        landmarks; ``propagated_ids`` names those that have landmarks. Such a face is returned
        unchanged when no view of this frame covers it. Raises RuntimeError, one line, when the
        network cannot be computed.
        """
        is_first = self._start_frame(image_rgb, time_s, bool(tracked))
        if is_first:
            return self._search_whole(image_rgb, time_s)
        self._update_tracks(tracked, time_s)
        regions, targets = self._choose_regions(time_s, propagated_ids)
        searched = self._choose_search(time_s, bool(tracked))
        detections = ViewDetections.empty()
        if views := [*regions, *searched]:
            began_s = perf_counter()
            config = self._detector.config
            low = min(self._network.proposal_score, config.score_threshold)
            detections = detect_in_views(
                self._network, image_rgb, views, low, config.nms_iou_threshold
            )
            self._measure(views, len(regions), (perf_counter() - began_s) * 1000)
            self._last_s |= dict.fromkeys(searched, time_s)
            is_face = detections.faces.scores >= config.score_threshold
            self._propose(detections.select(~is_face & (detections.views >= len(regions))), time_s)
            detections = merge(detections.select(is_face), config.nms_iou_threshold)
        return self._combine(detections, tracked, targets, time_s, len(regions))

    def describe(self) -> str:
        """Return the plan in force, in one line."""
        width, height = self._frame_wh
        if not self._levels:
            return "no frame yet"
        finest = self._levels[-1]
        period_s = self._period_s(finest, is_tracking=False) * self._slowdown
        text = (
            f"{self._network.name} on {self._network.device}, {width}x{height}: faces from "
            f"{self._detector.config.min_face_px:.0f} px, {len(finest.views)} tiles at scale "
            f"{finest.scale:.2f} in {period_s:.1f} s"
        )
        for level in self._levels[:-1]:
            period_s = self._period_s(level, is_tracking=False) * self._slowdown
            text += f", whole frame at {level.scale:.2f} every {period_s:.1f} s"
        if self._slowdown > 1:
            text += (
                f"; {self._slowdown:.1f} times slower than min_face_px requires, to keep "
                f"budget_ms {self._detector.config.budget_ms:g}"
            )
        return text

    def _start_frame(self, image_rgb: NDArray[np.uint8], time_s: float, is_tracking: bool) -> bool:
        """Update plan and clock; return whether the frame is the first one of its size."""
        frame_wh = (image_rgb.shape[1], image_rgb.shape[0])
        key = (frame_wh, self._detector.config.min_face_px)
        if key != self._planned_for:
            self.reset()
            self._planned_for, self._frame_wh, self._has_warned = key, frame_wh, False
            self._levels = plan_levels(
                frame_wh, self._detector.config.min_face_px, self._network.proposal_height_px
            )
        is_first = not math.isfinite(self._time_s)
        if not is_first and key not in self._reported:  # still images have a first frame only
            self._reported.add(key)
            self._report_plan()
        elapsed_s = 0.0 if is_first else max(0.0, time_s - self._time_s)
        if elapsed_s > 0:
            weight = _SPEED_WEIGHT if self._frame_s else 1.0
            self._frame_s += weight * (elapsed_s - self._frame_s)
        self._time_s = max(time_s, self._time_s)
        self._add_search_credit(elapsed_s, is_tracking)
        return is_first

    def _report_plan(self) -> None:
        if self._period_s(self._levels[-1], is_tracking=False) <= _SLOW_PERIOD_S:
            _log.info("detection plan: %s", self.describe())
        else:
            _log.warning(
                "detection of the smallest faces is slow in frames of this size; "
                "doubling detector.min_face_px cuts the time to a quarter: %s",
                self.describe(),
            )

    def _search_whole(self, image_rgb: NDArray[np.uint8], time_s: float) -> FaceDetections:
        self._last_s = {view: time_s for level in self._levels for view in level.views}
        faces = self._detector.detect(image_rgb)
        self._candidates = [
            _Candidate(box, 1.0 + float(score), time_s + _CANDIDATE_TIMEOUT_S)
            for box, score in zip(faces.boxes_xyxy, faces.scores, strict=True)
        ]
        return faces

    def _add_search_credit(self, elapsed_s: float, is_tracking: bool) -> None:
        """Add the search work that is due for the time since the last frame."""
        needed_px_s = sum(
            level.area_px / self._period_s(level, is_tracking) for level in self._levels
        )
        self._slowdown = self._budget_slowdown(needed_px_s)
        if self._slowdown >= _MIN_REPORTED_SLOWDOWN and not self._has_warned:
            self._has_warned = True
            _log.warning(
                "detector.budget_ms: too small for detector.min_face_px; raise one of them: %s",
                self.describe(),
            )
        self._credit_px += elapsed_s * needed_px_s / self._slowdown
        whole_px = sum(level.area_px for level in self._levels)
        self._credit_px = min(self._credit_px, float(whole_px))

    def _budget_slowdown(self, needed_px_s: float) -> float:
        """How many times slower than needed the search must be, to keep ``config.budget_ms``."""
        if not (self._detector.config.budget_ms and self._ms_per_px and self._frame_s):
            return 1.0
        allowed_px = self._detector.config.budget_ms / self._ms_per_px - self._region_px
        needed_px = needed_px_s * self._frame_s
        return max(1.0, needed_px / max(allowed_px, 0.01 * needed_px))

    def _period_s(self, level: Level, is_tracking: bool) -> float:
        if level is self._levels[0]:
            return _COARSEST_PERIOD_S
        if level is not self._levels[-1]:
            return _COARSE_PERIOD_S
        period_s = max(_SEARCH_PERIOD_S, level.area_px / _MAX_SEARCH_PX_S)
        is_slowed = is_tracking and not self._network.is_fast
        return period_s * (_TRACKING_SLOWDOWN if is_slowed else 1.0)

    def _update_tracks(self, tracked: Sequence[TrackedFace], time_s: float) -> None:
        """Update the tracks from the propagated faces; faces that are gone become candidates."""
        tracks: dict[str, _Track] = {}
        for face in tracked:
            track = self._tracks.get(face.id)
            if track is None:
                tracks[face.id] = _Track(face.box_xyxy, time_s - self._frame_s)
                continue
            side = math.sqrt(max(1.0, float(np.prod(face.box_xyxy[2:] - face.box_xyxy[:2]))))
            shift = (centers(face.box_xyxy[None]) - centers(track.box_xyxy[None]))[0]
            track.moved_sides = float(np.hypot(*shift)) / side
            track.box_xyxy = face.box_xyxy
            tracks[face.id] = track
        self._candidates += [
            _Candidate(track.box_xyxy, 1.0, time_s + _CANDIDATE_TIMEOUT_S, math.inf)
            for name, track in self._tracks.items()
            if name not in tracks
        ]
        self._tracks = tracks
        boxes = np.array([track.box_xyxy for track in tracks.values()]).reshape(-1, 4)
        self._candidates = [
            candidate
            for candidate in self._candidates
            if candidate.tries
            and candidate.expires_s >= time_s
            and not self._is_known(candidate.box_xyxy, boxes)
        ]

    def _is_known(self, box_xyxy: NDArray, boxes_xyxy: NDArray) -> bool:
        return bool(
            (iou(box_xyxy[None], boxes_xyxy) > self._detector.config.nms_iou_threshold).any()
        )

    def _choose_regions(
        self, time_s: float, propagated_ids: Collection[str]
    ) -> tuple[list[View], set[str]]:
        """The regions to look at in this frame, and the ids of the confirmed faces among them."""
        waiting = sorted(self._candidates, key=lambda candidate: -candidate.priority)
        chosen = waiting[:_MAX_CANDIDATES]
        for candidate in chosen:
            candidate.tries -= 1
        boxes = [(candidate.box_xyxy, "", candidate.tries > 1) for candidate in chosen]
        due = [
            (track.verified_s, name)
            for name, track in self._tracks.items()
            if track.moved_sides > _FAST_MOTION_SIDES
            or name not in propagated_ids
            or time_s - track.verified_s >= _VERIFY_PERIOD_S
        ]
        boxes += [(self._tracks[name].box_xyxy, name, False) for _, name in sorted(due)]
        views, targets = [], set()
        boxes = boxes[:_MAX_REGIONS]
        for box, name, is_lost in boxes:
            view = region_view(box, self._frame_wh, len(boxes) > _MAX_FULL_REGIONS, is_lost)
            if view is not None:
                views.append(view)
            if name:
                targets.add(name)
        return views, targets

    def _choose_search(self, time_s: float, is_tracking: bool) -> list[View]:
        """The most overdue views of the levels, as long as search credit is left."""
        waiting = []
        for level in self._levels:
            period_s = self._period_s(level, is_tracking)
            for view in level.views:
                overdue = (time_s - self._last_s.get(view, -math.inf)) / period_s
                waiting.append((overdue, view))
        waiting.sort(key=lambda item: -item[0])  # stable: coarse levels first
        chosen = []
        for overdue, view in waiting:
            if self._credit_px < 0 or overdue <= 0:
                break
            chosen.append(view)
            self._credit_px -= view.area_px
        return chosen

    def _measure(self, views: list[View], regions: int, spent_ms: float) -> None:
        ms_per_px = spent_ms / max(1, sum(view.area_px for view in views))
        weight = _SPEED_WEIGHT if self._ms_per_px else 1.0
        self._ms_per_px += weight * (ms_per_px - self._ms_per_px)
        region_px = sum(view.area_px for view in views[:regions])
        self._region_px += _SPEED_WEIGHT * (region_px - self._region_px)

    def _propose(self, proposals: ViewDetections, time_s: float) -> None:
        """Keep weak detections as candidates that the next frame confirms or drops."""
        faces = merge(proposals, self._detector.config.nms_iou_threshold).faces
        boxes = [track.box_xyxy for track in self._tracks.values()]
        boxes += [candidate.box_xyxy for candidate in self._candidates]
        known = np.array(boxes).reshape(-1, 4)
        self._candidates += [
            _Candidate(box, float(score), time_s + _CANDIDATE_TIMEOUT_S)
            for box, score in zip(faces.boxes_xyxy, faces.scores, strict=True)
            if not self._is_known(box, known)
        ]

    def _combine(
        self,
        detections: ViewDetections,
        tracked: Sequence[TrackedFace],
        targets: set[str],
        time_s: float,
        regions: int = 0,
    ) -> FaceDetections:
        """The detections, and the propagated faces that no view of this frame covers."""
        free = list(range(len(detections.faces)))
        boxes, scores, points = [], [], []
        for face in sorted(tracked, key=lambda face: face.id not in targets):
            index = _match(face, detections.faces, free)
            if index is None:
                if face.id in targets or _is_covered(face, detections.faces):
                    continue
                boxes.append(face.box_xyxy)
                scores.append(face.score)
                points.append(face.points_xy)
                continue
            free.remove(index)
            self._tracks[face.id].verified_s = time_s
            is_large = detections.heights_px[index] >= REFINED_HEIGHT_PX
            is_precise = detections.views[index] < regions or is_large
            source = detections.faces.boxes_xyxy[index] if is_precise else face.box_xyxy
            boxes.append(source)
            points.append(detections.faces.points_xy[index] if is_precise else face.points_xy)
            scores.append(float(detections.faces.scores[index]))
        num_tracked = len(boxes)
        for index in free:
            box = detections.faces.boxes_xyxy[index]
            boxes.append(box)
            scores.append(float(detections.faces.scores[index]))
            points.append(detections.faces.points_xy[index])
            self._candidates.append(
                _Candidate(box, 1.0 + scores[-1], time_s + _CANDIDATE_TIMEOUT_S)
            )
        faces = FaceDetections(
            np.array(boxes, np.float32).reshape(-1, 4),
            np.array(scores, np.float32),
            np.array(points, np.float32).reshape(-1, 5, 2),
        )
        return self._detector.limit(faces, num_tracked)


def _match(face: TrackedFace, detections: FaceDetections, free: list[int]) -> int | None:
    """Index of the detection that shows a tracked face, or None: close, of a similar size."""
    if not free or not np.isfinite(face.box_xyxy).all():
        return None
    boxes = detections.boxes_xyxy[free].astype(np.float64)
    side = math.sqrt(float(np.prod(face.box_xyxy[2:] - face.box_xyxy[:2])))
    sides = np.sqrt((boxes[:, 2:] - boxes[:, :2]).prod(axis=1))
    distance = np.hypot(*(centers(boxes) - centers(face.box_xyxy[None])).T)
    distance = distance / np.maximum(sides, side)
    is_like = (sides < 2 * side) & (side < 2 * sides) & (distance < _SAME_CENTER_SIDES)
    if not is_like.any():
        return None
    return free[int(np.argmin(np.where(is_like, distance, np.inf)))]


def _is_covered(face: TrackedFace, detections: FaceDetections) -> bool:
    """Whether the face lies mostly where another one was just detected."""
    return bool((intersection_over_minimum(face.box_xyxy, detections.boxes_xyxy) > 0.5).any())
