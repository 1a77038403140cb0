"""Latencies that are measured alternately."""

import pytest

from training import timing


@pytest.mark.parametrize("count", [1, 3])
def test_measurements_are_interleaved(count):
    calls = []
    works = {name: lambda name=name: calls.append(name) for name in "abc"[:count]}
    times_ms = timing.time_interleaved(works, 0.0)
    assert list(times_ms) == list(works)
    assert all(value >= 0 for value in times_ms.values())
    assert calls == list(works) * (1 + timing._MIN_ROUNDS)
