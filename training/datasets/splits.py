"""Datasets of ``training.prepare`` as tensors, and checks that splits do not overlap.

``DataConfig`` names the datasets in YAML::

    data:
      train: [ferplus_train, {dataset: lfwx_train, weight: 0.3, smoothing: 0.1}]
      valid: ferplus_valid
      test: ferplus_test
      held_out: [nhfi_valid, nhfi_test]

No training sample may be in ``valid``, ``test`` or ``held_out``. FER+ has images in several splits:
those training samples are dropped, by the own ``dup_group`` of the dataset and by equal
pixels, and so are samples without a vote for an emotion. Any other image that train shares with one
of these ends the run, and so does any person, where identities are known: such a split is wrong,
and dropping samples would hide it. ``allow_overlap`` trains on all of them, and warns.
"""

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fer_ros.blendshapes import NUM_BLENDSHAPES
from fer_ros.config import ValidatedConfig, config_field, from_dict
from fer_ros.emotions import EMOTIONS
from training.datasets.ferplus_votes import distribution, has_emotion_votes, majority
from training.datasets.shards import METADATA_FILE, FaceDataset, load_padded_crops

_CONTEMPT = EMOTIONS.index("contempt")
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class DatasetUse(ValidatedConfig):
    """A dataset to train on, and how."""

    dataset: str = config_field("", "folder of the dataset below DATA")
    weight: float = config_field(1.0, "weight of each sample in the loss", 0.0, 100.0)
    smoothing: float = config_field(0.0, "label smoothing factor", 0.0, 1.0)
    sources: list[str] = field(
        default_factory=list, metadata={"description": "only samples of these sources; empty: all"}
    )
    teacher_weight: float = config_field(0.0, "weight of the teachers in its targets", 0.0, 1.0)
    sampling_weight: float = config_field(
        1.0, "sampling frequency of each sample, relative to other datasets", 0.01, 100.0
    )


@dataclass(frozen=True)
class DataConfig(ValidatedConfig):
    """The datasets of an experiment. ``train`` lists names or mappings of DatasetUse."""

    train: list[DatasetUse] = field(
        default_factory=list, metadata={"description": "empty: ferplus_train"}
    )
    valid: str = config_field("ferplus_valid", "dataset to select the best epoch with")
    test: str = config_field("ferplus_test", "dataset to keep apart, if it exists")
    balanced_valid: str = config_field(
        "", "second dataset to select by: accuracy and balanced accuracy at equal priors"
    )
    held_out: list[str] = field(
        default_factory=list, metadata={"description": "more datasets to keep apart"}
    )
    classes: int = config_field(8, "7: without contempt (AffectNet-7)", 7, 8)
    allow_overlap: bool = config_field(False, "train on samples of valid and test, too, and warn")
    teachers: list[str] = field(
        default_factory=list,
        metadata={"description": "model folders or names of shipped models"},
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        uses = [_use(item, f"train[{i}]") for i, item in enumerate(self.train)]
        object.__setattr__(self, "train", uses or [DatasetUse("ferplus_train")])
        for use in self.train:
            if not use.dataset or use.dataset in self.names_held_out():
                raise ValueError(
                    f"train: expected datasets other than valid and test, found {use.dataset!r}"
                )
        if any(use.teacher_weight for use in self.train) != bool(self.teachers):
            only = "teachers" if self.teachers else "a teacher_weight"
            raise ValueError(
                "teachers: expected teachers and a teacher_weight above 0 in train, "
                f"found only {only}"
            )

    def names_held_out(self) -> list[str]:
        """All datasets that are not trained on."""
        names = dict.fromkeys((self.valid, self.test, self.balanced_valid, *self.held_out))
        return [name for name in names if name]


def _use(item: object, where: str) -> DatasetUse:
    if isinstance(item, DatasetUse):
        return item
    if isinstance(item, str):
        return DatasetUse(item)
    return from_dict(DatasetUse, item, where)  # type: ignore[arg-type]


@dataclass(frozen=True, eq=False)
class Faces:
    """Labeled faces in memory.

    ``padded_crops`` (N, 144, 144) uint8; ``targets`` (N, 8), probabilities in the order of
    EMOTIONS; ``labels`` (N,), the emotions with the most votes (of equal votes, FER+'s first column
    wins, as in the literature); ``weights`` (N,) in the loss, empty: 1; ``teacher_weight`` (N,) in
    the targets, empty: 0; ``sampling_weights`` (N,), relative sampling frequencies, empty: 1;
    ``priors`` (N, 8), class frequencies of the dataset of each face, empty: those of all faces;
    ``blendshapes`` (N, 52), NaN where unknown, empty: all unknown.
    """

    padded_crops: Tensor
    targets: Tensor
    labels: Tensor
    weights: Tensor = field(default_factory=lambda: torch.ones(0))
    teacher_weight: Tensor = field(default_factory=lambda: torch.zeros(0))
    sampling_weights: Tensor = field(default_factory=lambda: torch.ones(0))
    priors: Tensor = field(default_factory=lambda: torch.zeros(0))
    blendshapes: Tensor = field(default_factory=lambda: torch.zeros(0))

    def __post_init__(self) -> None:
        count = len(self.labels)
        defaults = {
            "weights": torch.ones(count),
            "teacher_weight": torch.zeros(count),
            "sampling_weights": torch.ones(count),
            "priors": self.targets.float().mean(dim=0).expand(count, -1),
            "blendshapes": torch.full((count, NUM_BLENDSHAPES), torch.nan),
        }
        for name, values in defaults.items():
            if len(getattr(self, name)) != count:
                object.__setattr__(self, name, values)

    def __len__(self) -> int:
        return len(self.padded_crops)

    def to(self, device: torch.device) -> "Faces":
        """The same faces with their images on another device."""
        return replace(self, padded_crops=self.padded_crops.to(device))

    def subset(self, count: int, seed: int) -> "Faces":
        """``count`` random faces in their order; all when there are fewer."""
        chosen = random_subset(len(self), count, seed)
        return Faces(*(getattr(self, field.name)[chosen] for field in fields(self)))

    def counts(self) -> NDArray[np.int64]:
        """Number of faces by emotion (8,)."""
        return torch.bincount(self.labels, minlength=len(EMOTIONS)).numpy()

    def sha256(self) -> str:
        """Hexadecimal digest of images, targets and weights."""
        return sha256_of_tensors(self.padded_crops, self.targets, self.weights)


def random_subset(total: int, count: int, seed: int) -> Tensor:
    """Sorted indices of ``count`` random samples of ``total``; of all when there are fewer."""
    order = torch.randperm(total, generator=torch.Generator().manual_seed(seed))
    return order[:count].sort().values


def sha256_of_tensors(*parts: Tensor) -> str:
    """Hexadecimal digest of the contents of tensors."""
    digest = hashlib.sha256()
    for values in parts:
        digest.update(values.contiguous().cpu().numpy().reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


@dataclass(frozen=True, eq=False)
class _DatasetPart:
    """Selected rows of a dataset, without their images; all (N, ...) but ``keep``.

    ``keep`` has all rows of the dataset, the other arrays the selected ones.
    """

    dataset: FaceDataset
    keep: NDArray[np.bool_]
    targets: NDArray[np.float32]
    labels: NDArray[np.int64]
    use: DatasetUse = field(default_factory=DatasetUse)

    def repeated(self, value: float) -> Tensor:
        """The same value for every row (N,)."""
        return torch.full((len(self.labels),), value)

    def priors(self) -> Tensor:
        """Class shares of all rows, for every row (N, 8)."""
        return torch.from_numpy(self.targets).mean(dim=0).repeat(len(self.labels), 1)

    def blendshapes(self) -> Tensor:
        """Those of the dataset (N, 52); NaN when it has none."""
        if not self.dataset.has("blendshapes"):
            return torch.full((len(self.labels), NUM_BLENDSHAPES), torch.nan)
        return torch.from_numpy(self.dataset.column("blendshapes")[self.keep].astype(np.float32))


def _all(dataset: FaceDataset) -> NDArray[np.bool_]:
    return np.ones(len(dataset), np.bool_)


def _part(
    dataset: FaceDataset, keep: NDArray[np.bool_], classes: int, use: DatasetUse
) -> _DatasetPart:
    """Targets and labels of selected samples; with seven classes without contempt."""
    if dataset.metadata.labels == "votes":
        votes = dataset.column("votes").astype(np.int64)
        targets, labels = distribution(votes), majority(votes)
    elif dataset.metadata.labels == "label":
        labels = dataset.column("label").astype(np.int64)
        targets = np.eye(len(EMOTIONS), dtype=np.float32)[labels]
    elif use.teacher_weight == 1.0:
        labels = np.zeros(len(dataset), np.int64)
        targets = np.ones((len(dataset), len(EMOTIONS)), np.float32)
    else:
        raise ValueError(f"{dataset.folder}: expected votes or labels, found a dataset without any")
    allowed = np.ones(len(EMOTIONS), np.float32)
    if classes < len(EMOTIONS):
        allowed[_CONTEMPT] = 0
        keep = keep & (labels != _CONTEMPT)
    targets, labels = targets[keep] * allowed, labels[keep]
    targets /= targets.sum(axis=1, keepdims=True)
    targets = (1 - use.smoothing) * targets + use.smoothing * allowed / allowed.sum()
    return _DatasetPart(dataset, keep, targets.astype(np.float32), labels, use)


def _join(parts: list[_DatasetPart]) -> Faces:
    """Read the images of all parts; the faces in their order."""
    return Faces(
        torch.from_numpy(load_padded_crops([(part.dataset, part.keep) for part in parts])),
        torch.from_numpy(np.concatenate([part.targets for part in parts])),
        torch.from_numpy(np.concatenate([part.labels for part in parts])),
        torch.cat([part.repeated(part.use.weight) for part in parts]),
        torch.cat([part.repeated(part.use.teacher_weight) for part in parts]),
        torch.cat([part.repeated(part.use.sampling_weight) for part in parts]),
        torch.cat([part.priors() for part in parts]),
        torch.cat([part.blendshapes() for part in parts]),
    )


def load_faces(folder: Path) -> Faces:
    """All faces of one dataset. Raises ValueError, one line, when it cannot be used."""
    dataset = FaceDataset.open(folder)
    return _join([_part(dataset, _all(dataset), len(EMOTIONS), DatasetUse())])


def duplicates_of(dataset: FaceDataset, other: FaceDataset) -> NDArray[np.bool_]:
    """Which rows (N,) of a dataset have an image of the other one.

    Images are the same when their pixels are, or those of their padded_crops, or when the dataset
    puts them into one ``dup_group``.
    """
    same = np.isin(dataset.column("pixel_hash"), other.column("pixel_hash"))
    same |= np.isin(dataset.column("padded_crop_hash"), other.column("padded_crop_hash"))
    if dataset.metadata.name == other.metadata.name:
        groups = other.column("dup_group")
        same |= np.isin(dataset.column("dup_group"), groups[groups >= 0])
    return same


def find_duplicates(folder: Path, *others: Path) -> NDArray[np.bool_]:
    """Which rows (N,) of the dataset ``folder`` have an image of one of the ``others``."""
    dataset = FaceDataset.open(folder)
    found = [duplicates_of(dataset, FaceDataset.open(other)) for other in others]
    return np.any(found, axis=0)


def load_splits(config: DataConfig, folder: Path) -> tuple[Faces, Faces]:
    """The faces to train on, and those of the validation dataset; datasets lie in ``folder``.

    Raises ValueError, one line, when a dataset cannot be used, or shares images or persons with
    another one.
    """
    valid, held_out = _held_out(config, folder)
    parts = [_train_part(use, config, folder, held_out) for use in config.train]
    train = _join(parts)
    _warn_of_empty_classes(train, config)
    return train, _validation_faces(valid, config)


def load_balanced_valid(config: DataConfig, folder: Path, max_samples: int = 0) -> Faces | None:
    """The faces of ``balanced_valid``, or ``max_samples`` of them; None when it names no dataset.

    Raises ValueError, one line, when the dataset cannot be used, or has no face of its classes.
    """
    if not config.balanced_valid:
        return None
    faces = _validation_faces(FaceDataset.open(folder / config.balanced_valid), config)
    if len(faces) == 0:
        raise ValueError(f"{folder / config.balanced_valid}: expected a face, found none")
    return faces.subset(max_samples, seed=0) if max_samples else faces


def _validation_faces(dataset: FaceDataset, config: DataConfig) -> Faces:
    dataset.verify()
    return _join([_part(dataset, _all(dataset), config.classes, DatasetUse())])


def subsample(splits: tuple[Faces, Faces], images: int, seed: int) -> tuple[Faces, Faces]:
    """Random faces, at most ``images`` of each split; 0: all of them.

    The seed does not change the validation faces.
    """
    if not images:
        return splits
    faces, valid = splits
    return faces.subset(images, seed), valid.subset(images, seed=0)


def _held_out(config: DataConfig, folder: Path) -> tuple[FaceDataset, list[FaceDataset]]:
    """The validation dataset, and all datasets that must not be trained on."""
    valid = FaceDataset.open(folder / config.valid)
    others = [name for name in config.names_held_out() if name != config.valid]
    return valid, [valid, *open_held_out(folder, others)]


def open_held_out(folder: Path, names: Sequence[str]) -> list[FaceDataset]:
    """The datasets that exist; a warning is logged for each of the others."""
    held_out = []
    for path in [folder / name for name in names]:
        if (path / METADATA_FILE).exists():
            held_out.append(FaceDataset.open(path))
        else:
            _log.warning(
                f"{path}: dataset not found: overlap with the training data is not checked; "
                "prepare it, or remove it from data"
            )
    return held_out


def _train_part(
    use: DatasetUse, config: DataConfig, folder: Path, held_out: list[FaceDataset]
) -> _DatasetPart:
    """The samples of a dataset that may be trained on."""
    dataset = FaceDataset.open(folder / use.dataset)
    dataset.verify()
    keep = _all(dataset)
    if use.sources:
        keep &= np.isin(dataset.column("source"), use.sources)
    if dataset.metadata.labels == "votes":
        keep &= has_emotion_votes(dataset.column("votes"))
    for other in held_out:
        both_votes = dataset.metadata.labels == other.metadata.labels == "votes"
        same = keep & duplicates_of(dataset, other)
        if both_votes and not config.allow_overlap:
            keep &= ~same
        else:
            _report_overlap(dataset, other, "images", dataset.column("name")[same], config)
        persons = _shared_persons(dataset, other, keep)
        _report_overlap(dataset, other, "persons", persons, config)
    return _part(dataset, keep, config.classes, use)


def _shared_persons(
    dataset: FaceDataset, other: FaceDataset, keep: NDArray[np.bool_]
) -> NDArray[np.str_]:
    if dataset.metadata.name != other.metadata.name:
        return np.array([], np.str_)
    known = np.intersect1d(dataset.column("identity")[keep], other.column("identity"))
    return known[known != ""]


def _report_overlap(
    dataset: FaceDataset, other: FaceDataset, kind: str, names: NDArray[np.str_], config: DataConfig
) -> None:
    """Raise ValueError for shared images or persons, or warn when they are allowed."""
    if len(names) == 0:
        return
    overlap = f"{dataset} and {other} share {len(names)} {kind}, such as {names[0]}"
    if not config.allow_overlap:
        raise ValueError(f"{overlap}: prepare splits that share none, or set allow_overlap: true")
    _log.warning(f"allow_overlap: {overlap}: metrics on {other} will be optimistic")


def _warn_of_empty_classes(train: Faces, config: DataConfig) -> None:
    counts = train.counts()[: config.classes]  # contempt is the last
    empty = [name for name, count in zip(EMOTIONS, counts, strict=False) if not count]
    if empty and len(train) and not (train.teacher_weight == 1).any():
        _log.warning(
            f"no face to train on shows {', '.join(empty)}: the network will never predict it"
        )
