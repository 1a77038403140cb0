"""Newest frame only: a place for one frame of each source, and the thread that takes them.

A network that is slower than the camera would fall behind further and further if frames queued.
Here a new frame takes the place of one that nobody has taken yet.
"""

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

T = TypeVar("T")


class FrameSlot(Generic[T]):
    """Holds at most one frame of each source; any thread may put, one takes."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._frames: dict[str, T] = {}
        self._closed = False

    def put(self, source: str, frame: T) -> bool:
        """Leaves the frame here; whether it replaced one that nobody has taken."""
        with self._changed:
            is_newer = source in self._frames
            self._frames[source] = frame
            self._changed.notify()
            return is_newer

    def take(self) -> dict[str, T] | None:
        """The newest frame of each source that has one; waits for one, None once it is closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._frames or self._closed)
            frames, self._frames = self._frames, {}
            return None if self._closed else frames

    def close(self) -> None:
        """Ends the waiting; frames that nobody has taken are let go."""
        with self._changed:
            self._closed = True
            self._frames = {}
            self._changed.notify_all()


class Worker(Generic[T]):
    """A thread that handles frames, those of all sources that wait at once, always the newest."""

    def __init__(self, handle: Callable[[dict[str, T]], None], name: str) -> None:
        self.slot: FrameSlot[T] = FrameSlot()
        self._handle = handle
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix=name)
        self._end: Future[None] = self._thread.submit(self._run)

    def _run(self) -> None:
        while (frames := self.slot.take()) is not None:
            self._handle(frames)

    def check(self) -> None:
        """Raises what ended the thread, if anything did: its death must not go unseen."""
        if self._end.done():
            self._end.result()

    def stop(self) -> None:
        """Waits until the frames in hand are done."""
        self.slot.close()
        self._thread.shutdown()
