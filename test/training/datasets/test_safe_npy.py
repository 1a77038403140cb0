"""Arrays from files that may be anything."""

import numpy as np
import pytest
from fuzz.datasets import FALSE_HEADERS, UNUSUAL_HEADERS, npy

from training.datasets.safe_npy import load_array

ARRAYS = (
    np.zeros(0, np.float32),
    np.array("3"),
    np.arange(6).reshape(2, 3),
    np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    np.array(["", "größe", "\udce4.jpg"]),
    np.array([True]),
)


@pytest.mark.parametrize("values", ARRAYS)
def test_arrays_written_by_numpy_are_read(tmp_path, values):
    path = tmp_path / "a.npy"
    path.write_bytes(npy(values))
    read = load_array(path)
    assert (read.dtype, read.tolist()) == (values.dtype, values.tolist())
    assert read.flags.writeable


@pytest.mark.filterwarnings("ignore:Reading:UserWarning")
@pytest.mark.parametrize("name", UNUSUAL_HEADERS)
def test_unusual_valid_files_are_read(tmp_path, name):
    path = tmp_path / "a.npy"
    path.write_bytes(UNUSUAL_HEADERS[name])
    assert load_array(path).size in (0, 1, 2)


@pytest.mark.parametrize("name", FALSE_HEADERS)
def test_a_false_header_is_reported_in_one_line(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "a.npy"
    path.write_bytes(FALSE_HEADERS[name])
    with pytest.raises(ValueError, match=r"a.npy: expected numbers in NumPy's format: ") as caught:
        load_array(path)
    assert type(caught.value) is ValueError
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == [path]  # where a pickle would leave its mark
