"""Records of a training run."""

from contextlib import closing

import numpy as np
import yaml

from training.augment import AugmentConfig
from training.engine import metrics_logger
from training.engine.metrics_logger import MetricsLogger, write_settings


def test_a_resumed_run_keeps_metrics_of_other_names(tmp_path):
    rows = [{"epoch": 1, "train_loss": 2.0, "recall": 0.5}]
    with closing(MetricsLogger(tmp_path, rows, {"loss": ("train_loss",)})) as log:
        log.add({"epoch": 2, "train_loss": 1.0, "balanced_accuracy": 0.6})
    lines = (tmp_path / "metrics.csv").read_text().splitlines()
    assert lines == ["epoch,train_loss,recall,balanced_accuracy", "1,2.0,0.5,", "2,1.0,,0.6"]


def test_packages_that_are_not_installed_have_no_version(tmp_path, monkeypatch):
    monkeypatch.setattr(metrics_logger, "_PACKAGES", ("numpy", "no-such-package"))
    write_settings(tmp_path, AugmentConfig(), {})
    versions = yaml.safe_load((tmp_path / "run.yaml").read_text())["versions"]
    assert versions == {"numpy": np.__version__, "no-such-package": None}
