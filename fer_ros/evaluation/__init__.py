"""Offline evaluation: read bags, score predictions against labels, compare two runs."""


class EvaluationError(ValueError):
    """A bag, label file, cluster or run cannot be used. The message is one line."""
