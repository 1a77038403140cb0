"""Latencies that are measured alternately, so that other load slows all of them alike."""

from collections.abc import Callable, Hashable, Mapping
from time import perf_counter
from typing import TypeVar

import numpy as np

from fer_ros.io.progress import progress_bar

_MIN_ROUNDS = 3

KeyT = TypeVar("KeyT", bound=Hashable)


def time_interleaved(
    works: Mapping[KeyT, Callable[[], object]], seconds: float
) -> dict[KeyT, float]:
    """Median milliseconds of each work; every round runs all of them, for ``seconds``."""
    for work in works.values():
        work()
    times_ms: dict[KeyT, list[float]] = {key: [] for key in works}
    rounds, end_s = 0, perf_counter() + seconds
    with progress_bar(unit="round") as bar:
        while perf_counter() < end_s or rounds < _MIN_ROUNDS:
            for key, work in works.items():
                start_s = perf_counter()
                work()
                times_ms[key].append((perf_counter() - start_s) * 1000)
            rounds += 1
            bar.update()
    return {key: float(np.median(values)) for key, values in times_ms.items()}
