"""Propagate faces by their landmarks between two runs of the detector.

The network finds 68 landmarks in each crop anyway. Their motion from frame to frame moves the box
and the five points that the detector found. The crop of such a frame lags by the motion of one
frame, and by no more.
"""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from fer_ros.alignment import alignment_points, crop_to_frame, frame_points_to_crop, similarity
from fer_ros.landmarks68 import NUM_LANDMARKS
from fer_ros.types import FaceDetections, TrackedFace

_MAX_GAP_S = 0.5


class LandmarkPropagator:
    """Keeps the faces of the previous frame and their landmarks."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget all faces; the detector runs on the next frame."""
        self._faces: list[TrackedFace] = []
        self._five_points_xy: dict[str, NDArray[np.float32]] = {}
        self._stamp_s = -np.inf
        self._frames_since_detection = 0
        self._all_confirmed = True

    @property
    def faces(self) -> list[TrackedFace]:
        """The faces of the previous frame, where their landmarks were found."""
        return self._faces

    @property
    def propagated_ids(self) -> list[str]:
        """Ids of those whose landmarks were found."""
        return [id for id, points in self._five_points_xy.items() if np.isfinite(points).all()]

    def predict(self, stamp_s: float, interval: int) -> FaceDetections | None:
        """Return the faces where they were last, or None where the detector has to run.

        The detector runs on one frame in ``interval``. It also runs after a gap, when landmarks
        are not finite, and while a detection is not confirmed by the tracker yet.
        """
        is_due = self._frames_since_detection >= interval
        is_recent = 0 <= stamp_s - self._stamp_s <= _MAX_GAP_S
        is_finite = all(np.isfinite(points).all() for points in self._five_points_xy.values())
        if is_due or not (is_recent and is_finite and self._all_confirmed):
            self.reset()
            return None
        boxes_xyxy = np.array([face.box_xyxy for face in self._faces], np.float32)
        scores = np.array([face.score for face in self._faces], np.float32)
        points_xy = np.array([face.points_xy for face in self._faces], np.float32)
        return FaceDetections(boxes_xyxy.reshape(-1, 4), scores, points_xy.reshape(-1, 5, 2))

    def update(
        self,
        faces: list[TrackedFace],
        landmarks_xy: dict[str, NDArray[np.float32]],
        stamp_s: float,
        num_detections: int,
    ) -> list[TrackedFace]:
        """Return the faces of this frame, moved as their landmarks moved.

        Faces that were detected on this frame, and faces without landmarks, keep their position:
        only a face at exactly its previous position was not detected.

        Args:
            faces: the tracked faces of the frame.
            landmarks_xy: 68 landmarks (68, 2) by face id, in pixels of the frame. Faces that were
                not given to the network have none.
            stamp_s: stream time of the frame.
            num_detections: number of boxes that were given to the tracker.
        """
        points_xy = np.array([*landmarks_xy.values()], np.float32).reshape(-1, NUM_LANDMARKS, 2)
        five_points_xy = dict(zip(landmarks_xy, alignment_points(points_xy), strict=True))
        last_boxes = {face.id: face.box_xyxy for face in self._faces}
        propagated = {
            face.id: face
            for face in faces
            if face.id in self._five_points_xy
            and face.id in five_points_xy
            and np.isfinite(five_points_xy[face.id]).all()
            and np.array_equal(face.box_xyxy, last_boxes[face.id])
        }
        before_xy = [self._five_points_xy[id] for id in propagated]
        after_xy = [five_points_xy[id] for id in propagated]
        moved = _move([*propagated.values()], before_xy, after_xy) if propagated else []
        by_id = dict(zip(propagated, moved, strict=True))
        self._faces = [by_id.get(face.id, face) for face in faces]
        self._five_points_xy, self._stamp_s = five_points_xy, stamp_s
        self._all_confirmed = num_detections == len(faces)
        self._frames_since_detection += 1
        return self._faces


def _move(
    faces: list[TrackedFace],
    before_xy: list[NDArray[np.float32]],
    after_xy: list[NDArray[np.float32]],
) -> list[TrackedFace]:
    """Apply to each face the similarity that maps its five points (5, 2) to others."""
    count = len(faces)
    to_crop = similarity(np.array([*before_xy, *after_xy]))
    before_to_crop, after_to_crop = to_crop[:count], to_crop[count:]
    boxes = np.array([face.box_xyxy for face in faces])
    low, high = boxes[:, :2], boxes[:, 2:]
    points = np.array([face.points_xy for face in faces])
    points = np.concatenate([points, (low + high)[:, None] / 2], axis=1)
    moved = crop_to_frame(frame_points_to_crop(points, before_to_crop), after_to_crop)
    scales = [np.hypot(*transform[:, 0, :2].T) for transform in (before_to_crop, after_to_crop)]
    half = (scales[0] / scales[1])[:, None] * (high - low) / 2
    moved_boxes = np.concatenate([moved[:, -1] - half, moved[:, -1] + half], axis=1)
    return [
        replace(face, box_xyxy=box_xyxy, points_xy=points_xy)
        for face, box_xyxy, points_xy in zip(
            faces, moved_boxes.astype(np.float32), moved[:, :-1], strict=True
        )
    ]
