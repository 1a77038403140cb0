"""Types of command line arguments."""

import argparse
import math

_MAX_SECONDS = 3600.0


def path_text(text: str) -> str:
    """Return a path as it is. An empty one, such as an unset variable of a shell, is refused."""
    if not text:
        raise argparse.ArgumentTypeError("expected a path, found an empty text")
    return text


def count(text: str) -> int:
    """Return a whole number of 1 or more."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number of 1 or more, found {text!r}")
    return int(text)


def seconds(text: str) -> float:
    """Return a time above 0, at most an hour."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value <= _MAX_SECONDS:
        raise argparse.ArgumentTypeError(
            f"expected a number above 0, at most {_MAX_SECONDS:g}, found {text!r}"
        )
    return value
