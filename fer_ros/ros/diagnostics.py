"""Frame statistics of the node: counts, rates, latencies and rejection reasons."""

import threading
import time
from collections import Counter, deque
from collections.abc import Callable

import numpy as np
from diagnostic_msgs.msg import DiagnosticStatus, KeyValue

from fer_ros.types import FrameResult

_NUM_LATENCIES = 100  # frames in the percentiles
_RATE_WINDOW_S = 5.0


class FrameStatistics:
    """Thread-safe counters of the frames of one camera.

    ``clock`` returns monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._last_received_s = clock()
        self._received = self._processed = self._dropped = self._failed = self._faces = 0
        self._failed_at_last_report = 0
        self._waiting_since_s: float | None = None
        self._failing_since_s: float | None = None
        self._last_failure = ""
        self._rejections: Counter[str] = Counter()
        self._processed_at_s: deque[float] = deque(maxlen=_NUM_LATENCIES)
        self._latencies_ms: dict[str, deque[float]] = {}

    def received(self) -> None:
        """Count a frame that arrived."""
        with self._lock:
            self._last_received_s = self._clock()
            self._received += 1
            if self._waiting_since_s is None:
                self._waiting_since_s = self._last_received_s

    def dropped(self) -> None:
        """Count a frame that was replaced by a newer one before it was processed."""
        with self._lock:
            self._dropped += 1

    def failed(self, reason: str) -> None:
        """Count a frame that could not be processed."""
        with self._lock:
            self._failed += 1
            self._last_failure = reason
            self._waiting_since_s = None
            if self._failing_since_s is None:
                self._failing_since_s = self._clock()

    def processed(self, result: FrameResult, latency_ms: dict[str, float]) -> None:
        """Count a processed frame; ``latency_ms`` maps each stage to milliseconds, in order."""
        with self._lock:
            self._processed_at_s.append(self._clock())
            self._processed += 1
            self._waiting_since_s = self._failing_since_s = None
            self._faces = len(result.faces)
            reasons = (
                face.rejection_reason.partition(":")[0]
                for face in result.faces
                if not face.is_readable
            )
            self._rejections.update(reasons)
            for stage, spent_ms in latency_ms.items():
                stage_ms = self._latencies_ms.setdefault(stage, deque(maxlen=_NUM_LATENCIES))
                stage_ms.append(spent_ms)

    def silent_s(self) -> float:
        """Seconds since the last frame arrived, or since construction."""
        with self._lock:
            return self._clock() - self._last_received_s

    def waiting_s(self) -> float:
        """Seconds since a frame arrived after which none was processed or failed; 0 without one."""
        with self._lock:
            return self._seconds_since(self._waiting_since_s)

    def failing_s(self) -> float:
        """Seconds since a frame failed after which none was processed; 0 without one."""
        with self._lock:
            return self._seconds_since(self._failing_since_s)

    def report(self, timeout_s: float) -> DiagnosticStatus:
        """Status: STALE after ``timeout_s`` without a frame, WARN for failures since last report.

        WARN, too, when a frame has been waiting for ``timeout_s``. 0 disables both.
        """
        silent_s, waiting_s = self.silent_s(), self.waiting_s()
        with self._lock:
            status = DiagnosticStatus(values=self._values(silent_s))
            rate = self._frames_per_s()
            status.level, status.message = DiagnosticStatus.OK, f"{rate:.1f} frames/s"
            num_failures = self._failed - self._failed_at_last_report
            self._failed_at_last_report = self._failed
            if num_failures:
                status.level = DiagnosticStatus.WARN
                status.message = f"{num_failures} frames failed, last error: {self._last_failure}"
            if 0 < timeout_s <= waiting_s:
                status.level = DiagnosticStatus.WARN
                status.message = f"images arrive, but none was processed for {waiting_s:.0f} s"
            if 0 < timeout_s <= silent_s:
                status.level = DiagnosticStatus.STALE
                status.message = f"no image for {silent_s:.0f} s"
        return status

    def _seconds_since(self, start_s: float | None) -> float:
        return 0.0 if start_s is None else self._clock() - start_s

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
        for reason, count in sorted(self._rejections.items()):
            values[f"rejected.{reason}"] = str(count)
        for stage, spent_ms in self._latencies_ms.items():
            median, percentile_95 = np.percentile(spent_ms, (50, 95))
            values[f"latency_ms.{stage}.p50"] = f"{median:.2f}"
            values[f"latency_ms.{stage}.p95"] = f"{percentile_95:.2f}"
        return to_key_values(values)

    def _frames_per_s(self) -> float:
        now_s = self._clock()
        recent = [at_s for at_s in self._processed_at_s if now_s - at_s <= _RATE_WINDOW_S]
        span_s = now_s - recent[0] if recent else 0.0
        return (len(recent) - 1) / span_s if span_s > 0 else 0.0


def to_key_values(values: dict[str, str]) -> list[KeyValue]:
    """Keys and values of a DiagnosticStatus."""
    return [KeyValue(key=key, value=value) for key, value in values.items()]
