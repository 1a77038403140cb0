"""Progress bars: a bar on a terminal, one line every ten seconds in a log file."""

import sys
from collections.abc import Iterable
from time import monotonic
from typing import Any, TextIO, TypeAlias

from tqdm import tqdm

LOG_INTERVAL_S = 10.0

ProgressBar: TypeAlias = "tqdm[Any]"


def progress_bar(
    iterable: Iterable[Any] | None = None,
    *,
    total: float | None = None,
    unit: str = "it",
    hidden: bool = False,
    description: str | None = None,
) -> ProgressBar:
    """Create a progress bar on stderr. Bytes (``unit="B"``) are shown in kB and MB.

    On a terminal the bar disappears when it is closed. Otherwise one line is written every
    ``LOG_INTERVAL_S`` seconds, and none for work that is shorter.
    """
    return tqdm(
        iterable,
        desc=description,
        total=total,
        unit=unit,
        unit_scale=unit == "B",
        disable=hidden,
        leave=False,
        file=sys.stderr if sys.stderr.isatty() else _LogStream(sys.stderr),
        ascii=None if sys.stderr.isatty() else True,
    )


def write_line(text: str) -> None:
    """Print a line on stderr, above the bars of a terminal."""
    tqdm.write(text, file=sys.stderr)


class _LogStream:
    """Turns the redraws of a bar into lines, at most one every ``LOG_INTERVAL_S`` seconds."""

    encoding = "ascii"

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._last_s = monotonic()

    def write(self, text: str) -> None:
        now_s = monotonic()
        line = text.strip()
        if line and now_s - self._last_s >= LOG_INTERVAL_S:
            self._last_s = now_s
            self._stream.write(f"{line}\n")
            self._stream.flush()

    def flush(self) -> None:
        """Lines are flushed as they are written."""
