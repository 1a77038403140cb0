"""A classifier that keeps its last crops, to compute their attention maps."""

import numpy as np
from numpy.typing import NDArray

from fer_ros.classifier import Classifier
from fer_ros.config import ClassifierConfig
from fer_ros.inference.model_store import ModelError
from fer_ros.types import CROP_SIZE_PX, FacePredictions


class AttentionRecorder(Classifier):
    """Keeps the crops of the last frame. Raises ModelError when the model has no attention."""

    def __init__(self, config: ClassifierConfig) -> None:
        super().__init__(config)
        blank: NDArray[np.uint8] = np.zeros((1, CROP_SIZE_PX, CROP_SIZE_PX, 3), np.uint8)
        self._crops_rgb = blank
        if self.attention(blank) is None:
            raise ModelError(
                f"model {config.model}: {self.manifest.architecture} has no attention maps; "
                "--attention needs a two-stream model"
            )

    def classify(self, crops_rgb: NDArray[np.uint8]) -> FacePredictions:
        """Classify like ``Classifier`` and keep the crops."""
        self._crops_rgb = crops_rgb
        return super().classify(crops_rgb)

    def last_maps(self, num_faces: int) -> tuple[NDArray[np.uint8], list[NDArray[np.float32]]]:
        """Crops (N, 112, 112, 3) of the last frame, which had ``num_faces`` faces, and their maps.

        A frame without faces is not classified, so the crops kept are those of an earlier one.
        """
        crops_rgb = self._crops_rgb[:num_faces]
        return crops_rgb, (num_faces and self.attention(crops_rgb)) or []
