"""The training loop, checkpoints, logs and distributed training."""
