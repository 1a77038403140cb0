"""k-nearest-neighbor accuracy of features, as a probe of pretraining."""

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from fer_ros.emotions import EMOTIONS
from training.augment import identity_affines, sample_crops
from training.datasets.splits import Faces
from training.ssl.base import SelfSupervisedMethod

NUM_NEIGHBOURS, TEMPERATURE = 20, 0.07
"""As in DINO (Caron et al., 2021, section 4.1)."""
_BATCH_SIZE = 128


@torch.no_grad()
def unit_features(method: SelfSupervisedMethod, faces: Faces, device: torch.device) -> Tensor:
    """Normalized features (N, dim) of the aligned crops."""
    parts = faces.padded_crops.split(_BATCH_SIZE)
    features = [
        method.features(sample_crops(part.to(device), identity_affines(len(part))))
        for part in parts
    ]
    return F.normalize(torch.cat(features).float(), dim=1)


def knn_classify(features: Tensor, bank: Tensor, labels: Tensor) -> Tensor:
    """Classes (N,) of unit features (N, dim) by their neighbors in a bank (M, dim), labels (M,).

    Votes are weighted by exp(cosine / temperature) (Wu et al., 2018, section 3.4).
    """
    count = min(NUM_NEIGHBOURS, len(bank))
    one_hot = F.one_hot(labels.to(bank.device), len(EMOTIONS)).float()
    classes = [torch.zeros(0, dtype=torch.long)]
    for part in features.split(_BATCH_SIZE):
        cosines, nearest = (part @ bank.T).topk(count, dim=1)
        weights = (cosines / TEMPERATURE).exp()
        classes.append((weights[..., None] * one_hot[nearest]).sum(dim=1).argmax(dim=1).cpu())
    return torch.cat(classes)


def knn_accuracy(
    method: SelfSupervisedMethod, known: Faces, queries: Faces, device: torch.device
) -> float:
    """Fraction of ``queries`` that their neighbors among ``known`` classify correctly."""
    method.eval()
    bank, features = (unit_features(method, faces, device) for faces in (known, queries))
    return (knn_classify(features, bank, known.labels) == queries.labels).float().mean().item()
