"""Landmarks of datasets as tensors."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from training.datasets.shards import FaceDataset, load_padded_crops


def load_landmarks(folders: list[Path]) -> tuple[Tensor, Tensor]:
    """Padded crops (N, 144, 144) uint8 and landmarks (N, 68, 2) of all faces that have any.

    Raises ValueError when a dataset cannot be used, or no face has landmarks.
    """
    datasets = [FaceDataset.open(folder) for folder in folders]
    landmarks = [dataset.column("landmarks68") for dataset in datasets]
    known = [~np.isnan(points).any(axis=(1, 2)) for points in landmarks]
    padded_crops = load_padded_crops(list(zip(datasets, known, strict=True)))
    if len(padded_crops) == 0:
        raise ValueError(f"{folders[0]}: expected faces with landmarks, found none")
    points = np.concatenate(
        [points_of_dataset[keep] for points_of_dataset, keep in zip(landmarks, known, strict=True)]
    )
    return torch.from_numpy(padded_crops), torch.from_numpy(points)
