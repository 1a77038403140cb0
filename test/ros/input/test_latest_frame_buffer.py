"""Newest frame only."""

import threading

import pytest

from fer_ros.ros.input.latest_frame_buffer import FrameWorker, LatestFrameBuffer

LIMIT_S = 10


def test_a_closed_buffer_returns_nothing():
    slot = LatestFrameBuffer()
    slot.close()
    assert slot.take() is None


@pytest.mark.parametrize(
    ("put", "taken", "replaced"),
    [
        (["a1"], {"a": "a1"}, [False]),
        (["a1", "a2", "a3"], {"a": "a3"}, [False, True, True]),
        (["a1", "b1", "a2"], {"a": "a2", "b": "b1"}, [False, False, True]),
    ],
)
def test_the_newest_frame_of_each_source_replaces_the_others(put, taken, replaced):
    slot = LatestFrameBuffer()
    assert [slot.put(frame[0], frame) for frame in put] == replaced
    assert slot.take() == taken
    assert slot.put("a", "a9") is False  # nothing is left


def test_closing_discards_the_pending_frame():
    slot = LatestFrameBuffer()
    slot.put("a", 1)
    slot.close()
    assert slot.take() is None


def test_a_slow_worker_gets_the_newest_frame():
    busy, go_on, done = threading.Event(), threading.Event(), threading.Event()
    handled = []

    def handle(frames: dict[str, int]) -> None:
        handled.append(frames)
        busy.set()
        assert go_on.wait(LIMIT_S)
        if 9 in frames.values():
            done.set()

    worker = FrameWorker(handle, "test")
    worker.buffer.put("a", 0)
    assert busy.wait(LIMIT_S)
    for frame in range(1, 10):
        worker.buffer.put("a", frame)
    go_on.set()
    assert done.wait(LIMIT_S)
    worker.stop()
    assert handled == [{"a": 0}, {"a": 9}]
    worker.check()


def test_no_frame_is_handled_twice_or_out_of_order():
    """Of one camera, which waits for the worker at times; its last frame is always handled."""
    handled, reached = [], [threading.Event() for _ in range(50)]

    def handle(frames: dict[str, int]) -> None:
        handled.append(frames["a"])
        reached[frames["a"]].set()

    worker = FrameWorker(handle, "test")
    replaced = 0
    for number, event in enumerate(reached):
        replaced += worker.buffer.put("a", number)
        if number % 5 == 4:
            assert event.wait(LIMIT_S), f"frame {number} is not handled"
    worker.stop()
    assert handled == sorted({*handled})
    assert len(handled) == len(reached) - replaced
    worker.check()


def test_stopping_waits_for_the_frame_in_progress():
    busy, go_on = threading.Event(), threading.Event()
    handled = []

    def handle(frames: dict[str, int]) -> None:
        busy.set()
        assert go_on.wait(LIMIT_S)
        handled.append(frames)

    worker = FrameWorker(handle, "test")
    worker.buffer.put("a", 1)
    assert busy.wait(LIMIT_S)
    at_the_close = threading.Thread(target=lambda: (worker.buffer.take(), go_on.set()))
    at_the_close.start()
    worker.stop()
    at_the_close.join()
    assert handled == [{"a": 1}]


def test_the_end_of_the_thread_is_reported():
    reached = threading.Event()

    def handle(frames: dict[str, int]) -> None:
        reached.set()
        raise KeyError("unforeseen")

    worker = FrameWorker(handle, "test")
    worker.check()
    worker.buffer.put("a", 1)
    assert reached.wait(LIMIT_S)
    worker.stop()
    with pytest.raises(KeyError):
        worker.check()
