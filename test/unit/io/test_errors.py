"""Formatting of errors."""

import errno

import pytest

from fer_ros.io.errors import format_os_error, single_line


@pytest.mark.parametrize(
    ("text", "line"), [("", "ValueError"), ("one", "one"), ("  two\n\tlines \n", "two lines")]
)
def test_messages_become_one_line(text, line):
    assert single_line(ValueError(text)) == line
    assert format_os_error(ValueError(text)) == line


def test_os_errors_begin_with_their_file():
    error = OSError(errno.ENOSPC, "No space left on device", "out/faces.csv")
    assert single_line(error) == "No space left on device"
    remedy = "; free disk space or write to another disk"
    assert format_os_error(error) == f"out/faces.csv: No space left on device{remedy}"
    error = OSError(errno.EACCES, "Permission denied", "out/faces.csv")
    assert format_os_error(error) == "out/faces.csv: Permission denied"
    assert format_os_error(OSError(errno.EACCES, "Permission denied")) == single_line(error)
