"""Progress of a run."""

import pytest

from training.engine.checkpoint import TrainingState

NAN = float("nan")


@pytest.mark.parametrize(
    ("scores", "best_epochs"),
    [
        ([], []),
        ([0.5, 0.5, 0.7, 0.6], [1, 3]),
        ([NAN, 0.9, 0.1], [2]),
        ([0.9, NAN, 0.1], [1]),
        ([NAN], []),
    ],
)
def test_the_epoch_with_the_best_score_is_known(scores, best_epochs):
    state = TrainingState()
    improved = [epoch for epoch, score in enumerate(scores, 1) if state.complete_epoch(score)]
    assert state.epoch == len(scores)
    assert improved == best_epochs
    assert state.best_epoch == (best_epochs or [0])[-1]
