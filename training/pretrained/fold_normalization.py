"""Published weights for images as we normalize them."""

from collections.abc import Sequence

import torch
from torch import Tensor

from fer_ros.inference.model_store import InputSpec


def fold_normalization(state: dict[str, Tensor], scale: float, mean: Sequence[float]) -> None:
    """Change the stem, which took ``scale`` x - ``mean``, to take InputSpec's (x - mean) / std.

    ``x``: red, green and blue in 0..1, as are the stem's inputs.
    """
    ours = InputSpec()
    our_mean, our_std = torch.tensor(ours.mean), torch.tensor(ours.std)
    weight = state["stem.weight"]
    shift = (scale * our_mean - torch.tensor(mean)).view(1, 3, 1, 1)
    state["stem.bias"] = state["stem.bias"] + (weight * shift).sum(dim=(1, 2, 3))
    state["stem.weight"] = weight * (scale * our_std).view(1, 3, 1, 1)
