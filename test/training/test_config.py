"""Settings of experiments that do not fit together."""

import pytest

from training.config import TrainConfig
from training.datasets.splits import DataConfig, DatasetUse
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
            {"data": DataConfig([DatasetUse("web_train", sampling_weight=2.0)])},
            "sampling_weight of web_train: expected 1 without epoch_samples, found 2.0",
        ),
        (
            {"loss": LossConfig(logit_adjustment=True), "class_balanced_sampling": True},
            "logit_adjustment: expected false with class_balanced_sampling, found true",
        ),
        (
            {"loss": LossConfig("majority", logit_adjustment=True)},
            "logit_adjustment: expected false with loss.targets: majority, found true",
        ),
        (
            {
                "loss": LossConfig("majority"),
                "data": DataConfig([DatasetUse("web_train", smoothing=0.1)]),
            },
            "smoothing and teacher_weight of web_train: expected 0 with loss.targets: majority",
        ),
        (
            {
                "loss": LossConfig("majority"),
                "data": DataConfig([DatasetUse("a", teacher_weight=0.5)], teachers=["b"]),
            },
            "smoothing and teacher_weight of a: expected 0 with loss.targets: majority",
        ),
    ],
)
def test_settings_that_exclude_each_other_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        TrainConfig(**settings)
