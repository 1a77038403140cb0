"""Hints in error messages about unknown names."""

from collections.abc import Iterable
from difflib import get_close_matches


def did_you_mean(name: str, known: Iterable[str], otherwise: str, cutoff: float = 0.6) -> str:
    """Return ``did you mean 'x'?`` for the known name that is most similar to ``name``.

    Args:
        name: unknown name.
        known: the valid names.
        otherwise: returned when none is similar.
        cutoff: minimum similarity, 0..1, as of ``difflib.get_close_matches``.
    """
    close = get_close_matches(name, [*known], n=1, cutoff=cutoff)
    return f"did you mean {close[0]!r}?" if close else otherwise
