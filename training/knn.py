"""What features say about emotions, without any training: the nearest labelled faces vote."""

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from fer_ros.labels import EMOTIONS
from training.augment import centre_maps, view
from training.data import Faces
from training.method import Method

NEIGHBOURS, TEMPERATURE = 20, 0.07
"""As in DINO (Caron et al., 2021, section 4.1)."""
_PART = 128


@torch.no_grad()
def unit_features(method: Method, faces: Faces, device: torch.device) -> Tensor:
    """Features (N, dim) of the aligned crops, of length 1."""
    parts = faces.canvases.split(_PART)
    found = [method.features(view(part.to(device), centre_maps(len(part)))) for part in parts]
    return F.normalize(torch.cat(found).float(), dim=1)


def vote(features: Tensor, bank: Tensor, labels: Tensor) -> Tensor:
    """Emotions (N,) of unit features (N, dim) by their nearest in a bank (M, dim) with labels (M,).

    Votes weigh exp(cosine / temperature) (Wu et al., 2018, section 3.4).
    """
    count = min(NEIGHBOURS, len(bank))
    known = F.one_hot(labels.to(bank.device), len(EMOTIONS)).float()
    found = [torch.zeros(0, dtype=torch.long)]
    for some in features.split(_PART):
        cosines, nearest = (some @ bank.T).topk(count, dim=1)
        weights = (cosines / TEMPERATURE).exp()
        found.append((weights[..., None] * known[nearest]).sum(dim=1).argmax(dim=1).cpu())
    return torch.cat(found)


def accuracy(method: Method, known: Faces, asked: Faces, device: torch.device) -> float:
    """Share of the faces ``asked`` that their nearest ``known`` ones name rightly."""
    method.eval()
    bank, features = (unit_features(method, faces, device) for faces in (known, asked))
    return (vote(features, bank, known.labels) == asked.labels).float().mean().item()
