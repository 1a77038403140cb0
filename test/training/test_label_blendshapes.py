"""Blendshapes of a teacher in shards; a stub replaces the teacher."""

from types import SimpleNamespace

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fer_ros.blendshapes import BLENDSHAPES
from fer_ros.io.progress import progress_bar
from training.datasets.localization import make_dataset_detector
from training.datasets.readers.registry import open_source
from training.datasets.records import SourceRequest
from training.datasets.shards import FaceDataset, shard_path
from training.label_blendshapes import blendshapes
from training.label_landmarks import label_shard
from training.prepare import prepare

VIEW = np.zeros((384, 384, 3), np.uint8), np.eye(2, 3, dtype=np.float32)


def categories(names=BLENDSHAPES):
    return [SimpleNamespace(category_name=name, score=i / 100) for i, name in enumerate(names)]


def test_without_a_face_all_values_are_nan() -> None:
    assert np.isnan(blendshapes(lambda _: [], VIEW)).all()


def test_values_are_those_of_the_first_face() -> None:
    values = blendshapes(lambda _: [categories(), []], VIEW)
    np.testing.assert_allclose(values, np.arange(52) / 100, rtol=1e-6)
    assert values.dtype == np.float32


def test_another_landmarker_version_is_rejected() -> None:
    with pytest.raises(ValueError, match="expected the 52 blendshapes of version 1, found 51"):
        blendshapes(lambda _: [categories(BLENDSHAPES[1:])], VIEW)


def test_blendshapes_do_not_change_the_digest(astronaut, tmp_path) -> None:
    face = astronaut[30:230, 120:330]
    data = [cv2.imencode(".png", image)[1].tobytes() for image in (face, face // 8)]
    pq.write_table(pa.table({"name": ["a", "b"], "image": data}), tmp_path / "a.parquet")
    source = open_source(SourceRequest(tmp_path / "a.parquet"))
    prepare(source, tmp_path / "dataset", make_dataset_detector(True))
    calls = []

    def detect(image_rgb):
        calls.append(image_rgb.shape)
        return [categories()] if image_rgb[192].min() > 0 and image_rgb.max() > 40 else []

    def add_blendshapes():
        path, bar = shard_path(tmp_path / "dataset", 0), progress_bar(hidden=True)
        measure = lambda view, _: blendshapes(detect, view)  # noqa: E731
        return label_shard(path, source, "blendshapes", measure, bar)

    values = add_blendshapes()
    dataset = FaceDataset.open(tmp_path / "dataset")
    dataset.verify()
    np.testing.assert_array_equal(dataset.column("blendshapes"), values)
    np.testing.assert_array_equal(add_blendshapes(), values)
    assert calls == [(384, 384, 3)] * len(dataset)  # none for what is there already
