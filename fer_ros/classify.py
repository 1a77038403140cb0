"""All crops of a frame, in one batch, to 68 points and 8 probabilities."""

from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fer_ros.backends import Backend, open_backend
from fer_ros.backends.patient import PatientBackend
from fer_ros.config import ClassifierConfig
from fer_ros.labels import EMOTIONS
from fer_ros.types import CROP_SIZE_PX
from fer_ros.weights import find_model, read_card

if TYPE_CHECKING:
    from fer_ros.backends.pytorch import TorchBackend

NOBODY: tuple[NDArray[np.float32], NDArray[np.float32]] = (
    np.zeros((0, 68, 2), np.float32),
    np.zeros((0, len(EMOTIONS)), np.float32),
)
"""Points and probabilities of no crop: nobody need ask the network for them."""


class Classifier:
    """A verified model on its device.

    ``card`` says which model it is, ``reason`` in one line which runtime was chosen and why. A
    device that fails, as without memory, costs no face: smaller batches or the CPU take over, until
    it can again. Raises ModelError, one line, when the model cannot be used.
    """

    def __init__(self, config: ClassifierConfig = ClassifierConfig()) -> None:  # noqa: B008  (frozen)
        self.card = read_card(find_model(config.model))
        self._config = config
        self._choice = open_backend(self.card, config)
        self.reason = self._choice.reason
        chosen = self._choice.backend
        self._backend = PatientBackend(chosen, None if chosen.device == "cpu" else self._open_cpu)

    @property
    def device(self) -> str:
        """Where it runs at the moment."""
        return self._backend.device

    @property
    def fallback(self) -> str:
        """What is wrong with a better runtime, or with this one at the moment; ``""``: nothing."""
        return "; ".join(filter(None, (self._choice.fallback, self._backend.trouble)))

    def _open_cpu(self) -> Backend:
        spare = replace(self._config, backend="auto", device="cpu", precision="auto")
        return open_backend(self.card, spare).backend

    def classify(
        self, crops_rgb: NDArray[np.uint8]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Points (N, 68, 2) in crop pixels and probabilities (N, 8), in the order of EMOTIONS.

        ``crops_rgb``: (N, 112, 112, 3) of ``align``; N may be 0. Raises RuntimeError, one line,
        when no device can compute it now; another time it may.
        """
        if len(crops_rgb) == 0:
            return NOBODY
        return self._backend.run(crops_rgb)

    def attention(self, crops_rgb: NDArray[np.uint8]) -> list[NDArray[np.float32]] | None:
        """Where in the crops the network looks, at three scales, 1 on average.

        Maps (N, 28, 28), (N, 14, 14), (N, 7, 7) of crops (N, 112, 112, 3), N above 0. None when the
        network has no such maps. PyTorch computes them, whatever reads the faces.
        """
        return self._attentive.attention(crops_rgb)

    @cached_property
    def _attentive(self) -> "TorchBackend":
        from fer_ros.backends.pytorch import TorchBackend

        if isinstance(self._choice.backend, TorchBackend):
            return self._choice.backend
        return TorchBackend(self.card, self._config.device, self._config.threads)

    def warm_up(self) -> None:
        """Pays the costs of the first call, so that no frame has to."""
        self.classify(np.zeros((1, CROP_SIZE_PX, CROP_SIZE_PX, 3), np.uint8))
