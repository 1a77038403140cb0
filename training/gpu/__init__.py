"""Measurements of ``python -m training.gpu_check``."""
