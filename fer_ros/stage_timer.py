"""Wall-clock time of consecutive processing stages."""

from time import perf_counter


class StageTimer:
    """Measures stages that follow each other without a pause.

    ``latency_ms`` maps each finished stage, in order, to its milliseconds.
    """

    def __init__(self) -> None:
        self.latency_ms: dict[str, float] = {}
        self._start = self._previous = perf_counter()

    def mark(self, stage: str) -> None:
        """End ``stage``, which began at the previous mark or at construction."""
        now = perf_counter()
        self.latency_ms[stage] = (now - self._previous) * 1000
        self._previous = now

    def total_ms(self) -> float:
        """Milliseconds since construction."""
        return (perf_counter() - self._start) * 1000
