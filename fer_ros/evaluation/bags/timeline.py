"""Order of the images of a recording, and their time where stamps are missing or jump.

A recording is read ahead, so more is known than live (see ``fer_ros.stream_clock``): images
that overtook each other are put in the order of their stamps, a few stamps that jump ahead and
come back are recognized as wrong, and a clock that was set is distinguished from a late image.
"""

import heapq
import struct
from collections import deque
from collections.abc import Iterator
from itertools import islice
from typing import NamedTuple

from fer_ros.evaluation.bags.messages import header_stamp_ns
from fer_ros.stream_clock import StampEstimator

_REORDER_NS = 500_000_000  # messages overtake each other by less
_REORDER_IMAGES = 32
_LOOKAHEAD_IMAGES = 24
_JUMP_NS = 1_000_000_000  # stamps that gain more than this on the time of recording jump
_ZERO_IS_VALID_S = 0.5  # a simulation starts at 0: an estimate as near as this confirms the stamp


class TimedMessage(NamedTuple):
    """A serialized image message.

    ``time_ns`` never decreases and equals ``stamp_ns`` unless the clock of the stamps was set.
    """

    time_ns: int
    stamp_ns: int
    recorded_ns: int
    data: bytes


class _Message(NamedTuple):
    stamp_ns: int
    recorded_ns: int
    data: bytes


class Timeline:
    """Sorts the image messages of one topic and collects warnings about them.

    After iteration, ``errors`` are lines about images that were skipped, ``warnings`` about times
    that were estimated.
    """

    def __init__(self) -> None:
        self._num_missing = 0
        self._num_ahead, self._ahead_s = 0, 0.0
        self._num_late, self._late_s = 0, 0.0
        self._num_set, self._set_s = 0, 0.0

    @property
    def errors(self) -> list[str]:
        """One line for each reason why images were skipped."""
        lines = []
        if self._num_ahead:
            lines.append(
                f"{self._num_ahead} images skipped: their stamps jump ahead and back, first by "
                f"{self._ahead_s:.3f} s"
            )
        if self._num_late:
            lines.append(
                f"{self._num_late} images skipped: their stamps are older than those of images "
                f"before them, first by {self._late_s:.3f} s"
            )
        return lines

    @property
    def warnings(self) -> list[str]:
        """One line for each way in which times were estimated."""
        lines = []
        if self._num_missing:
            lines.append(
                f"{self._num_missing} images have no header stamp; used the time of recording less "
                "the usual delay"
            )
        if self._num_set:
            lines.append(
                f"the clock of the stamps was set {self._num_set} times, first by "
                f"{self._set_s:+.3f} s; time continues by the time of recording"
            )
        return lines

    def order(self, messages: Iterator[tuple[int, bytes]]) -> Iterator[TimedMessage]:
        """Order messages, given as time of recording and data."""
        source = self._with_stamps(messages)
        upcoming = deque(islice(source, _LOOKAHEAD_IMAGES))
        waiting: list[tuple[int, int, TimedMessage]] = []
        newest: TimedMessage | None = None
        previous_ns: int | None = None  # stamp before the newest
        last_ns, offset_ns, number = -(2**63), 0, 0
        while upcoming:
            message = upcoming.popleft()
            upcoming.extend(islice(source, 1))
            if newest and self._skip_ahead(message, newest, upcoming):
                continue
            if newest and _is_clock_set(message, newest, previous_ns, upcoming):
                while waiting:
                    yield heapq.heappop(waiting)[-1]
                passed_ns = max(0, message.recorded_ns - newest.recorded_ns)
                last_ns = newest.time_ns
                new_offset_ns = newest.time_ns + passed_ns - message.stamp_ns
                self._count_set((offset_ns - new_offset_ns) * 1e-9)
                offset_ns, newest, previous_ns = new_offset_ns, None, None
            time_ns = message.stamp_ns + offset_ns
            if time_ns < last_ns:
                self._count_late((last_ns - time_ns) * 1e-9)
                continue
            timed = TimedMessage(time_ns, *message)
            heapq.heappush(waiting, (time_ns, number, timed))
            number += 1
            if newest is None or time_ns > newest.time_ns:
                previous_ns = newest.stamp_ns if newest else None
                newest = timed
            while waiting[0][0] < newest.time_ns - _REORDER_NS or len(waiting) > _REORDER_IMAGES:
                last_ns, _, timed = heapq.heappop(waiting)
                yield timed
        while waiting:
            yield heapq.heappop(waiting)[-1]

    def _with_stamps(self, messages: Iterator[tuple[int, bytes]]) -> Iterator[_Message]:
        """Estimate missing stamps from the delay of the images around them."""
        estimator = StampEstimator()
        pending: deque[tuple[int, int, bytes]] = deque()
        for recorded_ns, data in messages:
            stamp_ns = _header_stamp_ns(data)
            if stamp_ns > 0:
                estimator.observe(stamp_ns * 1e-9, recorded_ns * 1e-9)
            pending.append((stamp_ns, recorded_ns, data))
            if estimator.has_delay or len(pending) >= _LOOKAHEAD_IMAGES:
                while pending:
                    yield self._with_stamp(*pending.popleft(), estimator)
        while pending:
            yield self._with_stamp(*pending.popleft(), estimator)

    def _with_stamp(
        self, stamp_ns: int, recorded_ns: int, data: bytes, estimator: StampEstimator
    ) -> _Message:
        if stamp_ns <= 0:
            estimate_s = estimator.estimate(recorded_ns * 1e-9)
            if not estimator.has_delay:
                estimate_ns = recorded_ns
            else:
                estimate_ns = round(estimate_s * 1e9)
            if stamp_ns < 0 or abs(estimate_ns) > _ZERO_IS_VALID_S * 1e9:
                self._num_missing += 1
                stamp_ns = estimate_ns
        return _Message(stamp_ns, recorded_ns, data)

    def _skip_ahead(
        self, message: _Message, newest: TimedMessage, upcoming: "deque[_Message]"
    ) -> bool:
        """Whether the stamp is wrong: it jumps ahead, and one of the next images comes back."""
        gain_ns = _gain_ns(message, newest)
        if gain_ns <= _JUMP_NS:
            return False
        if not any(abs(_gain_ns(later, newest)) <= _JUMP_NS for later in upcoming):
            return False
        self._num_ahead += 1
        self._ahead_s = self._ahead_s or gain_ns * 1e-9
        return True

    def _count_set(self, seconds: float) -> None:
        self._num_set += 1
        self._set_s = self._set_s or seconds

    def _count_late(self, seconds: float) -> None:
        self._num_late += 1
        self._late_s = self._late_s or seconds


def _gain_ns(message: _Message, newest: TimedMessage) -> int:
    """How much more the stamps advanced than the time of recording."""
    passed_ns = message.recorded_ns - newest.recorded_ns
    return message.stamp_ns - newest.stamp_ns - passed_ns


def _is_clock_set(
    message: _Message,
    newest: TimedMessage,
    previous_ns: int | None,
    upcoming: "deque[_Message]",
) -> bool:
    """Whether the clock of the stamps was set, rather than this image being early or late.

    A clock that is set back stays behind: the next two images are behind as well, in order.
    """
    if message.stamp_ns >= newest.stamp_ns:
        return _gain_ns(message, newest) > _JUMP_NS
    stamps = [message.stamp_ns, *(later.stamp_ns for later in islice(upcoming, 2))]
    is_behind = len(stamps) == 3 and stamps[0] < stamps[1] < stamps[2] < newest.stamp_ns
    return is_behind and previous_ns is not None and previous_ns > message.stamp_ns


def _header_stamp_ns(data: bytes) -> int:
    """0 for a message that is too short; it cannot be decoded either, which is reported then."""
    try:
        return header_stamp_ns(data)
    except struct.error:
        return 0
