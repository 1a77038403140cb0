"""What the robot's road costs, beside prepared crops."""

import json
import math
import sys

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from training import road
from training.find import detector_for
from training.prepare import prepare
from training.rows import Wanted
from training.sources import open_source

NAN = [math.nan] * 8
HAPPY, SAD = np.eye(8)[1].tolist(), np.eye(8)[2].tolist()


@pytest.mark.parametrize(
    ("seen", "prepared", "labels", "usable", "expected"),
    [
        ([], [], [], [], [math.nan] * 5),
        ([NAN], [HAPPY], [1], [False], [0.0, 0.0, math.nan, math.nan, math.nan]),
        ([HAPPY, SAD], [HAPPY, HAPPY], [1, 1], [True, True], [1.0, 1.0, 0.5, 1.0, 50.0]),
        ([HAPPY, SAD], [HAPPY, HAPPY], [1, 1], [True, False], [1.0, 0.5, 1.0, 1.0, 0.0]),
        ([NAN, HAPPY], [HAPPY, SAD], [1, 1], [False, True], [0.5, 0.5, 1.0, 0.0, -100.0]),
    ],
)
def test_both_are_compared_on_the_faces_that_were_read(seen, prepared, labels, usable, expected):
    tables = [np.array(each, np.float32).reshape(-1, 8) for each in (seen, prepared)]
    found = road.compare(*tables, np.array(labels, np.int64), np.array(usable, np.bool_))
    assert found.pop("pictures") == len(labels)
    assert [*found] == ["found", "coverage", "accuracy", "accuracy_prepared", "gap"]
    np.testing.assert_equal([*found.values()], expected)


def test_a_scene_has_the_picture_enlarged_in_its_middle():
    made = road.scene(np.full((24, 48, 3), 250, np.uint8))
    assert made.shape == (480, 640, 3)
    bright = np.argwhere(made[..., 0] == 250)
    assert bright.min(axis=0).tolist() == [192, 224]
    assert bright.max(axis=0).tolist() == [287, 415]


@pytest.fixture
def faces(astronaut, tmp_path):
    """A source of one face, twice, and of a wall; and its pack."""
    face = astronaut[50:190, 160:290]
    pictures = [face, np.full((96, 96, 3), 128, np.uint8), face[:, ::-1]]
    encoded = [cv2.imencode(".png", each[..., ::-1])[1].tobytes() for each in pictures]
    columns = {"name": ["a", "b", "c"], "image": encoded, "label": ["happy"] * 3}
    pq.write_table(pa.table(columns), tmp_path / "faces.parquet")
    source = open_source(Wanted(tmp_path / "faces.parquet"))
    prepare(source, tmp_path / "pack", detector_for(True))
    return tmp_path


def run(monkeypatch, capsys, *arguments: object) -> dict:
    monkeypatch.setattr(sys, "argv", ["road", *map(str, arguments)])
    road.main()
    return json.loads(capsys.readouterr().out)


def test_faces_are_found_in_scenes_and_walls_are_not(faces, monkeypatch, capsys):
    found = run(
        monkeypatch, capsys, faces / "faces.parquet", faces / "pack", "--model", "two_stream_small"
    )
    assert found["pictures"] == 3
    assert found["found"] == found["coverage"] == pytest.approx(2 / 3, abs=1e-4)
    assert found["accuracy"] == found["accuracy_prepared"] == 1.0


@pytest.mark.parametrize("names", [["x", "y", "z"], ["a"]])
def test_another_pack_is_refused(faces, monkeypatch, capsys, names):
    table = pq.read_table(faces / "faces.parquet").slice(0, len(names))
    renamed = table.set_column(0, "name", pa.array(names))
    pq.write_table(renamed, faces / "other.parquet")
    with pytest.raises(SystemExit, match="expected a pack of this source, found other pictures"):
        run(
            monkeypatch,
            capsys,
            faces / "other.parquet",
            faces / "pack",
            "--model",
            "two_stream_small",
        )
