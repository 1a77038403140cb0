"""What the command lines of training have in common."""

import sys


def report_error(program: str, error: Exception | str) -> int:
    """Print the line ``program: error`` to stderr. Returns 1, the exit code."""
    print(f"{program}: {error}", file=sys.stderr)
    return 1
