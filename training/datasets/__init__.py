"""Datasets: reading, preparing, splitting."""
