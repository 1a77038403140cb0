"""A CSV file with the columns ``path`` and ``label``."""

from pathlib import Path

from training.datasets.records import (
    SPLITS,
    DatasetSource,
    Sample,
    SourceRequest,
    dataset_name,
    emotion_index,
    header,
    read_table,
    split_of,
)


def read_csv(request: SourceRequest) -> DatasetSource:
    """Samples with ``identity``, ``split`` and ``source`` where the file has these columns."""
    folder = request.images or request.path.parent
    splits: dict[str, list[Sample]] = {}
    for where, cells in read_table(request.path, ("path", "label")):
        split = split_of(cells.get("split", ""))
        if cells.get("split") and not split:
            raise ValueError(f"{where}: expected {', '.join(SPLITS)}, found {cells['split']!r}")
        sample = Sample(
            cells["path"],
            folder / cells["path"],
            label=emotion_index(cells["label"], where),
            identity=cells.get("identity", "").strip(),
            source=cells.get("source", "").strip(),
        )
        splits.setdefault(split or "all", []).append(sample)
    samples = request.choose(splits) if splits else []
    return DatasetSource("csv", dataset_name(request.path), samples)


def is_csv(path: Path) -> bool:
    """Whether the header names both columns."""
    return {"path", "label"} <= {name.strip() for name in header(path).split(",")}
