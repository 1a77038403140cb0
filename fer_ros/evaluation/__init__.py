"""Recordings in, a verdict out: reads bags, scores what the pipeline says, compares two runs."""


class EvaluationError(ValueError):
    """Recordings, labels, clusters or runs cannot be used; the message is one line."""
