"""Simulate a node that drops images because it is busy."""

from collections.abc import Iterator

from fer_ros.evaluation.bags.reader import BagImage


class RealtimeClock:
    """Simulates a node that processes one image at a time: until when it is busy, what it drops."""

    def __init__(self) -> None:
        self.busy_until_ns = 0
        self.dropped = 0

    def advance(self, stamp_ns: int, milliseconds: float) -> None:
        """Process an image with this stamp for so long."""
        self.busy_until_ns = max(self.busy_until_ns, stamp_ns) + round(milliseconds * 1e6)


def drop_stale(images: Iterator[BagImage], clock: RealtimeClock) -> Iterator[BagImage]:
    """Yield the images that a node with a latest-only buffer would process."""
    waiting: BagImage | None = None
    for image in images:
        if waiting is not None and clock.busy_until_ns > image.time_ns:
            clock.dropped += 1
        elif waiting is not None:
            yield waiting
        waiting = image
    if waiting is not None:
        yield waiting
