"""Files that are whole or not there."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A file to write in place of ``path``, which it becomes in the end, with the usual mode.

    When that fails or is killed, what stood there before stays. Folders are made. Raises OSError.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # one of its own for each process, so that two of them do not write into each other's
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    try:
        partial.touch()
        mode = partial.stat().st_mode  # some writers leave a file that nobody else may read
        yield partial
        partial.chmod(mode)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
