"""Arrays in NumPy's format (NEP 1) from files that may be anything: numbers and text, no objects.

NumPy's own reader allocates as many items as a header states. Here a header is accepted only when
it states exactly the bytes of data that follow.
"""

import math
import os
import sys
import tokenize
from pathlib import Path
from reprlib import repr as short
from typing import IO

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

_KINDS = "biufU"
_READERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}

# Raised by ast.literal_eval, which parses headers, and by NumPy's parser of Python 2 headers.
_NO_HEADER = (
    ValueError,
    TypeError,
    SyntaxError,
    MemoryError,
    RecursionError,
    tokenize.TokenError,
)


def read_header(file: IO[bytes], size: int) -> tuple[tuple[int, ...], np.dtype]:
    """Shape and type of the array in a file of ``size`` bytes; ``file`` is at its data then.

    Raises ValueError without the name of the file.
    """
    try:
        read = _READERS.get(npy.read_magic(file))
        if read is None:
            raise ValueError("of a later version")
        shape, _, dtype = read(file)
    except _NO_HEADER:
        raise ValueError("not in NumPy's format") from None
    if dtype.kind not in _KINDS or dtype.itemsize == 0:
        raise ValueError(f"expected numbers or text, found {dtype.itemsize} bytes of {dtype.name}")
    if not all(type(side) is int and side >= 0 for side in shape):  # True is an int, too
        raise ValueError(f"expected sides of 0 and more in its header, found {short(shape)}")
    expected_bytes, num_bytes = math.prod(shape) * dtype.itemsize, size - file.tell()
    if expected_bytes != num_bytes:
        expected = str(expected_bytes) if expected_bytes <= sys.maxsize else f"over {sys.maxsize}"
        raise ValueError(
            f"expected {expected} bytes of data ({short(shape)}, {dtype.name}), found {num_bytes}"
        )
    return shape, dtype


def read_array(file: IO[bytes]) -> NDArray:
    """The array of a file whose header ``read_header`` has checked.

    Raises ValueError when the data is too short, or is no text although its header says so.
    """
    values = npy.read_array(file, allow_pickle=False)
    if values.dtype.kind == "U":
        code_points = np.dtype(np.uint32).newbyteorder(values.dtype.byteorder)
        if values.reshape(-1).view(code_points).max(initial=0) > sys.maxunicode:
            raise ValueError("expected text, found other data")
    return values


def load_array(path: Path) -> NDArray:
    """The array of a ``.npy`` file. Raises ValueError, one line, when the file contains none."""
    with path.open("rb") as file:
        try:
            read_header(file, os.fstat(file.fileno()).st_size)
            file.seek(0)
            return read_array(file)
        except ValueError as error:
            raise ValueError(f"{path}: expected numbers in NumPy's format: {error}") from None
