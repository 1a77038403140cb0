"""When to try a failing device again."""

import time
from collections.abc import Callable

_INITIAL_WAIT_S, _MAX_WAIT_S = 1.0, 64.0


class ExponentialBackoff:
    """The next attempt is due after 1 s; each further failure doubles this time, up to 64 s.

    Args:
        clock: monotonic time in seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._wait_s = _INITIAL_WAIT_S
        self._due_s = 0.0

    @property
    def is_due(self) -> bool:
        """Whether the wait after the last failure is over; True without a failure."""
        return self._clock() >= self._due_s

    def postpone(self) -> None:
        """Count a failure: wait from now on."""
        self._due_s = self._clock() + self._wait_s
        self._wait_s = min(2 * self._wait_s, _MAX_WAIT_S)

    def reset(self) -> None:
        """Count a success: the next failure waits for 1 s."""
        self._wait_s = _INITIAL_WAIT_S
