"""JSON files, and the file names in their errors."""

import errno

import pytest

from fer_ros.io.json_file import add_path_to_oserror, read_json, write_json


@pytest.mark.parametrize("content", [None, [], {"share": 0.5, "name": "é"}])
def test_what_is_written_is_read(tmp_path, content):
    path = tmp_path / "x.json"
    write_json(path, content)
    assert read_json(path) == content
    assert path.read_text(encoding="utf-8").endswith("\n")


def test_numbers_that_are_not_finite_are_refused(tmp_path):
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "x.json", float("nan"))
    assert list(tmp_path.iterdir()) == []


def test_an_error_names_the_file(tmp_path):
    path = tmp_path / "missing" / "x.json"
    with pytest.raises(OSError) as caught:
        write_json(path, {})
    assert caught.value.filename == str(path)


@pytest.mark.parametrize(("filename", "expected"), [(None, "full.csv"), ("other", "other")])
def test_an_error_without_a_file_gets_its_name(tmp_path, filename, expected):
    error = OSError(errno.ENOSPC, "No space left on device", filename)
    with pytest.raises(OSError) as caught, add_path_to_oserror(tmp_path / "full.csv"):
        raise error
    assert caught.value.errno == errno.ENOSPC
    assert caught.value.filename.endswith(expected)
