"""Faces between two turns of the detector, followed by their landmarks.

The detector need not run on every frame: the network finds 68 landmarks in each crop anyway, and
how these move from frame to frame moves the box and the five points that the detector gave. The
crop of such a frame lags by the motion of one frame, and by no more.
"""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from fer_ros.align import five_points, similarity, to_frame
from fer_ros.types import FaceBoxes, TrackedFace

_PAUSE_S = 0.5  # nobody knows where the faces are after a longer one


class Follower:
    """Keeps the faces of the last frame."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forgets all faces: it is the detector's turn."""
        self._faces: list[TrackedFace] = []
        self._five_xy: dict[str, NDArray[np.float32]] = {}
        self._stamp_s = -np.inf
        self._frames = 0  # since the detector's turn
        self._is_sure = True  # all that it found are faces already

    def expected(self, stamp_s: float, every: int) -> FaceBoxes | None:
        """Where the faces were last; None on each ``every`` frames, for the detector's turn.

        It is also its turn after a pause, when time jumps, when landmarks failed and while the
        tracker waits for a face to be found again.
        """
        is_known = all(np.isfinite(five).all() for five in self._five_xy.values())
        is_due = self._frames >= every or not 0 <= stamp_s - self._stamp_s <= _PAUSE_S
        if is_due or not (is_known and self._is_sure):
            self.reset()
            return None
        boxes_xyxy = np.array([face.box_xyxy for face in self._faces], np.float32)
        scores = np.array([face.score for face in self._faces], np.float32)
        points_xy = np.array([face.points_xy for face in self._faces], np.float32)
        return FaceBoxes(boxes_xyxy.reshape(-1, 4), scores, points_xy.reshape(-1, 5, 2))

    def update(
        self, faces: list[TrackedFace], points_xy: NDArray[np.float32], stamp_s: float, found: int
    ) -> list[TrackedFace]:
        """The faces of this frame, where their landmarks (N, 68, 2) say that they are now.

        Those of the detector stay where it found them. ``found`` says how many boxes there were
        before the tracker.
        """
        five_xy = dict(zip((face.id for face in faces), five_points(points_xy), strict=True))
        self._faces = [
            _moved(face, self._five_xy[face.id], five_xy[face.id])
            if face.id in self._five_xy
            else face
            for face in faces
        ]
        self._five_xy, self._stamp_s = five_xy, stamp_s
        self._is_sure = found == len(faces)
        self._frames += 1
        return self._faces


def _moved(
    face: TrackedFace, before_xy: NDArray[np.float32], after_xy: NDArray[np.float32]
) -> TrackedFace:
    """Box and points as a similarity moves them that takes five points (5, 2) to others."""
    if not np.isfinite(after_xy).all():
        return face
    to_crop, back = similarity(before_xy[None]), similarity(after_xy[None])
    low, high = face.box_xyxy[:2], face.box_xyxy[2:]
    corners = np.concatenate([face.points_xy, [(low + high) / 2]])[None]
    in_crop = np.einsum("nij,npj->npi", to_crop[:, :, :2], corners) + to_crop[:, None, :, 2]
    *points_xy, centre = to_frame(in_crop.astype(np.float32), back)[0]
    grown = np.hypot(*to_crop[0, 0, :2]) / np.hypot(*back[0, 0, :2])
    half = grown * (high - low) / 2
    box_xyxy = np.concatenate([centre - half, centre + half]).astype(np.float32)
    return replace(face, box_xyxy=box_xyxy, points_xy=np.array(points_xy, np.float32))
