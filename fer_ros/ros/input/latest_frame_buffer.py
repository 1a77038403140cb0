"""Latest-only frame buffer and the worker thread that drains it.

A network that is slower than the camera would lag further and further behind if frames queued.
Here a new frame replaces the previous one if that has not been processed yet.
"""

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

T = TypeVar("T")


class LatestFrameBuffer(Generic[T]):
    """Holds at most one frame per source; several threads may put, one takes."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._frames: dict[str, T] = {}
        self._closed = False

    def put(self, source: str, frame: T) -> bool:
        """Store a frame; return whether it replaced one that was not processed."""
        with self._changed:
            replaced = source in self._frames
            self._frames[source] = frame
            self._changed.notify()
            return replaced

    def take(self) -> dict[str, T] | None:
        """Wait for frames and return the latest of each source; None once the buffer is closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._frames or self._closed)
            frames, self._frames = self._frames, {}
            return None if self._closed else frames

    def close(self) -> None:
        """Release the waiting thread and discard pending frames."""
        with self._changed:
            self._closed = True
            self._frames = {}
            self._changed.notify_all()


class FrameWorker(Generic[T]):
    """Thread that handles the latest frames of all sources, one batch after the other."""

    def __init__(self, handle: Callable[[dict[str, T]], None], name: str) -> None:
        self.buffer: LatestFrameBuffer[T] = LatestFrameBuffer()
        self._handle = handle
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix=name)
        self._finished: Future[None] = self._thread.submit(self._run)

    def _run(self) -> None:
        while (frames := self.buffer.take()) is not None:
            self._handle(frames)

    def check(self) -> None:
        """Raise the exception that ended the thread, if there was one."""
        if self._finished.done():
            self._finished.result()

    def stop(self) -> None:
        """Wait until the batch in progress is done."""
        self.buffer.close()
        self._thread.shutdown()
