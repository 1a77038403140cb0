"""Factories of face ids, which are valid names in ROS."""

import itertools
import string
from collections.abc import Callable
from random import SystemRandom
from typing import TypeAlias

IdFactory: TypeAlias = Callable[[], str]
"""Returns another id at each call. A tracker calls it again when the id is in use."""

_RANDOM_LETTERS = 5  # 26**5, about twelve million ids


def sequential_ids(prefix: str = "f") -> IdFactory:
    """Number the faces: ``f00001``, ``f00002``, ... The same in every run."""
    numbers = itertools.count(1)
    return lambda: f"{prefix}{next(numbers):05d}"


def random_ids(prefix: str = "f") -> IdFactory:
    """Draw random letters: ``fqhzev``, ... Other nodes do not confuse the faces of two runs."""
    random = SystemRandom()
    return lambda: prefix + "".join(random.choices(string.ascii_lowercase, k=_RANDOM_LETTERS))
