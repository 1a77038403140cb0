"""FER+ votes (N, 10) as distributions and labels, and the protocols by which papers count them.

====================  =============  =============================================================
protocol              test images  which count
====================  =============  =============================================================
``ferplus-3573``      3,573          all, as the emotion with the most votes
``ferplus-argmax10``  3,545          unless "unknown" or "not a face" has the most votes
``ferplus-official``  3,152          if, without single votes, one choice has more than half
====================  =============  =============================================================

These are the counts of images. Counted by lines of ``fer2013new.csv`` the last two are 3,546 and
3,153: it has one image twice (fer0033120, a warning sign), and once with votes for an emotion.
Where votes are equal, FER+'s first column wins. Figures of different protocols cannot be compared.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from fer_ros.emotions import FERPLUS_TO_EMOTIONS

_EMOTION_VOTES = slice(0, len(FERPLUS_TO_EMOTIONS))
_EMOTION_INDEX = np.array(
    [FERPLUS_TO_EMOTIONS.index(column) for column in range(len(FERPLUS_TO_EMOTIONS))]
)


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
    return _EMOTION_INDEX[votes[:, _EMOTION_VOTES].argmax(axis=1)]


def has_emotion_votes(votes: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which images (N,) have a vote (N, 10) for an emotion."""
    return votes[:, _EMOTION_VOTES].sum(axis=1) > 0


def _all_images(votes: NDArray[np.int64]) -> NDArray[np.bool_]:
    return np.ones(len(votes), np.bool_)


def _argmax10(votes: NDArray[np.int64]) -> NDArray[np.bool_]:
    return votes.argmax(axis=1) < len(FERPLUS_TO_EMOTIONS)


def _official(votes: NDArray[np.int64]) -> NDArray[np.bool_]:
    """As the reader in the authors' repository (microsoft/FERPlus, mode "majority")."""
    left = np.where(votes > 1, votes, 0)
    return (2 * left.max(axis=1) > left.sum(axis=1)) & _argmax10(left)


PROTOCOLS: dict[str, Callable[[NDArray[np.int64]], NDArray[np.bool_]]] = {
    "ferplus-3573": _all_images,
    "ferplus-argmax10": _argmax10,
    "ferplus-official": _official,
}
"""For each name, which rows (N,) of votes (N, 10) count."""
