"""Packs of ``training.prepare`` as tensors, with the vote distribution as the target."""

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fer_ros.labels import EMOTIONS, FERPLUS_TO_EMOTIONS, FERPLUS_VOTES

_EMOTION_VOTES = slice(0, len(FERPLUS_TO_EMOTIONS))


@dataclass(frozen=True, eq=False)
class Faces:
    """``canvases`` (N, 144, 144) uint8; ``targets`` (N, 8), probabilities in our order; ``labels``.

    ``labels`` (N,) are the emotions with the most votes; of equal votes, FER+'s first column wins,
    as in the literature.
    """

    canvases: Tensor
    targets: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.canvases)

    def to(self, device: torch.device) -> "Faces":
        """The same faces with their pictures on another device."""
        return replace(self, canvases=self.canvases.to(device))

    def counts(self) -> NDArray[np.int64]:
        """Pictures of each emotion (8,)."""
        return torch.bincount(self.labels, minlength=len(EMOTIONS)).numpy()

    def sha256(self) -> str:
        """Hexadecimal digest of pictures and targets."""
        digest = hashlib.sha256(self.canvases.numpy().tobytes())
        digest.update(self.targets.numpy().tobytes())
        return digest.hexdigest()


def distribution(votes: NDArray[np.int64]) -> NDArray[np.float32]:
    """Votes (N, 10) to emotion probabilities (N, 8) in our order; rows without any are uniform.

    A single vote is an outlier and dropped where another emotion has more (Barsoum et al., 2016).
    """
    emotions = votes[:, list(FERPLUS_TO_EMOTIONS)].astype(np.float32)
    several = emotions.max(axis=1, keepdims=True, initial=0) > 1
    emotions[several & (emotions <= 1)] = 0
    emotions[emotions.sum(axis=1) == 0] = 1
    return emotions / emotions.sum(axis=1, keepdims=True)


def majority(votes: NDArray[np.int64]) -> NDArray[np.int64]:
    """The emotion (N,) with the most of the votes (N, 10), in our order; the first of equals."""
    ours = np.array([FERPLUS_TO_EMOTIONS.index(column) for column in range(len(FERPLUS_VOTES) - 2)])
    return ours[votes[:, _EMOTION_VOTES].argmax(axis=1)]


def load_ferplus(folder: Path, split: str) -> Faces:
    """``ferplus_<split>.npz`` of ``folder``. All rows of valid and test.

    As published, FER+ has pictures of valid and test in train too: those train rows are dropped,
    and the ones in which nobody sees an emotion.
    """
    pack = np.load(folder / f"ferplus_{split}.npz")
    votes = pack["votes"].astype(np.int64)
    keep = np.ones(len(votes), bool)
    if split == "train":
        keep = (votes[:, _EMOTION_VOTES].sum(axis=1) > 0) & ~seen_elsewhere(folder, split)
    return Faces(
        torch.from_numpy(pack["canvas"][keep]),
        torch.from_numpy(distribution(votes[keep])),
        torch.from_numpy(majority(votes[keep])),
    )


def seen_elsewhere(folder: Path, split: str) -> NDArray[np.bool_]:
    """Rows of a split whose very pixels stand in train or, for train, in another split."""
    others = {"train": ("valid", "test")}.get(split, ("train",))
    groups = [np.load(folder / f"ferplus_{other}.npz")["dup_group"] for other in others]
    known = np.unique(np.concatenate(groups))
    return np.isin(np.load(folder / f"ferplus_{split}.npz")["dup_group"], known[known >= 0])
