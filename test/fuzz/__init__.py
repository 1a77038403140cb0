"""Bad input of every kind: what generates it, and what must hold whatever it is.

Each property is a Hypothesis test of one interface that reads external input: the answer is a valid
result or a documented exception of one line. ``test_fuzz.py`` runs a few cases of each, always the
same ones; ``make fuzz`` runs many, led by the coverage of the code.
"""

import resource
from collections.abc import Iterator
from contextlib import contextmanager

from hypothesis import HealthCheck, settings

# Before the properties are made. A busy machine is slow at times, and a hang ends at the limit of
# the test, so there is no deadline.
settings.register_profile(
    "few",
    max_examples=40,
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)
settings.load_profile("few")


_MAX_MB = 100


@contextmanager
def only(*documented: type[Exception], about: object = "") -> Iterator[None]:
    """Lets these very classes of exceptions pass, when they are one line that says something.

    ``about``: what the line names.
    """
    try:
        yield
    except documented as error:
        if type(error) not in documented:
            raise
        assert str(error).strip(), f"{type(error).__name__} without a word"
        assert len(str(error).splitlines()) == 1, f"several lines: {error}"
        assert str(about) in str(error), f"no word about {about}: {error}"


@contextmanager
def limited_memory() -> Iterator[None]:
    """Ends in an error when the process had to grow by more than 100 MB."""
    before_mb = _peak_mb()
    yield
    grown_mb = _peak_mb() - before_mb
    assert grown_mb < _MAX_MB, f"took {grown_mb:.0f} MB"


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
