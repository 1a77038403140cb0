"""Errors as people read them."""

import errno

import pytest

from fer_ros.errors import one_line, with_file


@pytest.mark.parametrize(
    ("said", "line"), [("", "ValueError"), ("one", "one"), ("  two\n\tlines \n", "two lines")]
)
def test_one_line(said, line):
    assert one_line(ValueError(said)) == line
    assert with_file(ValueError(said)) == line


def test_an_error_of_the_system_is_behind_its_file():
    error = OSError(errno.ENOSPC, "No space left on device", "out/faces.csv")
    assert one_line(error) == "No space left on device"
    assert with_file(error) == "out/faces.csv: No space left on device"
    assert with_file(OSError(errno.ENOSPC, "No space left on device")) == one_line(error)
