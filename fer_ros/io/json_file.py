"""Strict JSON files, and file names in errors."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fer_ros.io.errors import single_line


def write_json(path: Path, content: Any, indent: int | None = 1) -> None:
    """Write strict JSON that ends with a line feed. Raises OSError, which names the file."""
    text = json.dumps(content, indent=indent, allow_nan=False)
    with add_path_to_oserror(path):
        path.write_text(text + "\n", encoding="utf-8")


def read_json(path: Path) -> Any:
    """Read what ``write_json`` wrote. Raises OSError or ValueError."""
    return json.loads(path.read_text(encoding="utf-8"))


@contextmanager
def add_path_to_oserror(path: Path) -> Iterator[None]:
    """Add ``path`` to an OSError without a file name, such as that of a full disk."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, single_line(error), str(error.filename or path)) from None
