"""Votes to targets, and what the loss makes of rare classes."""

import numpy as np
import pytest
import torch

from fer_ros.emotions import EMOTIONS, FERPLUS_VOTES
from training.datasets.ferplus_votes import distribution, majority
from training.losses import (
    TARGETS,
    BlendshapeLoss,
    LogitAdjustedCrossEntropy,
    LossConfig,
    make_targets,
)

VOTES = torch.tensor([[1.0, 0.0, 0.0], [0.2, 0.5, 0.3]])
LABELS = torch.tensor([0, 1])


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (LossConfig(), VOTES),
        (LossConfig(targets="majority"), torch.tensor([[1.0, 0, 0], [0, 1.0, 0]])),
        (
            LossConfig(targets="majority", label_smoothing=0.3),
            torch.tensor([[0.8, 0.1, 0.1], [0.1, 0.8, 0.1]]),
        ),
        (LossConfig(label_smoothing=1.0), torch.full((2, 3), 1 / 3)),
    ],
)
def test_targets(config, expected):
    torch.testing.assert_close(make_targets(VOTES, LABELS, config), expected)


def test_smoothing_spares_emotions_that_are_not_trained():
    targets = make_targets(VOTES, LABELS, LossConfig(label_smoothing=0.2), classes=2)
    torch.testing.assert_close(targets, 0.8 * VOTES + torch.tensor([0.1, 0.1, 0.0]))


@pytest.mark.parametrize("targets", TARGETS)
def test_targets_of_no_image(targets):
    nothing = torch.zeros(0, dtype=torch.long)
    assert make_targets(torch.zeros(0, 8), nothing, LossConfig(targets=targets)).shape == (0, 8)


@pytest.mark.parametrize(
    ("equal", "wins"),
    [
        (("surprise", "sadness"), "surprise"),
        (("fear", "anger"), "anger"),
        (("neutral",), "neutral"),
    ],
)
def test_majority_targets_break_ties_as_labels_do(equal, wins):
    """The first column of FER+ wins, not the first of our order."""
    votes = np.zeros((1, len(FERPLUS_VOTES)), np.int64)
    votes[0, [FERPLUS_VOTES.index(name) for name in equal]] = 10 // len(equal)
    labels = torch.from_numpy(majority(votes))
    shares = torch.from_numpy(distribution(votes))
    targets = make_targets(shares, labels, LossConfig(targets="majority"))
    assert targets[0].argmax() == EMOTIONS.index(wins)
    assert targets.sum() == 1


def test_drawn_targets_are_as_frequent_as_votes_and_repeatable():
    votes = VOTES[1:].expand(4000, 3)
    drawn, again = (
        make_targets(votes, LABELS, LossConfig(targets="sampled"), torch.Generator().manual_seed(1))
        for _ in range(2)
    )
    assert torch.equal(drawn, again)
    assert set(drawn.flatten().tolist()) == {0.0, 1.0}
    torch.testing.assert_close(drawn.mean(dim=0), VOTES[1], rtol=0, atol=0.03)


def test_an_unknown_kind_of_targets_is_named():
    with pytest.raises(
        ValueError, match="targets: expected votes, sampled or majority, found 'vote'"
    ):
        LossConfig(targets="vote")


@pytest.mark.parametrize("adjusts", [False, True])
def test_optimal_logits_do_not_contain_the_prior(adjusts):
    """An image that says nothing: unadjusted, the best answer is the prior itself."""
    prior = torch.tensor([0.7, 0.2, 0.1])
    logits = torch.zeros(1, 3, requires_grad=True)
    loss = LogitAdjustedCrossEntropy(LossConfig(logit_adjustment=adjusts))
    optimizer = torch.optim.LBFGS([logits], max_iter=100)

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        value = loss(logits, prior[None], loss.offsets(prior[None]))
        value.backward()
        return value

    optimizer.step(closure)
    expected = (prior.log() * (1 - adjusts)).softmax(dim=0)
    torch.testing.assert_close(logits.detach().softmax(dim=1)[0], expected, rtol=0, atol=1e-3)


def test_datasets_with_other_shares_give_the_same_logits():
    """Faces that say nothing, from a set of mostly the first class and from one of the second."""
    priors = torch.tensor([[0.9, 0.1], [0.2, 0.8]])
    logits = torch.zeros(2, requires_grad=True)
    loss = LogitAdjustedCrossEntropy(LossConfig(logit_adjustment=True))
    value = loss(logits.expand(2, 2), priors, loss.offsets(priors))
    value.backward()
    torch.testing.assert_close(logits.grad, torch.zeros(2))


def test_a_class_without_images_has_a_finite_loss():
    loss = LogitAdjustedCrossEntropy(LossConfig(logit_adjustment=True))
    offsets = loss.offsets(torch.tensor([[1.0, 0.0]]))
    assert loss(torch.zeros(1, 2), torch.tensor([[1.0, 0.0]]), offsets).isfinite()


def test_blendshapes_count_by_their_variance_and_unknown_ones_do_not():
    moving = torch.zeros(100, 52)
    moving[::2, 1] = 1.0  # all others are still
    moving[7] = torch.nan
    loss = BlendshapeLoss(moving)
    target, known = torch.zeros(2, 52), torch.tensor([[1.0], [0.0]])
    still, wide = torch.zeros(2, 52), torch.zeros(2, 52)
    still[:, 0], wide[:, 1] = 0.1, 0.1
    assert loss(target, target, known) == 0
    assert loss(still, target, known) > 50 * loss(wide, target, known) > 0
    wide[1] = 9.0  # of a face whose blendshapes are unknown
    assert loss(wide, target, known) < 1
    assert loss(wide, target, torch.zeros(2, 1)) == 0


@pytest.mark.parametrize("count", [0, 1, 5])
def test_unknown_blendshapes_cannot_be_learned(count):
    with pytest.raises(
        ValueError, match=r"expected datasets with blendshapes, found none: run train"
    ):
        BlendshapeLoss(torch.full((count, 52), torch.nan))
