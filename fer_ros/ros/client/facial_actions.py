"""Closed eyes, open mouth and speech from FACS action units over time, without ROS."""

from collections import deque
from itertools import pairwise

from fer_ros.stream_clock import MAX_GAP_S

EYES_CLOSED_AU, JAW_DROP_AU = 43, 26

_EYES_CLOSED = (0.6, 0.4)  # intensity at which the state begins and ends
_MOUTH_OPEN = (0.35, 0.2)
_SPEAKING = (0.5, 0.25)  # travel of the jaw within the window, as a sum of intensity changes
_WINDOW_S = 1.0
_MIN_STEP = 0.02  # a smaller change of intensity is noise
_MIN_REVERSALS = 2  # a yawn has one


class FacialActions:
    """State of one face with hysteresis.

    ``eyes_closed``, ``mouth_open`` and ``speaking`` are None before the first update.
    """

    def __init__(self) -> None:
        self.eyes_closed: bool | None = None
        self.mouth_open: bool | None = None
        self.speaking: bool | None = None
        self._jaw: deque[tuple[float, float]] = deque()  # stamp and intensity

    def update(self, stamp_s: float, eyes_closed: float, jaw_drop: float) -> None:
        """Take the intensities, 0..1, of AU43 and AU26 in an image with this stamp."""
        self.eyes_closed = _hysteresis(self.eyes_closed, eyes_closed, _EYES_CLOSED)
        self.mouth_open = _hysteresis(self.mouth_open, jaw_drop, _MOUTH_OPEN)
        if self._jaw and not 0 <= stamp_s - self._jaw[-1][0] <= MAX_GAP_S:
            self._jaw.clear()
        self._jaw.append((stamp_s, jaw_drop))
        while self._jaw[0][0] < stamp_s - _WINDOW_S:
            self._jaw.popleft()
        travel, reversals = self._jaw_movement()
        begins_at, ends_at = _SPEAKING
        if self.speaking:
            self.speaking = travel > ends_at
        else:
            self.speaking = travel >= begins_at and reversals >= _MIN_REVERSALS

    def _jaw_movement(self) -> tuple[float, int]:
        """Sum of the changes of intensity in the window, and how often they change direction."""
        intensities = [intensity for _, intensity in self._jaw]
        steps = [b - a for a, b in pairwise(intensities)]
        steps = [step for step in steps if abs(step) >= _MIN_STEP]
        reversals = sum(a * b < 0 for a, b in pairwise(steps))
        return sum(map(abs, steps)), reversals


def _hysteresis(state: bool | None, intensity: float, limits: tuple[float, float]) -> bool:
    begins_at, ends_at = limits
    return intensity > ends_at if state else intensity >= begins_at
