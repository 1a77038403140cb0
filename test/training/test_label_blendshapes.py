"""Blendshapes of a teacher in shards; a stub replaces the teacher."""

from types import SimpleNamespace

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fer_ros.blendshapes import BLENDSHAPES, MIRRORED_BLENDSHAPES
from fer_ros.io.progress import progress_bar
from training.datasets.labeling import label_shard
from training.datasets.localization import make_dataset_detector
from training.datasets.readers.registry import open_source
from training.datasets.records import SourceRequest
from training.datasets.shards import FaceDataset, shard_path
from training.label_blendshapes import blendshapes, mean_blendshapes
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


def side_view():
    """Bright on the left, and a bright border."""
    image = np.full((384, 384, 3), 50, np.uint8)
    image[:, :192] = 200
    return image, VIEW[1]


@pytest.mark.parametrize("seen", [(), (0,), (1,), (0, 1, 2)])
def test_the_mean_is_over_the_views_with_a_face(seen) -> None:
    """Answers: 0, 1 and 2 hundredths more than its index for each blendshape."""
    calls = []

    def detect(image_rgb):
        calls.append(image_rgb)
        number = len(calls) - 1
        scores = [(index + number) / 100 for index in range(52)]
        names = zip(BLENDSHAPES, scores, strict=True)
        face = [SimpleNamespace(category_name=name, score=score) for name, score in names]
        return [face] if number in seen else []

    values = mean_blendshapes(detect, side_view())
    answers = np.add.outer(np.arange(3), np.arange(52)) / 100
    answers[1] = answers[1][list(MIRRORED_BLENDSHAPES)]
    expected = answers[list(seen)].mean(axis=0) if seen else np.full(52, np.nan)
    np.testing.assert_allclose(values, expected, rtol=1e-5)
    plain, mirrored, smaller = calls
    assert (plain[0, 0, 0], mirrored[0, 0, 0], mirrored[0, -1, 0]) == (200, 50, 200)
    assert smaller.shape == plain.shape
    np.testing.assert_array_equal(smaller, plain)  # its edge stays in the middle, its border too


def test_the_smaller_view_shows_more_of_what_is_around() -> None:
    image = np.zeros((384, 384, 3), np.uint8)
    cv2.circle(image, (192, 192), 100, (255, 255, 255), -1)
    views = []
    mean_blendshapes(lambda view: views.append(view) or [], (image, VIEW[1]))
    area, mirrored, smaller = ((view[..., 0] > 127).sum() for view in views)
    assert mirrored == area
    assert smaller / area == pytest.approx(0.93**2, abs=0.01)


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

    def add_blendshapes(views=1):
        path, bar = shard_path(tmp_path / "dataset", 0), progress_bar(hidden=True)
        measure = lambda view, _: blendshapes(detect, view)  # noqa: E731
        constants = {"blendshape_views": views}
        return label_shard(path, source, "blendshapes", measure, bar, constants)

    values = add_blendshapes()
    dataset = FaceDataset.open(tmp_path / "dataset")
    dataset.verify()
    assert dataset.column("blendshape_views").tolist() == [1] * len(dataset)
    np.testing.assert_array_equal(dataset.column("blendshapes"), values)
    np.testing.assert_array_equal(add_blendshapes(), values)
    assert calls == [(384, 384, 3)] * len(dataset)  # none for what is there already
    with pytest.raises(ValueError, match="expected blendshape_views 3, found labels of 1: label"):
        add_blendshapes(3)
