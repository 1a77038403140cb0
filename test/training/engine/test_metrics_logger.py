"""Records of a training run."""

from contextlib import closing

from training.engine.metrics_logger import MetricsLogger


def test_a_resumed_run_keeps_metrics_of_other_names(tmp_path):
    rows = [{"epoch": 1, "train_loss": 2.0, "recall": 0.5}]
    with closing(MetricsLogger(tmp_path, rows, {"loss": ("train_loss",)})) as log:
        log.add({"epoch": 2, "train_loss": 1.0, "balanced_accuracy": 0.6})
    lines = (tmp_path / "metrics.csv").read_text().splitlines()
    assert lines == ["epoch,train_loss,recall,balanced_accuracy", "1,2.0,0.5,", "2,1.0,,0.6"]
