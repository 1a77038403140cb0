"""Arrays from files that may be anything."""

import numpy as np
import pytest
from fuzz.packs import LIES, ODD, npy

from training.arrays import load_array

ARRAYS = (
    np.zeros(0, np.float32),
    np.array("3"),
    np.arange(6).reshape(2, 3),
    np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    np.array(["", "größe", "\udce4.jpg"]),
    np.array([True]),
)


@pytest.mark.parametrize("values", ARRAYS)
def test_what_numpy_writes_is_read(tmp_path, values):
    path = tmp_path / "a.npy"
    path.write_bytes(npy(values))
    read = load_array(path)
    assert (read.dtype, read.tolist()) == (values.dtype, values.tolist())
    assert read.flags.writeable


@pytest.mark.filterwarnings("ignore:Reading:UserWarning")
@pytest.mark.parametrize("name", ODD)
def test_what_is_strange_but_true_is_read(tmp_path, name):
    path = tmp_path / "a.npy"
    path.write_bytes(ODD[name])
    assert load_array(path).size in (0, 1, 2)


@pytest.mark.parametrize("name", LIES)
def test_a_lie_is_one_line(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "a.npy"
    path.write_bytes(LIES[name])
    with pytest.raises(ValueError, match=r"a.npy: expected numbers in NumPy's format: ") as caught:
        load_array(path)
    assert type(caught.value) is ValueError
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == [path]  # where a pickle would leave its mark
