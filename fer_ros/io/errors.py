"""Format errors for people."""

import errno
from collections import Counter
from collections.abc import Callable

_DISK_FULL = {errno.ENOSPC, errno.EDQUOT}


def single_line(error: object) -> str:
    """Return the message of an error on one line, or its type if it has no message.

    For an OSError this is the text of the system, without error number and file.
    """
    text = str(getattr(error, "strerror", None) or error)
    return " ".join(text.split()) or type(error).__name__


def format_os_error(error: object) -> str:
    """Return the message on one line, after the file that the error names, if any.

    The remedy for a full disk follows.
    """
    file, number = (getattr(error, name, None) for name in ("filename", "errno"))
    remedy = "; free disk space or write to another disk" if number in _DISK_FULL else ""
    return f"{file}: {single_line(error)}{remedy}" if file else f"{single_line(error)}{remedy}"


def encodable(text: str) -> str:
    """Return the text with ``\\udcNN`` for each byte of a file name that is not UTF-8."""
    return text.encode("utf-8", "backslashreplace").decode()


class WarningCounter:
    """Counts equal warnings about images, for one line each."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._first: dict[str, str] = {}

    def about(self, image: object) -> Callable[[str], object]:
        """Callback that takes a warning about this image."""

        def count(text: str) -> None:
            self._counts[text] += 1
            self._first.setdefault(text, str(image))

        return count

    @property
    def lines(self) -> list[str]:
        """Each warning with the number of its images and the first of them."""
        return [
            f"{count} images, the first {self._first[text]}: {text}"
            for text, count in self._counts.items()
        ]
