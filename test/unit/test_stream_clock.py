"""Stream time from missing, late and jumping stamps."""

from itertools import pairwise

import numpy as np
import pytest

from fer_ros.stream_clock import StampEstimator, StreamClock, StreamEvent

START, NEXT, LATE, SET_BACK, GAP, JUMP = StreamEvent
FIRST_S = 1000.0


def times(*stamps_s, arrivals_s=None, clock=None):
    clock = clock or StreamClock()
    arrivals_s = arrivals_s or [None] * len(stamps_s)
    return [clock.update(*pair) for pair in zip(stamps_s, arrivals_s, strict=True)]


@pytest.mark.parametrize(
    ("steps_s", "events", "passed_s"),
    [
        pytest.param([], [START], 0.0, id="one image"),
        pytest.param([0.1] * 3, [START, NEXT, NEXT, NEXT], 0.3, id="regular"),
        pytest.param([0.0, 0.1], [START, NEXT, NEXT], 0.1, id="two of one stamp"),
        pytest.param([0.2, -0.1, 0.2], [START, NEXT, LATE, NEXT], 0.3, id="one was overtaken"),
        pytest.param(
            [0.1, -0.6, 0.1, 0.1], [START, NEXT, LATE, SET_BACK, NEXT], 0.3, id="clock set back"
        ),
        pytest.param([1.9, 1.9], [START, NEXT, NEXT], 3.8, id="slow camera"),
        pytest.param([2.5, 2.5, 2.5], [START, GAP, NEXT, NEXT], 5.0, id="0.4 images per second"),
        pytest.param([0.1, 60.0, 0.1], [START, NEXT, GAP, NEXT], 0.1, id="pause"),
        pytest.param([0.1, -500, 0.1], [START, NEXT, JUMP, NEXT], 0.1, id="bag started again"),
        pytest.param(
            [0.1, 5.0, 0.1, -5.0, 0.1],
            [START, NEXT, GAP, NEXT, JUMP, NEXT],
            0.1,
            id="ahead and back by 5 s",
        ),
    ],
)
def test_events_and_stream_time(steps_s, events, passed_s):
    stream = times(*np.cumsum([FIRST_S, *steps_s]))
    assert [time.event for time in stream] == events
    start = max(i for i, time in enumerate(stream) if time.event.starts_stream)
    assert stream[-1].time_s - stream[start].time_s == pytest.approx(passed_s)
    assert not any(time.is_estimated for time in stream)


def test_time_equals_regular_stamps():
    stamps_s = (FIRST_S + np.array([0, 0.1, 0.3, 0.2, 0.4, 60, 61, -50, -49])).tolist()
    assert [time.time_s for time in times(*stamps_s)] == [
        stamp_s if i != 3 else stamps_s[2] for i, stamp_s in enumerate(stamps_s)
    ]


def test_time_never_decreases_within_a_stream():
    random = np.random.default_rng(0)
    steps_s = np.where(random.random(3000) < 0.02, 9.0, random.normal(0.05, 0.5, 3000))
    stream = times(*np.cumsum(steps_s).tolist())
    for before, time in pairwise(stream):
        assert time.event.starts_stream or time.time_s >= before.time_s
    assert {time.event for time in stream} == {*StreamEvent}


def test_one_slow_interval_does_not_make_later_gaps_part_of_the_stream():
    stamps_s = [*np.arange(20) / 15, 61.0, *(61 + np.arange(1, 20) / 15), 65.0]
    events = [time.event for time in times(*stamps_s)]
    assert [i for i, event in enumerate(events) if event is GAP] == [20, 40]


def test_the_longest_gap_can_be_set():
    clock = StreamClock(max_gap_s=10.0)
    assert [time.event for time in times(0.0, 9.0, clock=clock)] == [START, NEXT]
    clock.max_gap_s = 1.0
    assert clock.update(9.0 + 28.0).event is GAP  # more than three periods


def test_after_a_reset_any_stamp_starts_a_stream():
    clock = StreamClock()
    times(1000.0, 1000.1, clock=clock)
    clock.reset()
    assert [time.event for time in times(3.0, 3.1, clock=clock)] == [START, NEXT]


WALL_S = 1.7e9


@pytest.mark.parametrize("origin_s", [1.7e9, 84000.0, 5.0], ids=["wall", "boot", "simulation"])
def test_missing_stamps_take_arrival_less_the_usual_delay(origin_s):
    true_s = origin_s + np.arange(60) / 15
    arrivals_s = WALL_S + np.arange(60) / 15 + 0.05
    stamps_s = np.where(np.arange(60) % 7 == 6, 0.0, true_s)
    stream = times(*stamps_s.tolist(), arrivals_s=arrivals_s.tolist())
    np.testing.assert_allclose([time.stamp_s for time in stream], true_s, atol=1e-6)
    assert {time.event for time in stream[1:]} == {NEXT}
    assert [i for i, time in enumerate(stream) if time.is_estimated] == [*range(6, 60, 7)]


def test_without_stamps_time_is_arrival_time():
    arrivals_s = (WALL_S + np.arange(30) / 15).tolist()
    stream = times(*[0.0] * 30, arrivals_s=arrivals_s)
    assert [time.stamp_s for time in stream] == arrivals_s
    assert {time.event for time in stream[1:]} == {NEXT}
    assert all(time.is_estimated for time in stream)


def test_simulation_that_starts_at_zero_is_one_stream():
    """The first stamp cannot be distinguished from a missing one; the second one decides."""
    stamps_s, arrivals_s = np.arange(20) / 10, WALL_S + np.arange(20) / 10
    stream = times(*stamps_s.tolist(), arrivals_s=arrivals_s.tolist())
    assert [time.event for time in stream] == [START] + [NEXT] * 19
    np.testing.assert_allclose(np.diff([time.time_s for time in stream]), 0.1, atol=1e-6)


def test_zero_is_a_valid_stamp_without_arrival_time():
    stream = times(0.0, 0.1)
    assert [(time.time_s, time.is_estimated) for time in stream] == [(0.0, False), (0.1, False)]


def test_estimates_follow_a_clock_that_was_set():
    estimator = StampEstimator()
    assert not estimator.has_delay
    assert estimator.estimate(50.0) == 50.0
    for arrival_s in range(100, 110):
        estimator.observe(arrival_s - 0.1, arrival_s)
    assert estimator.estimate(110.0) == pytest.approx(109.9)
    estimator.observe(111.0 + 3600, 111.0)
    assert estimator.estimate(112.0) == pytest.approx(112.0 + 3600)
