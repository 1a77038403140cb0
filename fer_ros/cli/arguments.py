"""Types of command line arguments."""

import argparse


def path_text(text: str) -> str:
    """Return a path as it is. An empty one, such as an unset variable of a shell, is refused."""
    if not text:
        raise argparse.ArgumentTypeError("expected a path, found an empty text")
    return text
