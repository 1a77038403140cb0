"""Packs of ``training.prepare`` as tensors: what a network learns from, and what judges it.

``DataConfig`` says in YAML which packs those are::

    data:
      train: [ferplus_train, {pack: lfwx_train, weight: 0.3, smoothing: 0.1}]
      valid: ferplus_valid
      test: ferplus_test

Nothing that is trained on may stand in ``valid`` or ``test``. FER+ comes with pictures that are in
several of its splits: those rows of train are dropped, by the data set's own ``dup_group`` and by
equal pixels, and so are rows in which nobody sees an emotion. Any other picture that train shares
with valid or test ends the run, and so does any person, where the data set says who is who: such a
split was made wrongly, and dropping rows would hide it. ``leaky`` allows it all, as papers do, and
warns.
"""

import hashlib
import logging
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fer_ros.config import Checked, from_dict, setting
from fer_ros.labels import EMOTIONS
from training.packs import CARD, Pack, gather
from training.votes import by_protocol, distribution, emotional, majority

_CONTEMPT = EMOTIONS.index("contempt")
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class PackUse(Checked):
    """A pack to train on."""

    pack: str = setting("", "its folder, below DATA")
    weight: float = setting(1.0, "of each of its faces in the loss", 0.0, 100.0)
    smoothing: float = setting(0.0, "share of its targets that all classes get alike", 0.0, 1.0)
    sources: list[str] = field(
        default_factory=list, metadata={"about": "only faces of these sources; empty: all"}
    )
    taught: float = setting(0.0, "share of its targets that the teachers give", 0.0, 1.0)


@dataclass(frozen=True)
class DataConfig(Checked):
    """The packs of an experiment. ``train`` lists packs by name or as PackUse."""

    train: list[PackUse] = field(
        default_factory=list, metadata={"about": "empty: ferplus_train alone"}
    )
    valid: str = setting("ferplus_valid", "the pack that chooses the best epoch")
    test: str = setting("ferplus_test", "nothing of it is trained on, if it is there")
    classes: int = setting(8, "7: without contempt, as in AffectNet-7", 7, 8)
    leaky: bool = setting(False, "trains on what stands in valid and test, and warns")
    teachers: list[str] = field(
        default_factory=list, metadata={"about": "model folders that answer where packs are taught"}
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        uses = [_use(item, f"train[{i}]") for i, item in enumerate(self.train)]
        object.__setattr__(self, "train", uses or [PackUse("ferplus_train")])
        held_out = {name for name in (self.valid, self.test) if name}
        for use in self.train:
            if not use.pack or use.pack in held_out:
                raise ValueError(f"train: expected packs beside valid and test, got {use.pack!r}")
        if any(use.taught for use in self.train) != bool(self.teachers):
            raise ValueError("teachers: expected with packs that are taught, and only with them")


def _use(item: object, where: str) -> PackUse:
    if isinstance(item, PackUse):
        return item
    if isinstance(item, str):
        return PackUse(item)
    return from_dict(PackUse, item, where)  # type: ignore[arg-type]


@dataclass(frozen=True, eq=False)
class Faces:
    """``canvases`` (N, 144, 144) uint8; ``targets`` (N, 8), probabilities in our order; ``labels``.

    ``labels`` (N,) are the emotions with the most votes; of equal votes, FER+'s first column wins,
    as in the literature. ``weights`` (N,) are those of the faces in the loss; empty: 1 for each.
    ``taught`` (N,) are the shares of their targets that teachers are to give; empty: none.
    """

    canvases: Tensor
    targets: Tensor
    labels: Tensor
    weights: Tensor = field(default_factory=lambda: torch.ones(0))
    taught: Tensor = field(default_factory=lambda: torch.zeros(0))

    def __post_init__(self) -> None:
        if len(self.weights) != len(self.labels):
            object.__setattr__(self, "weights", torch.ones(len(self.labels)))
        if len(self.taught) != len(self.labels):
            object.__setattr__(self, "taught", torch.zeros(len(self.labels)))

    def __len__(self) -> int:
        return len(self.canvases)

    def to(self, device: torch.device) -> "Faces":
        """The same faces with their pictures on another device."""
        return replace(self, canvases=self.canvases.to(device))

    def some(self, count: int, seed: int) -> "Faces":
        """So many of the faces, drawn by chance, in their order; all when there are fewer."""
        order = torch.randperm(len(self), generator=torch.Generator().manual_seed(seed))
        chosen = order[:count].sort().values
        parts = (self.canvases, self.targets, self.labels, self.weights, self.taught)
        return Faces(*(each[chosen] for each in parts))

    def counts(self) -> NDArray[np.int64]:
        """Pictures of each emotion (8,)."""
        return torch.bincount(self.labels, minlength=len(EMOTIONS)).numpy()

    def sha256(self) -> str:
        """Hexadecimal digest of pictures, targets and weights."""
        return sha256_of_tensors(self.canvases, self.targets, self.weights)


def sha256_of_tensors(*parts: Tensor) -> str:
    """Hexadecimal digest of what tensors hold, one behind the other."""
    digest = hashlib.sha256()
    for values in parts:
        digest.update(values.contiguous().cpu().numpy().reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


@dataclass(frozen=True, eq=False)
class _Part:
    """Chosen rows of a pack, as long as only what is small was read; all (N, ...) but ``keep``.

    ``keep`` is about all rows of the pack, the rest about those that are kept.
    """

    pack: Pack
    keep: NDArray[np.bool_]
    targets: NDArray[np.float32]
    labels: NDArray[np.int64]
    weight: float = 1.0
    taught: float = 0.0


def _all(pack: Pack) -> NDArray[np.bool_]:
    return np.ones(len(pack), np.bool_)


def _part(pack: Pack, keep: NDArray[np.bool_], classes: int, use: PackUse) -> _Part:
    """Targets and labels of rows; with seven classes, those of contempt are left out."""
    if pack.card.labels == "votes":
        votes = pack.column("votes").astype(np.int64)
        targets, labels = distribution(votes), majority(votes)
    elif pack.card.labels == "label":
        labels = pack.column("label").astype(np.int64)
        targets = np.eye(len(EMOTIONS), dtype=np.float32)[labels]
    elif use.taught == 1.0:
        labels = np.zeros(len(pack), np.int64)
        targets = np.ones((len(pack), len(EMOTIONS)), np.float32)
    else:
        raise ValueError(f"{pack.folder}: expected votes or labels, found a pack without any")
    allowed = np.ones(len(EMOTIONS), np.float32)
    if classes < len(EMOTIONS):
        allowed[_CONTEMPT] = 0
        keep = keep & (labels != _CONTEMPT)
    targets, labels = targets[keep] * allowed, labels[keep]
    targets /= targets.sum(axis=1, keepdims=True)
    targets = (1 - use.smoothing) * targets + use.smoothing * allowed / allowed.sum()
    return _Part(pack, keep, targets.astype(np.float32), labels, use.weight, use.taught)


def _join(parts: list[_Part]) -> Faces:
    """The faces of all parts, in their order."""
    weights = [np.full(len(part.labels), part.weight, np.float32) for part in parts]
    taught = [np.full(len(part.labels), part.taught, np.float32) for part in parts]
    return Faces(
        torch.from_numpy(gather([(part.pack, part.keep) for part in parts])),
        torch.from_numpy(np.concatenate([part.targets for part in parts])),
        torch.from_numpy(np.concatenate([part.labels for part in parts])),
        torch.from_numpy(np.concatenate(weights)),
        torch.from_numpy(np.concatenate(taught)),
    )


def load_faces(folder: Path, protocol: str = "", classes: int = len(EMOTIONS)) -> Faces:
    """The faces of one pack: all of them, or those that a protocol of ``training.votes`` keeps.

    ValueError, one line, when the pack cannot be used or has no votes for the protocol.
    """
    pack = Pack.open(folder)
    keep = _all(pack)
    if protocol:
        keep, _ = by_protocol(protocol, pack.column("votes").astype(np.int64))
    return _join([_part(pack, keep, classes, PackUse())])


def stands_in(pack: Pack, other: Pack) -> NDArray[np.bool_]:
    """Rows (N,) of a pack whose picture stands in the other one too.

    Pictures are the same when their pixels are, or those of their canvases, or when the data set
    puts them into one ``dup_group``.
    """
    same = np.isin(pack.column("pixel_hash"), other.column("pixel_hash"))
    same |= np.isin(pack.column("canvas_hash"), other.column("canvas_hash"))
    if pack.card.dataset == other.card.dataset:
        groups = other.column("dup_group")
        same |= np.isin(pack.column("dup_group"), groups[groups >= 0])
    return same


def seen_elsewhere(folder: Path, other: Path) -> NDArray[np.bool_]:
    """Rows (N,) of the pack ``folder`` whose picture stands in the pack ``other`` too."""
    return stands_in(Pack.open(folder), Pack.open(other))


def load_splits(config: DataConfig, folder: Path) -> tuple[Faces, Faces]:
    """The faces to train on, and those of the validation pack; packs lie in ``folder``.

    ValueError, one line, when a pack cannot be used, or shares pictures or persons with another.
    """
    valid, held_out = _held_out(config, folder)
    parts = [_train_part(use, config, folder, held_out) for use in config.train]
    train = _join(parts)
    _warn_of_empty_classes(train, config)
    valid.verify()
    return train, _join([_part(valid, _all(valid), config.classes, PackUse())])


def some_of(splits: tuple[Faces, Faces], pictures: int, seed: int) -> tuple[Faces, Faces]:
    """At most so many faces of each split, drawn by chance; 0: all of them.

    Those to validate with are the same ones whatever is drawn to train on.
    """
    if not pictures:
        return splits
    faces, valid = splits
    return faces.some(pictures, seed), valid.some(pictures, seed=0)


def _held_out(config: DataConfig, folder: Path) -> tuple[Pack, list[Pack]]:
    """The validation pack, and all packs that nothing may be learned from."""
    valid = Pack.open(folder / config.valid)
    if not config.test:
        return valid, [valid]
    test = folder / config.test
    if not (test / CARD).exists():
        _log.warning(f"{test}: no pack is there, so nothing checks that none of it is trained on")
        return valid, [valid]
    return valid, [valid, Pack.open(test)]


def _train_part(use: PackUse, config: DataConfig, folder: Path, held_out: list[Pack]) -> _Part:
    """The rows of a pack that may be trained on."""
    pack = Pack.open(folder / use.pack)
    pack.verify()
    keep = _all(pack)
    if use.sources:
        keep &= np.isin(pack.column("source"), use.sources)
    if pack.card.labels == "votes":
        keep &= emotional(pack.column("votes"))
    for other in held_out:
        both_votes = pack.card.labels == other.card.labels == "votes"
        same = keep & stands_in(pack, other)
        if both_votes and not config.leaky:
            keep &= ~same
        else:
            _complain(pack, other, "pictures", pack.column("name")[same], config)
        persons = _shared_persons(pack, other, keep)
        _complain(pack, other, "persons", persons, config)
    return _part(pack, keep, config.classes, use)


def _shared_persons(pack: Pack, other: Pack, keep: NDArray[np.bool_]) -> NDArray[np.str_]:
    if pack.card.dataset != other.card.dataset:
        return np.array([], np.str_)
    known = np.intersect1d(pack.column("identity")[keep], other.column("identity"))
    return known[known != ""]


def _complain(
    pack: Pack, other: Pack, what: str, names: NDArray[np.str_], config: DataConfig
) -> None:
    """ValueError when there are shared pictures or persons, or a warning when that is wanted."""
    if len(names) == 0:
        return
    found = f"{pack} and {other} share {len(names)} {what}, such as {names[0]}"
    if not config.leaky:
        raise ValueError(f"{found}: prepare splits that share none, or set leaky: true")
    _log.warning(f"leaky: {found}: figures on {other} will be too good")


def _warn_of_empty_classes(train: Faces, config: DataConfig) -> None:
    counts = train.counts()[: config.classes]  # contempt is the last
    empty = [name for name, count in zip(EMOTIONS, counts, strict=False) if not count]
    if empty and len(train) and not (train.taught == 1).any():
        _log.warning(
            f"no face to train on shows {', '.join(empty)}: the network will never answer it"
        )
