"""Packs of faces from Parquet files."""

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fer_ros.config import DetectorConfig
from fer_ros.detect import make_detector
from training.prepare import decode, fill_missing, prepare


@pytest.fixture(scope="module")
def detector():
    return make_detector(DetectorConfig(long_side_px=192, min_score=0.2))


@pytest.fixture
def source(astronaut, tmp_path):
    """A tight crop of a face, and a grey picture without one."""
    pictures = [astronaut[50:190, 160:290], np.full((48, 48, 3), 128, np.uint8)]
    data = [cv2.imencode(".png", each[..., ::-1])[1].tobytes() for each in pictures]
    table = pa.table({"name": ["face", "wall"], "image": data, "dup_group": [None, 3]})
    pq.write_table(table, tmp_path / "source.parquet")
    return tmp_path / "source.parquet"


def test_every_picture_is_kept_and_faces_are_aligned(detector, source, tmp_path):
    said = prepare(source, tmp_path / "new" / "pack.npz", detector)
    assert said.endswith("2 pictures, no face found in 1")
    pack = np.load(tmp_path / "new" / "pack.npz")
    assert pack["canvas"].shape == (2, 144, 144)
    assert pack["found"].tolist() == [True, False]
    assert pack["dup_group"].tolist() == [-1, 3]
    np.testing.assert_array_equal(*pack["frame_to_crop"])  # the median of one
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["pack.npz"]


def test_a_pack_without_any_face_is_refused():
    with pytest.raises(ValueError, match="no face was found in any picture"):
        fill_missing(np.zeros((2, 2, 3), np.float32), np.zeros(2, bool))


@pytest.mark.parametrize("data", [b"", b"not a picture"])
def test_what_does_not_decode_is_named(data):
    with pytest.raises(ValueError, match="photo_7: expected an encoded picture"):
        decode(data, "photo_7")
