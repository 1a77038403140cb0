"""Time of an image stream: one policy for stamps that are missing, late, or jump.

Stamps of cameras, bags and simulators go wrong in a few ways. StreamClock turns them into a stream
time that never decreases within a stream, and reports when a new stream starts:

* a missing stamp is replaced by the time of arrival less the usual delay of the stream;
* an image that a newer one overtook gets the time of the newer one;
* a clock that is set back by less than ``MAX_BACKWARD_S`` is followed from the second image on;
* a longer step back, as when a bag starts again, starts a new stream;
* a gap starts a new stream. The longest gap grows with the observed period, so that images at 0.4
  per second are one stream as well.
"""

from collections import deque
from enum import Enum
from statistics import median, median_low
from typing import NamedTuple

MAX_BACKWARD_S = 1.0
"""A longer step back is a restart, not an image that another one overtook."""
MAX_GAP_S = 2.0
"""After a longer gap, the faces of the last image are unrelated to those of the next."""

_MAX_GAP_PERIODS = 3.0
_WINDOW = 15  # images in the medians of delay and period


class StreamEvent(Enum):
    """What a stamp means for the stream."""

    START = "start"
    NEXT = "next"
    LATE = "late"
    CLOCK_SET_BACK = "clock set back"
    GAP = "gap"
    BACKWARD_JUMP = "backward jump"

    @property
    def starts_stream(self) -> bool:
        """Whether nothing that was known before holds for this image."""
        return self in (StreamEvent.START, StreamEvent.GAP, StreamEvent.BACKWARD_JUMP)


class StreamTime(NamedTuple):
    """Time of one image in seconds.

    ``time_s`` never decreases within a stream and equals ``stamp_s`` unless the clock was set back.
    ``stamp_s`` is the stamp of the image or, where ``is_estimated``, the estimate for a missing
    one. ``step_s`` is the difference to the newest stamp before, 0 at the start.
    """

    time_s: float
    stamp_s: float
    step_s: float
    event: StreamEvent
    is_estimated: bool


class StampEstimator:
    """Estimates missing stamps: the time of arrival less the usual delay.

    The usual delay is the median over the last 15 images with a stamp. It also covers clocks of
    different origin, such as stamps since boot and arrival in wall time.
    """

    def __init__(self) -> None:
        self._delays_s: deque[float] = deque(maxlen=_WINDOW)

    @property
    def has_delay(self) -> bool:
        """Whether an image with a stamp has arrived yet."""
        return bool(self._delays_s)

    def observe(self, stamp_s: float, arrival_s: float) -> None:
        """Take the delay of an image that has a stamp."""
        delay_s = arrival_s - stamp_s
        if self._delays_s and abs(delay_s - median(self._delays_s)) > MAX_BACKWARD_S:
            self._delays_s.clear()  # one of the clocks was set
        self._delays_s.append(delay_s)

    def estimate(self, arrival_s: float) -> float:
        """Stamp of an image that arrived at ``arrival_s`` without one."""
        return arrival_s - (median(self._delays_s) if self._delays_s else 0.0)


class StreamClock:
    """Turns the stamps of one stream into its time.

    ``max_gap_s`` may be changed at any time.
    """

    def __init__(self, max_gap_s: float = MAX_GAP_S) -> None:
        self.max_gap_s = max_gap_s
        self._periods_s: deque[float] = deque(maxlen=_WINDOW)
        self._estimator = StampEstimator()
        self._previous: StreamTime | None = None
        self._newest_stamp_s = 0.0
        self._offset_s = 0.0  # of the stream time to the stamps
        self._arrival_s: float | None = None

    def reset(self) -> None:
        """Start a new stream with the next image. The usual delay and period are kept."""
        self._previous = None

    def update(self, stamp_s: float, arrival_s: float | None = None) -> StreamTime:
        """Return the time of the next image.

        Args:
            stamp_s: its stamp. A stamp of 0 or less is missing where ``arrival_s`` is known;
                otherwise it is a time like any other.
            arrival_s: when it arrived, by any clock that is read for all images of the stream.
        """
        is_estimated = arrival_s is not None and stamp_s <= 0
        if arrival_s is not None:
            self._update_delay(stamp_s, arrival_s, is_estimated)
            if is_estimated:
                stamp_s = self._estimator.estimate(arrival_s)
        time = self._advance(stamp_s, is_estimated)
        self._previous, self._arrival_s = time, arrival_s
        return time

    def _update_delay(self, stamp_s: float, arrival_s: float, is_missing: bool) -> None:
        if is_missing:
            return
        if not self._estimator.has_delay and self._previous and self._arrival_s is not None:
            # All stamps so far were missing: the stream continues by the time of arrival.
            passed_s = max(0.0, arrival_s - self._arrival_s)
            self._newest_stamp_s = stamp_s - passed_s
            self._offset_s = self._previous.time_s - self._newest_stamp_s
        self._estimator.observe(stamp_s, arrival_s)

    def _advance(self, stamp_s: float, is_estimated: bool) -> StreamTime:
        previous = self._previous
        if previous is None:
            return self._start(stamp_s, 0.0, StreamEvent.START, is_estimated)
        step_s = stamp_s - self._newest_stamp_s
        if step_s < -MAX_BACKWARD_S:
            return self._start(stamp_s, step_s, StreamEvent.BACKWARD_JUMP, is_estimated)
        is_gap = step_s > self._max_gap()
        if step_s > 0:
            self._periods_s.append(step_s)
        if is_gap:
            return self._start(stamp_s, step_s, StreamEvent.GAP, is_estimated)
        event, time_s = StreamEvent.NEXT, previous.time_s
        if step_s >= 0:
            time_s = max(time_s, stamp_s + self._offset_s)
            self._newest_stamp_s = stamp_s
        elif previous.step_s < 0 and stamp_s > previous.stamp_s and not is_estimated:
            # The second image in a row that is behind: the clock itself was set back.
            event, time_s = StreamEvent.CLOCK_SET_BACK, time_s + stamp_s - previous.stamp_s
            self._newest_stamp_s, self._offset_s = stamp_s, time_s - stamp_s
        else:
            event = StreamEvent.LATE
        return StreamTime(time_s, stamp_s, step_s, event, is_estimated)

    def _max_gap(self) -> float:
        usual_s = median_low(self._periods_s) if self._periods_s else 0.0
        return max(self.max_gap_s, _MAX_GAP_PERIODS * usual_s)

    def _start(
        self, stamp_s: float, step_s: float, event: StreamEvent, is_estimated: bool
    ) -> StreamTime:
        self._newest_stamp_s, self._offset_s = stamp_s, 0.0
        return StreamTime(stamp_s, stamp_s, step_s, event, is_estimated)
