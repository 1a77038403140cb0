"""Evaluation of the whole pipeline beside that of aligned crops."""

import json
import math

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from run_tools import run

from training import evaluate_end_to_end
from training.datasets.localization import make_dataset_detector
from training.datasets.readers.registry import open_source
from training.datasets.records import SourceRequest
from training.prepare import prepare

NAN = [math.nan] * 8
HAPPY, SAD = np.eye(8)[1].tolist(), np.eye(8)[2].tolist()


@pytest.mark.parametrize(
    ("end_to_end", "prepared", "labels", "readable", "expected"),
    [
        ([], [], [], [], [math.nan] * 5),
        ([NAN], [HAPPY], [1], [False], [0.0, 0.0, math.nan, math.nan, math.nan]),
        ([HAPPY, SAD], [HAPPY, HAPPY], [1, 1], [True, True], [1.0, 1.0, 0.5, 1.0, 50.0]),
        ([HAPPY, SAD], [HAPPY, HAPPY], [1, 1], [True, False], [1.0, 0.5, 1.0, 1.0, 0.0]),
        ([NAN, HAPPY], [HAPPY, SAD], [1, 1], [False, True], [0.5, 0.5, 1.0, 0.0, -100.0]),
    ],
)
def test_both_accuracies_are_of_the_covered_images(
    end_to_end, prepared, labels, readable, expected
):
    results = evaluate_end_to_end.compare(
        np.array(end_to_end, np.float32).reshape(-1, 8),
        np.array(prepared, np.float32).reshape(-1, 8),
        np.array(labels, np.int64),
        np.array(readable, np.bool_),
    )
    assert results.pop("images") == len(labels)
    assert [*results] == ["detected", "coverage", "accuracy", "accuracy_prepared", "gap"]
    np.testing.assert_equal([*results.values()], expected)


def test_detection_is_counted_by_yaw():
    """Faces turned by 0, 50 and -50 degrees: the nose leaves the middle of the eyes."""
    points = np.zeros((3, 68, 2), np.float32)
    points[:, 36], points[:, 45] = (-1, 0), (1, 0)
    points[1:, 30, 0] = np.tan(np.radians([50, -50]))
    groups = evaluate_end_to_end.by_yaw(np.array([True, True, False]), points)
    assert groups["0-15"] == {"images": 1, "detected": 1.0}
    assert groups["45-60"] == {"images": 2, "detected": 0.5}
    assert groups["15-30"] == {"images": 0, "detected": None}
    assert list(groups) == ["0-15", "15-30", "30-45", "45-60", "60-90"]


def test_a_scene_has_the_resized_image_in_its_center():
    scene_rgb = evaluate_end_to_end.scene(np.full((24, 48, 3), 250, np.uint8))
    assert scene_rgb.shape == (480, 640, 3)
    bright = np.argwhere(scene_rgb[..., 0] == 250)
    assert bright.min(axis=0).tolist() == [192, 224]
    assert bright.max(axis=0).tolist() == [287, 415]


@pytest.fixture
def faces(astronaut, tmp_path):
    """A source with a face, a uniform image and the mirrored face, and its dataset."""
    face = astronaut[50:190, 160:290]
    images = [face, np.full((96, 96, 3), 128, np.uint8), face[:, ::-1]]
    encoded = [cv2.imencode(".png", image[..., ::-1])[1].tobytes() for image in images]
    columns = {"name": ["a", "b", "c"], "image": encoded, "label": ["happy"] * 3}
    pq.write_table(pa.table(columns), tmp_path / "faces.parquet")
    source = open_source(SourceRequest(tmp_path / "faces.parquet"))
    prepare(source, tmp_path / "dataset", make_dataset_detector(True))
    return tmp_path


def evaluate(capsys, *arguments: object) -> dict:
    run(evaluate_end_to_end, *arguments)
    return json.loads(capsys.readouterr().out)


def test_faces_are_detected_in_scenes(faces, capsys):
    results = evaluate(
        capsys,
        faces / "faces.parquet",
        faces / "dataset",
        "--model",
        "two_stream_small",
    )
    assert results["images"] == 3
    assert results["detected"] == results["coverage"] == pytest.approx(2 / 3, abs=1e-4)
    assert results["accuracy"] == results["accuracy_prepared"] == 1.0


@pytest.mark.parametrize("names", [["x", "y", "z"], ["a"]])
def test_a_dataset_of_another_source_is_rejected(faces, capsys, names):
    table = pq.read_table(faces / "faces.parquet").slice(0, len(names))
    renamed = table.set_column(0, "name", pa.array(names))
    pq.write_table(renamed, faces / "other.parquet")
    with pytest.raises(SystemExit, match="expected a dataset of this source, found other images"):
        evaluate(
            capsys,
            faces / "other.parquet",
            faces / "dataset",
            "--model",
            "two_stream_small",
        )
