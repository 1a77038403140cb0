"""How far the votes of ten people let anybody come.

The label of a picture in FER+ is what most of ten people said. Ten others would not always say so,
and then no network is right about it. How often is estimated from the votes: what all people would
say about a picture is taken as drawn from a Dirichlet distribution around what a model answers,
mixed with a share of chance. How far pictures are from the answer, and that share, are those that
make the votes most likely; the votes of a picture then tell what all people may say of it (Gelman
et al., "Bayesian Data Analysis", 2013, section 3.4). So it can be drawn, and from it another panel.
"""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fer_ros.labels import EMOTIONS, FERPLUS_TO_EMOTIONS
from training.votes import emotional

_COLUMNS = np.argsort(FERPLUS_TO_EMOTIONS)  # the places of FER+'s emotions in ours
_LOW, _HIGH = torch.tensor([[1.0, 0.001], [1000.0, 1.0]], dtype=torch.float64)
"""Bounds of the strength of a Dirichlet distribution, in votes, and of the share of chance."""

_DRAWS = 50
_SEED = 0

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]


def reach(probabilities: NDArray[np.floating], votes: Counts) -> dict[str, Any]:
    """From what a model answers (N, 8), in our order, and votes (N, 10).

    Of the ``pictures`` in which somebody saw an emotion, ``repeated`` is the share of labels that
    as many other people would come to, ``known`` of those that are what most of all people would
    say. ``halves`` checks the estimate: how often one half of a panel agrees with the other, in the
    votes and, in ``halves_drawn``, in panels around the answers. ValueError when there is no such
    picture.
    """
    keep = emotional(votes)
    if not keep.any():
        raise ValueError("expected pictures with votes for emotions, found none")
    answers = probabilities[keep][:, _COLUMNS].astype(np.float64)
    votes = votes[keep]
    seen = votes[:, : len(EMOTIONS)]
    prior, labels, people = concentrations(answers, seen), seen.argmax(axis=1), seen.sum(axis=1)
    random = np.random.default_rng(_SEED)
    shares = []
    for _ in range(_DRAWS):
        truth = _draw(prior + seen, random)
        second = random.multinomial(people, truth)
        others = np.copy(votes)
        others[:, : len(EMOTIONS)] = random.multinomial(people, _draw(prior, random))
        halves = [_halves_agree(each, random) for each in (votes, others)]
        again = [(each.argmax(axis=1) == labels).mean() for each in (second, truth)]
        shares.append([*again, *halves])
    names = ("repeated", "known", "halves", "halves_drawn")
    figures = np.mean(shares, axis=0).round(4).tolist()
    return {"pictures": len(votes), **dict(zip(names, figures, strict=True))}


def concentrations(answers: Floats, votes: Counts) -> Floats:
    """The Dirichlet distributions (N, 8) around the answers (N, 8) that fit votes (N, 8) best.

    Their strength and share of chance are the most likely ones of all pictures together.
    """
    mean, counts = torch.from_numpy(answers), torch.from_numpy(votes).double()
    fitted = torch.tensor([-4.5, -3.0], dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([fitted], max_iter=100, line_search_fn="strong_wolfe")

    def around() -> Tensor:
        strength, chance = _LOW + (_HIGH - _LOW) * fitted.sigmoid()
        return strength * ((1 - chance) * mean + chance / len(EMOTIONS))

    def closure() -> Tensor:
        optimizer.zero_grad()
        prior = around()
        total = prior.sum(dim=1)
        seen = (torch.lgamma(counts + prior) - torch.lgamma(prior)).sum(dim=1)
        likely = seen + torch.lgamma(total) - torch.lgamma(total + counts.sum(dim=1))
        loss = -likely.mean()
        loss.backward()
        return loss

    optimizer.step(closure)
    return around().detach().numpy()


def _draw(alpha: Floats, random: np.random.Generator) -> Floats:
    """Shares (N, 8), each from its Dirichlet distribution (N, 8)."""
    drawn = random.standard_gamma(alpha)
    return drawn / drawn.sum(axis=1, keepdims=True)


def _halves_agree(votes: Counts, random: np.random.Generator) -> float:
    """How often the halves of panels (N, 10) of ten, parted by chance, come to one label."""
    choices = votes.shape[1]
    people = np.repeat(np.tile(np.arange(choices), len(votes)), votes.ravel())
    parted = random.permuted(people.reshape(len(votes), -1), axis=1)
    said = np.eye(choices, dtype=np.int64)[parted][..., : len(EMOTIONS)]
    first, second = (half.sum(axis=1).argmax(axis=1) for half in np.array_split(said, 2, axis=1))
    return float((first == second).mean())
