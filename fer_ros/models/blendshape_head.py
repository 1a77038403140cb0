"""Blendshapes from the maps of both streams."""

import torch
from torch import Tensor, nn

from fer_ros.blendshapes import NUM_BLENDSHAPES
from fer_ros.landmarks68 import NUM_LANDMARKS
from fer_ros.models.mobilefacenet import MobileFaceNet

_WIDTHS = (24, 48, 32)  # at 14x14, at 7x7, and in front of the MLP


class BlendshapeHead(nn.Module):
    """52 blendshapes of a face.

    Only the finer maps resolve irises, lids and lips. Convolutions take them from 28x28
    and 14x14 to 7x7; an MLP gets the result, the landmarks, and the pooled features.
    """

    def __init__(
        self, image_channels: tuple[int, ...], fusion_dim: int, hidden_dim: int = 256
    ) -> None:
        super().__init__()
        fine, middle, coarse = image_channels
        landmark_fine, landmark_middle, landmark_coarse = MobileFaceNet.map_channels
        self.fine = _convolution(fine + landmark_fine, _WIDTHS[0], 3, stride=2)
        self.middle = _convolution(_WIDTHS[0] + middle + landmark_middle, _WIDTHS[1], 3, stride=2)
        self.coarse = _convolution(_WIDTHS[1] + coarse, _WIDTHS[2], 1)
        inputs = _WIDTHS[2] * 7 * 7 + landmark_coarse + 2 * NUM_LANDMARKS + coarse + fusion_dim
        self.hidden = nn.Sequential(nn.Linear(inputs, hidden_dim), nn.GELU())
        self.output = nn.Linear(hidden_dim, NUM_BLENDSHAPES)

    def forward(
        self,
        image_maps: list[Tensor],
        landmark_maps: tuple[Tensor, ...],
        image_features: Tensor,
        landmark_features: Tensor,
        points: Tensor,
        fused: Tensor,
    ) -> Tensor:
        """Logits (B, 52).

        ``image_maps`` and ``landmark_maps`` are (B, C, 28, 28), (B, C, 14, 14), (B, C, 7, 7);
        ``image_features`` (B, C) are the means of the coarsest image map, ``landmark_features``
        (B, 512), ``points`` (B, 68, 2) in fractions of the crop, ``fused`` (B, fusion_dim).
        """
        x = self.fine(torch.cat([image_maps[0], landmark_maps[0]], dim=1))
        x = self.middle(torch.cat([x, image_maps[1], landmark_maps[1]], dim=1))
        x = self.coarse(torch.cat([x, image_maps[2]], dim=1))
        centered = 4 * (points - 0.5).flatten(1)  # about unit variance, as the other inputs
        features = [x.flatten(1), landmark_features, centered, image_features, fused]
        return self.output(self.hidden(torch.cat(features, dim=1)))


def _convolution(inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Sequential:
    conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs), nn.GELU())
