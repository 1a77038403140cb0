"""Annotator agreement of FER+: how often other annotators would give the same label.

The label of an image is the majority of ten annotators. Ten others would not always agree. How
often is estimated from the votes: the opinion of the population about an image is modeled by a
Dirichlet distribution around the prediction of a model, mixed with a uniform one. The concentration
and the weight of the uniform part are fitted by maximum likelihood; the votes of an image then give
the posterior of its population (Gelman et al., "Bayesian Data Analysis", 2013, section 3.4), from
which other annotators are sampled.
"""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fer_ros.emotions import EMOTIONS, FERPLUS_TO_EMOTIONS
from training.datasets.ferplus_votes import has_emotion_votes

_COLUMNS = np.argsort(FERPLUS_TO_EMOTIONS)  # of FER+'s emotions, their indices in EMOTIONS
_LOW, _HIGH = torch.tensor([[1.0, 0.001], [1000.0, 1.0]], dtype=torch.float64)
"""Bounds of the concentration, in votes, and of the weight of the uniform part."""

_DRAWS = 50
_SEED = 0

Counts = NDArray[np.int64]


def estimate_annotator_agreement(
    probabilities: NDArray[np.floating], votes: Counts
) -> dict[str, Any]:
    """Agreement estimates from probabilities (N, 8) of a model and votes (N, 10).

    Over the ``images`` with a vote for an emotion. ``reannotation_agreement``: fraction of labels
    that as many other annotators would give. ``population_majority_agreement``: fraction that
    equals the majority of the population. ``split_half_observed``: how often two halves of the
    annotators agree; ``split_half_simulated``: the same for simulated votes, as a check of the
    model. Raises ValueError when there is no such image.
    """
    keep = has_emotion_votes(votes)
    if not keep.any():
        raise ValueError("expected images with votes for emotions, found none")
    predictions = probabilities[keep][:, _COLUMNS].astype(np.float64)
    votes = votes[keep]
    emotion_votes = votes[:, : len(EMOTIONS)]
    prior, labels, people = (
        concentrations(predictions, emotion_votes),
        emotion_votes.argmax(axis=1),
        emotion_votes.sum(axis=1),
    )
    random = np.random.default_rng(_SEED)
    shares = []
    for _ in range(_DRAWS):
        population = _draw(prior + emotion_votes, random)
        second = random.multinomial(people, population)
        simulated = np.copy(votes)
        simulated[:, : len(EMOTIONS)] = random.multinomial(people, _draw(prior, random))
        split_half = [_split_half_agreement(panel, random) for panel in (votes, simulated)]
        agreement = [(panel.argmax(axis=1) == labels).mean() for panel in (second, population)]
        shares.append([*agreement, *split_half])
    names = (
        "reannotation_agreement",
        "population_majority_agreement",
        "split_half_observed",
        "split_half_simulated",
    )
    figures = np.mean(shares, axis=0).round(4).tolist()
    return {"images": len(votes), **dict(zip(names, figures, strict=True))}


def concentrations(predictions: NDArray[np.float64], votes: Counts) -> NDArray[np.float64]:
    """Dirichlet parameters (N, 8) around predictions (N, 8), fitted to votes (N, 8).

    Concentration and uniform weight are shared by all images.
    """
    mean, counts = torch.from_numpy(predictions), torch.from_numpy(votes).double()
    fitted = torch.tensor([-4.5, -3.0], dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([fitted], max_iter=100, line_search_fn="strong_wolfe")

    def around() -> Tensor:
        strength, chance = _LOW + (_HIGH - _LOW) * fitted.sigmoid()
        return strength * ((1 - chance) * mean + chance / len(EMOTIONS))

    def closure() -> Tensor:
        optimizer.zero_grad()
        prior = around()
        total = prior.sum(dim=1)
        log_ratios = (torch.lgamma(counts + prior) - torch.lgamma(prior)).sum(dim=1)
        log_likelihood = log_ratios + torch.lgamma(total) - torch.lgamma(total + counts.sum(dim=1))
        loss = -log_likelihood.mean()
        loss.backward()
        return loss

    optimizer.step(closure)
    return around().detach().numpy()


def _draw(alpha: NDArray[np.float64], random: np.random.Generator) -> NDArray[np.float64]:
    """Samples (N, 8) of Dirichlet distributions (N, 8)."""
    gammas = random.standard_gamma(alpha)
    return gammas / gammas.sum(axis=1, keepdims=True)


def _split_half_agreement(votes: Counts, random: np.random.Generator) -> float:
    """How often random halves of the annotators with votes (N, 10) have the same majority."""
    choices, totals, agreements = votes.shape[1], votes.sum(axis=1), 0
    for total in np.unique(totals):  # an image of FER+ has nine votes instead of ten
        part = votes[totals == total]
        people = np.repeat(np.tile(np.arange(choices), len(part)), part.ravel())
        shuffled = random.permuted(people.reshape(len(part), -1), axis=1)
        one_hot = np.eye(choices, dtype=np.int64)[shuffled][..., : len(EMOTIONS)]
        halves = np.array_split(one_hot, 2, axis=1)
        first, second = (half.sum(axis=1).argmax(axis=1) for half in halves)
        agreements += (first == second).sum()
    return float(agreements / len(votes))
