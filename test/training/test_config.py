"""Settings of experiments that do not fit together."""

import pytest

from training.config import TrainConfig
from training.datasets.splits import DataConfig
from training.losses import LossConfig


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"epoch_samples": 31}, "epoch_samples: expected 0 or a batch of 32 and more, found 31"),
        (
            {"epoch_samples": 64, "class_balanced_sampling": True},
            "expected 0 with class_balanced_sampling, found 64",
        ),
        (
            {
                "loss": LossConfig(logit_adjustment=0.5),
                "data": DataConfig(balanced_valid="web_valid"),
            },
            "loss.logit_adjustment: expected 0 or 1 with data.balanced_valid",
        ),
    ],
)
def test_settings_that_exclude_each_other_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        TrainConfig(**settings)
