"""Made-up datasets, as training.prepare would leave them, and files of datasets."""

from pathlib import Path

import numpy as np

from training.datasets.records import dataset_name
from training.datasets.shards import finalize, pixel_hash, shard_path, write_shard


def write_lines(path: Path, *lines: str) -> Path:
    """A text file, in folders that need not be there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


def write_points(path: Path, points: np.ndarray) -> Path:
    """A ``.pts`` file as 300-W has them, of points (68, 2) that count from 1."""
    lines = [f"{x:.6f} {y:.6f}" for x, y in points]
    return write_lines(path, "version: 1", "n_points: 68", "{", *lines, "}")


def write_dataset(folder: Path, *, shards: int = 1, **columns: object) -> Path:
    """A dataset with ``votes`` or ``label``, and what else is given; every image is another one."""
    given = {key: np.asarray(values) for key, values in columns.items()}
    count = len(next(iter(given.values())))
    hashes = [
        pixel_hash(np.frombuffer(f"{folder.name} {i}".encode(), np.uint8)) for i in range(count)
    ]
    folder.mkdir(parents=True)
    rows = {
        "name": np.array([f"{folder.name}_{i}" for i in range(count)], np.str_),
        "index": np.arange(count, dtype=np.int32),
        "padded_crop": np.zeros((count, 144, 144), np.uint8),
        "padded_crop_hash": np.array(hashes, np.uint64),
        "pixel_hash": np.array(hashes, np.uint64),
        "frame_to_crop": np.tile(np.eye(2, 3, dtype=np.float32), (count, 1, 1)),
        "size_px": np.full((count, 2), 112, np.int32),
        "detected": np.ones(count, np.bool_),
        "identity": np.full(count, "", np.str_),
        "source": np.full(count, "", np.str_),
        "dup_group": np.full(count, -1, np.int32),
        **given,
    }
    for index, places in enumerate(np.array_split(np.arange(count), shards)):
        left_out = {name: np.array([], np.str_) for name in ("undecodable", "undetected")}
        some = {key: values[places] for key, values in rows.items()}
        write_shard(shard_path(folder, index), some | left_out)
    labels = "votes" if "votes" in given else "label" if "label" in given else ""
    finalize(folder, shards, kind="parquet", name=dataset_name(folder), labels=labels)
    return folder
