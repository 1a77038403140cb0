"""Offline evaluation: read bags, score predictions against labels, compare two runs."""

RESULTS = "results.json"
"""Name of the file of all metrics in the folder of a run."""


class EvaluationError(ValueError):
    """A bag, label file, cluster or run cannot be used. The message is one line."""
