"""What happens to the frames, in figures: counts, rates, times, reasons."""

import threading
import time
from collections import Counter, deque
from collections.abc import Callable

import numpy as np
from diagnostic_msgs.msg import DiagnosticStatus, KeyValue

from fer_ros.types import FrameEmotions

_WINDOW = 100  # frames behind the percentiles
_RATE_S = 5.0  # seconds behind the frame rate


class Monitor:
    """Counts frames from its birth on; any thread may tell and ask.

    ``clock`` gives seconds that never run back.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._heard_s = clock()
        self._received = self._processed = self._dropped = self._failed = self._faces = 0
        self._failed_before = 0  # of the last report
        self._last_failure = ""
        self._rejected: Counter[str] = Counter()
        self._done_s: deque[float] = deque(maxlen=_WINDOW)
        self._latency_ms: dict[str, deque[float]] = {}

    def received(self) -> None:
        """A frame came in."""
        with self._lock:
            self._heard_s = self._clock()
            self._received += 1

    def dropped(self) -> None:
        """A frame was overtaken by a newer one."""
        with self._lock:
            self._dropped += 1

    def failed(self, reason: str) -> None:
        """A frame could not be used."""
        with self._lock:
            self._failed += 1
            self._last_failure = reason

    def processed(self, result: FrameEmotions, latency_ms: dict[str, float]) -> None:
        """A frame is done; ``latency_ms`` has the milliseconds of each stage, in order."""
        with self._lock:
            self._done_s.append(self._clock())
            self._processed += 1
            self._faces = len(result.faces)
            reasons = (face.why.partition(":")[0] for face in result.faces if not face.usable)
            self._rejected.update(reasons)
            for stage, spent_ms in latency_ms.items():
                self._latency_ms.setdefault(stage, deque(maxlen=_WINDOW)).append(spent_ms)

    def silent_s(self) -> float:
        """Seconds since the last frame came in, or since birth."""
        with self._lock:
            return self._clock() - self._heard_s

    def report(self, silence_s: float) -> DiagnosticStatus:
        """STALE after ``silence_s`` without a frame, WARN when frames failed since last time.

        ``silence_s`` 0: never stale.
        """
        silent_s = self.silent_s()
        with self._lock:
            status = DiagnosticStatus(values=self._values(silent_s))
            rate = self._frames_per_s()
            status.level, status.message = DiagnosticStatus.OK, f"{rate:.1f} frames/s"
            failures = self._failed - self._failed_before
            self._failed_before = self._failed
            if failures:
                status.level = DiagnosticStatus.WARN
                status.message = f"{failures} unusable frames, the last one: {self._last_failure}"
            if 0 < silence_s <= silent_s:
                status.level = DiagnosticStatus.STALE
                status.message = f"no image for {silent_s:.0f} s"
        return status

    def _values(self, silent_s: float) -> list[KeyValue]:
        values = {
            "frames_per_s": f"{self._frames_per_s():.2f}",
            "received": str(self._received),
            "processed": str(self._processed),
            "dropped": str(self._dropped),
            "failed": str(self._failed),
            "last_failure": self._last_failure,
            "last_image_age_s": f"{silent_s:.2f}" if self._received else "",
            "faces": str(self._faces),
        }
        for reason, count in sorted(self._rejected.items()):
            values[f"rejected.{reason}"] = str(count)
        for stage, spent_ms in self._latency_ms.items():
            middle, high = np.percentile(spent_ms, (50, 95))
            values[f"latency_ms.{stage}.p50"] = f"{middle:.2f}"
            values[f"latency_ms.{stage}.p95"] = f"{high:.2f}"
        return to_values(values)

    def _frames_per_s(self) -> float:
        now_s = self._clock()
        recent = [done_s for done_s in self._done_s if now_s - done_s <= _RATE_S]
        span_s = now_s - recent[0] if recent else 0.0
        return (len(recent) - 1) / span_s if span_s > 0 else 0.0


def to_values(values: dict[str, str]) -> list[KeyValue]:
    """Keys and values of a DiagnosticStatus."""
    return [KeyValue(key=key, value=value) for key, value in values.items()]
