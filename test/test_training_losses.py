"""Votes to targets, and what the loss makes of rare classes."""

import pytest
import torch

from training.losses import TARGETS, Loss, LossConfig, make_targets

VOTES = torch.tensor([[1.0, 0.0, 0.0], [0.2, 0.5, 0.3]])


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
    torch.testing.assert_close(make_targets(VOTES, config), expected)


@pytest.mark.parametrize("targets", TARGETS)
def test_targets_of_no_picture(targets):
    assert make_targets(torch.zeros(0, 8), LossConfig(targets=targets)).shape == (0, 8)


def test_drawn_targets_are_as_frequent_as_votes_and_repeatable():
    votes = VOTES[1:].expand(4000, 3)
    drawn, again = (
        make_targets(votes, LossConfig(targets="draw"), torch.Generator().manual_seed(1))
        for _ in range(2)
    )
    assert torch.equal(drawn, again)
    assert set(drawn.flatten().tolist()) == {0.0, 1.0}
    torch.testing.assert_close(drawn.mean(dim=0), VOTES[1], rtol=0, atol=0.03)


def test_an_unknown_kind_of_targets_is_named():
    with pytest.raises(ValueError, match="targets: expected votes, draw, majority, got 'vote'"):
        LossConfig(targets="vote")


@pytest.mark.parametrize("tau", [0.0, 0.5, 1.0])
def test_logits_that_fit_best_are_freed_of_the_prior(tau):
    """A picture that says nothing: unadjusted, the best answer is the prior itself."""
    prior = torch.tensor([0.7, 0.2, 0.1])
    logits = torch.zeros(1, 3, requires_grad=True)
    loss = Loss(prior, LossConfig(logit_adjustment=tau))
    optimizer = torch.optim.LBFGS([logits], max_iter=100)

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        value = loss(logits, prior[None])
        value.backward()
        return value

    optimizer.step(closure)
    expected = (prior.log() * (1 - tau)).softmax(dim=0)
    torch.testing.assert_close(logits.detach().softmax(dim=1)[0], expected, rtol=0, atol=1e-3)


def test_a_class_without_pictures_does_not_break_the_loss():
    loss = Loss(torch.tensor([1.0, 0.0]), LossConfig(logit_adjustment=1.0))
    assert loss(torch.zeros(1, 2), torch.tensor([[1.0, 0.0]])).isfinite()
