"""Class priors: how frequent the emotions are where a model is used.

The probabilities of a network that was trained with logit adjustment (Menon et al., 2021) assume
equally frequent emotions. Bayes' rule converts them to other frequencies.
``model.yaml`` has the frequencies that a model knows by name, each with a temperature that was
fitted for them.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from reprlib import repr as short
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fer_ros.config import BALANCED, are_shares, parse_prior
from fer_ros.emotions import EMOTIONS

_MIN_PROBABILITY = 1e-12


@dataclass(frozen=True)
class Prior:
    """Frequencies of the emotions in the order of EMOTIONS, empty when all are equal.

    ``temperature`` divides the logits of the network.
    """

    temperature: float = 1.0
    shares: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if not 0 < self.temperature < math.inf:
            raise ValueError(f"temperature: expected a number above 0, found {self.temperature}")
        if self.shares and not are_shares(self.shares):
            raise ValueError(
                f"shares: expected {len(EMOTIONS)} numbers above 0, found {short(self.shares)}"
            )

    def apply(self, probabilities: NDArray[np.float32], temperature: float) -> NDArray[np.float32]:
        """Convert probabilities (N, 8) for equal frequencies to these frequencies.

        ``temperature`` is the one that the probabilities were computed with.
        """
        logits = np.log(probabilities.astype(np.float64).clip(_MIN_PROBABILITY))
        logits *= temperature / self.temperature
        if self.shares:
            logits += np.log(self.shares)
        logits -= logits.max(axis=1, keepdims=True)
        weights = np.exp(logits)
        return (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)


def parse_priors(values: Any) -> dict[str, Prior]:
    """The priors of a model.yaml by name. Raises ValueError naming the wrong key."""
    if not isinstance(values, Mapping):
        raise ValueError(f"priors: expected a mapping, found {short(values)}")
    priors = {}
    for name, prior in values.items():
        if not isinstance(prior, Mapping) or not set(prior) <= {"temperature", "shares"}:
            raise ValueError(
                f"priors.{name}: expected temperature and shares, found {short(prior)}"
            )
        try:
            shares = tuple(float(share) for share in prior.get("shares", ()))
            priors[str(name)] = Prior(float(prior.get("temperature", 1.0)), shares)
        except (TypeError, ValueError) as error:
            raise ValueError(f"priors.{name}: {error}") from None
    return priors


def select_prior(priors: Mapping[str, Prior], setting: str) -> Prior | None:
    """The prior that ``classifier.prior`` selects; None leaves probabilities as they are.

    Custom class shares use the temperature of ``balanced``. A model without priors knows
    ``balanced`` only. Raises ValueError naming the prior that is missing.
    """
    if not priors and setting == BALANCED:
        return None
    parsed = parse_prior(setting)
    name = parsed if isinstance(parsed, str) else BALANCED
    if name not in priors:
        raise ValueError(
            f"classifier.prior {setting!r} needs the prior {name!r} in model.yaml, found "
            f"{', '.join(priors) or 'none'}"
        )
    return priors[name] if isinstance(parsed, str) else Prior(priors[name].temperature, parsed)
