"""Newest frame only."""

import threading

import pytest

from fer_ros.ros.frame_slot import FrameSlot, Worker

LIMIT_S = 10


def test_a_closed_slot_gives_nothing():
    slot = FrameSlot()
    slot.close()
    assert slot.take() is None
    assert slot.dropped == 0


@pytest.mark.parametrize(
    ("put", "taken", "dropped"), [([1], 1, 0), ([1, 2], 2, 1), ([1, 2, 3], 3, 2)]
)
def test_the_newest_frame_replaces_the_others(put, taken, dropped):
    slot = FrameSlot()
    for frame in put:
        slot.put(frame)
    assert (slot.take(), slot.dropped) == (taken, dropped)


def test_closing_lets_go_of_a_frame():
    slot = FrameSlot()
    slot.put(1)
    slot.close()
    assert slot.take() is None


def test_a_slow_worker_gets_the_newest_frame():
    busy, go_on, done = threading.Event(), threading.Event(), threading.Event()
    handled = []

    def handle(frame: int) -> None:
        handled.append(frame)
        busy.set()
        assert go_on.wait(LIMIT_S)
        if frame == 9:
            done.set()

    worker = Worker(handle, "test")
    worker.slot.put(0)
    assert busy.wait(LIMIT_S)
    for frame in range(1, 10):
        worker.slot.put(frame)
    go_on.set()
    assert done.wait(LIMIT_S)
    worker.stop()
    assert handled == [0, 9]
    assert worker.slot.dropped == 8
    worker.check()


def test_no_frame_is_handled_twice_or_out_of_order():
    handled = []
    worker = Worker(handled.append, "test")
    puts = [threading.Thread(target=worker.slot.put, args=(n,)) for n in range(50)]
    for thread in puts:
        thread.start()
    for thread in puts:
        thread.join()
    worker.stop()
    assert len(set(handled)) == len(handled) <= 50 - worker.slot.dropped


def test_stopping_waits_for_the_frame_in_hand():
    busy, go_on = threading.Event(), threading.Event()
    handled = []

    def handle(frame: int) -> None:
        busy.set()
        assert go_on.wait(LIMIT_S)
        handled.append(frame)

    worker = Worker(handle, "test")
    worker.slot.put(1)
    assert busy.wait(LIMIT_S)
    at_the_close = threading.Thread(target=lambda: (worker.slot.take(), go_on.set()))
    at_the_close.start()
    worker.stop()
    at_the_close.join()
    assert handled == [1]


def test_the_death_of_the_thread_is_told():
    reached = threading.Event()

    def handle(frame: int) -> None:
        reached.set()
        raise KeyError(frame)

    worker = Worker(handle, "test")
    worker.check()
    worker.slot.put(1)
    assert reached.wait(LIMIT_S)
    worker.stop()
    with pytest.raises(KeyError):
        worker.check()
