"""Landmarks of datasets as tensors."""

import numpy as np
import pytest
from dataset_tools import write_dataset

from training.datasets.landmarks import load_landmarks


def test_faces_without_landmarks_are_left_out(tmp_path):
    for split, count in (("train", 4), ("valid", 2)):
        points = np.random.default_rng(0).uniform(0, 1, (count, 68, 2)).astype(np.float32)
        points[3:4] = np.nan
        write_dataset(tmp_path / f"set_{split}", landmarks68=points)
    padded_crops, points = load_landmarks([tmp_path / "set_train", tmp_path / "set_valid"])
    assert (padded_crops.shape, points.shape) == ((5, 144, 144), (5, 68, 2))
    assert points.isfinite().all()


def test_datasets_without_any_landmarks_are_reported(tmp_path):
    write_dataset(tmp_path / "blind", landmarks68=np.full((2, 68, 2), np.nan, np.float32))
    with pytest.raises(ValueError, match="blind: expected faces with landmarks, found none"):
        load_landmarks([tmp_path / "blind"])
