"""When a failing device is tried again."""

import pytest

from fer_ros.inference.backoff import ExponentialBackoff


class Clock:
    def __init__(self):
        self.now_s = 0.0

    def __call__(self):
        return self.now_s


@pytest.fixture
def clock():
    return Clock()


def waits(backoff, clock, count):
    """Seconds after each of ``count`` failures until the next attempt is due."""
    found = []
    for _ in range(count):
        backoff.postpone()
        assert not backoff.is_due
        start_s = clock.now_s
        while not backoff.is_due:
            clock.now_s += 0.5
        found.append(clock.now_s - start_s)
    return found


def test_without_a_failure_an_attempt_is_due(clock):
    assert ExponentialBackoff(clock).is_due


def test_the_wait_doubles_up_to_64_s(clock):
    expected = [1, 2, 4, 8, 16, 32, 64, 64, 64]
    assert waits(ExponentialBackoff(clock), clock, 9) == expected


def test_a_success_resets_the_wait(clock):
    backoff = ExponentialBackoff(clock)
    waits(backoff, clock, 5)
    backoff.reset()
    assert backoff.is_due
    assert waits(backoff, clock, 2) == [1, 2]


def test_a_failure_before_the_attempt_is_due_waits_from_then_on(clock):
    backoff = ExponentialBackoff(clock)
    backoff.postpone()
    clock.now_s = 0.5
    backoff.postpone()
    clock.now_s = 2.0
    assert not backoff.is_due
    clock.now_s = 2.5
    assert backoff.is_due
