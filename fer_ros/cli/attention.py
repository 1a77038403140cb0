"""A classifier that can show afterwards where it looked."""

import numpy as np
from numpy.typing import NDArray

from fer_ros.classify import Classifier
from fer_ros.config import ClassifierConfig
from fer_ros.types import CROP_SIZE_PX
from fer_ros.weights import ModelError


class AttentiveClassifier(Classifier):
    """Keeps the crops of the last frame. Raises ModelError when its network has no attention."""

    def __init__(self, config: ClassifierConfig) -> None:
        super().__init__(config)
        blank: NDArray[np.uint8] = np.zeros((1, CROP_SIZE_PX, CROP_SIZE_PX, 3), np.uint8)
        self._crops_rgb = blank
        if self.attention(blank) is None:
            raise ModelError(
                f"model {config.model}: {self.card.architecture} has no attention maps; "
                "--attention needs a two-stream model"
            )

    def classify(
        self, crops_rgb: NDArray[np.uint8]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """As every classifier."""
        self._crops_rgb = crops_rgb
        return super().classify(crops_rgb)

    def seen(self, count: int) -> tuple[NDArray[np.uint8], list[NDArray[np.float32]]]:
        """Crops (N, 112, 112, 3) of the last frame, which had ``count`` faces, and their maps.

        A frame without faces never came here: what is kept is of an earlier one.
        """
        crops_rgb = self._crops_rgb[:count]
        return crops_rgb, (count and self.attention(crops_rgb)) or []
