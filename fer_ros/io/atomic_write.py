"""Write files atomically: they are complete or absent."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yield a temporary file that replaces ``path`` on success, with the default mode.

    After an error, or when the process is killed, the previous content of ``path`` remains. Parent
    folders are created. Raises OSError.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # Named by the process: two processes must not write to the same temporary file.
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    try:
        partial.touch()
        mode = partial.stat().st_mode  # some writers create files that only the user can read
        yield partial
        partial.chmod(mode)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
