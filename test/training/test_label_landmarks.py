"""Landmarks of a teacher in shards; a stub replaces the teacher."""

import subprocess
import sys
from types import SimpleNamespace

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tree import ROOT

from fer_ros.io.progress import progress_bar
from training.datasets.localization import make_dataset_detector
from training.datasets.readers.registry import open_source
from training.datasets.records import SourceRequest
from training.datasets.shards import FaceDataset, shard_path
from training.label_landmarks import add_landmarks_to_shard
from training.prepare import prepare


class BrightestSpot:
    """In place of the mesh: all vertices stand at the brightest place, if there is one."""

    def __init__(self) -> None:
        self.calls = 0

    def process(self, frame: np.ndarray) -> SimpleNamespace:
        self.calls += 1
        gray = cv2.GaussianBlur(frame[..., 0].astype(np.float32), (0, 0), 3)
        y, x = np.unravel_index(gray.argmax(), gray.shape)
        if gray.max() < 200:
            return SimpleNamespace(multi_face_landmarks=None)
        side = len(frame)
        vertex = SimpleNamespace(x=(x + 0.5) / side, y=(y + 0.5) / side)
        return SimpleNamespace(multi_face_landmarks=[SimpleNamespace(landmark=[vertex] * 468)])


@pytest.mark.parametrize("tight", [True, False])
def test_landmarks_are_fractions_of_the_crop(astronaut, tmp_path, tight):
    """A bright spot is put onto the nose of two of three faces."""
    marked = astronaut[30:230, 120:330] // 2
    marked[118 - 30 - 4 : 118 - 30 + 5, 226 - 120 - 4 : 226 - 120 + 5] = 255
    images = [marked, astronaut[30:230, 120:330] // 3, marked[:, ::-1]]
    data = [cv2.imencode(".png", image[..., ::-1])[1].tobytes() for image in images]
    pq.write_table(pa.table({"name": ["a", "b", "c"], "image": data}), tmp_path / "a.parquet")
    source = open_source(SourceRequest(tmp_path / "a.parquet"), tight_crops=tight)
    prepare(source, tmp_path / "dataset", make_dataset_detector(tight))

    mesh, bar, path = (
        BrightestSpot(),
        progress_bar(hidden=True),
        shard_path(tmp_path / "dataset", 0),
    )
    points = add_landmarks_to_shard(mesh, source, path, bar)
    assert np.isnan(points[1]).all()
    dataset = FaceDataset.open(tmp_path / "dataset")
    maps, nose = dataset.column("frame_to_crop"), np.array([226 - 120, 118 - 30, 1])
    np.testing.assert_allclose(points[0, 30], (maps[0] @ nose + 0.5) / 112, atol=0.01)
    mirrored = np.array([marked.shape[1] - 1 - nose[0], nose[1], 1])
    np.testing.assert_allclose(points[2, 30], (maps[2] @ mirrored + 0.5) / 112, atol=0.01)

    dataset.verify()
    np.testing.assert_array_equal(dataset.column("landmarks68"), points)
    np.testing.assert_array_equal(add_landmarks_to_shard(mesh, source, path, bar), points)
    assert mesh.calls == 3  # none for what is there already


def test_faces_of_another_source_are_rejected(astronaut, tmp_path):
    data = [cv2.imencode(".png", astronaut[30:230, 120:330])[1].tobytes()]
    for name in ("a", "b"):
        pq.write_table(pa.table({"name": [name], "image": data}), tmp_path / f"{name}.parquet")
    source, other = (
        open_source(SourceRequest(tmp_path / f"{name}.parquet")) for name in ("a", "b")
    )
    prepare(source, tmp_path / "dataset", make_dataset_detector(True))
    with pytest.raises(ValueError, match=r"shard-00000.npz: expected faces of the source"):
        add_landmarks_to_shard(
            BrightestSpot(), other, shard_path(tmp_path / "dataset", 0), progress_bar(hidden=True)
        )


def test_the_teacher_needs_no_torch():
    command = "import sys, training.label_landmarks; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", command], cwd=ROOT, check=True)
