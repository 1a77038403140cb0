"""Newest frame only: a place for one frame, and the thread that takes frames from it.

A network that is slower than the camera would fall behind further and further if frames queued.
Here a new frame takes the place of one that nobody has taken yet.
"""

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

T = TypeVar("T")


class FrameSlot(Generic[T]):
    """Holds at most one frame; any thread may put, one takes."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._frames: list[T] = []
        self._closed = False
        self.dropped = 0
        """Frames that were replaced before anybody took them."""

    def put(self, frame: T) -> None:
        """Leaves the frame here, in place of one that nobody has taken."""
        with self._changed:
            self.dropped += len(self._frames)
            self._frames = [frame]
            self._changed.notify()

    def take(self) -> T | None:
        """The newest frame; waits for one, None once the slot is closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._frames or self._closed)
            return None if self._closed else self._frames.pop()

    def close(self) -> None:
        """Ends the waiting; a frame that nobody has taken is let go."""
        with self._changed:
            self._closed = True
            self._frames = []
            self._changed.notify_all()


class Worker(Generic[T]):
    """A thread that handles one frame after another, always the newest."""

    def __init__(self, handle: Callable[[T], None], name: str) -> None:
        self.slot: FrameSlot[T] = FrameSlot()
        self._handle = handle
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix=name)
        self._end: Future[None] = self._thread.submit(self._run)

    def _run(self) -> None:
        while (frame := self.slot.take()) is not None:
            self._handle(frame)

    def check(self) -> None:
        """Raises what ended the thread, if anything did: its death must not go unseen."""
        if self._end.done():
            self._end.result()

    def stop(self) -> None:
        """Waits until the frame in hand is done."""
        self.slot.close()
        self._thread.shutdown()
