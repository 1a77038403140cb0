"""Knowledge distillation: predictions of trained models as targets.

The mean prediction of several models carries more information than ten votes (Hinton et al., 2015).
Teachers predict each face once, as it is and mirrored; the student gets augmented views (Xie et
al., "Self-training with Noisy Student", 2020). Faces without labels can be used, too.
"""

import hashlib
from dataclasses import replace
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from fer_ros.config import BALANCED, NATURAL
from fer_ros.emotions import EMOTIONS
from fer_ros.inference.model_store import ModelError, ModelManifest, find_model, read_manifest
from fer_ros.io.progress import progress_bar
from fer_ros.models.checkpoint import load_model
from training.augment import identity_affines, sample_crops
from training.datasets.splits import DataConfig, Faces, sha256_of_tensors
from training.engine.checkpoint import save_weights
from training.engine.distributed import DistributedContext

_BATCH = 64


def add_teacher_targets(
    faces: Faces, config: DataConfig, context: DistributedContext, cache: Path
) -> Faces:
    """Mix the mean predictions of the teachers into the targets, by ``faces.teacher_weight``.

    Each process predicts a part of the faces, and all get all predictions. Faces with a weight of 1
    get their labels from the predictions, too. ``cache`` keeps the predictions: a resumed run
    with the same faces and teachers reads them. Raises ValueError when a teacher cannot be loaded.
    """
    chosen = faces.teacher_weight.nonzero()[:, 0]
    if not len(chosen):
        return faces
    key = _cache_key(faces.padded_crops[chosen], faces.priors[chosen], config.teachers)
    known = _read_cache(cache)
    if key in known:
        teacher_targets = known[key]
    else:
        own = context.shard(chosen)
        inputs = faces.padded_crops[own], faces.priors[own]
        predictions = [_predict(*inputs, name, context) for name in config.teachers]
        teacher_targets = context.all_gather(torch.stack(predictions).mean(dim=0))
        if context.is_main:
            cache.parent.mkdir(parents=True, exist_ok=True)
            save_weights(cache, {key: teacher_targets})
    teacher_targets[:, config.classes :] = 0
    teacher_targets /= teacher_targets.sum(dim=1, keepdim=True)
    shares = faces.teacher_weight[chosen, None]
    targets, labels = faces.targets.clone(), faces.labels.clone()
    targets[chosen] = (1 - shares) * targets[chosen] + shares * teacher_targets
    unlabeled = shares[:, 0] == 1
    labels[chosen[unlabeled]] = teacher_targets[unlabeled].argmax(dim=1)
    return replace(faces, targets=targets, labels=labels)


def _read_cache(cache: Path) -> dict[str, Tensor]:
    """Predictions by key; none where the file is missing or cannot be read."""
    try:
        return load_file(cache)
    except (OSError, SafetensorError):
        return {}


def _cache_key(padded_crops: Tensor, class_shares: Tensor, teachers: list[str]) -> str:
    """Hexadecimal digest of what predictions depend on."""
    digest = hashlib.sha256(sha256_of_tensors(padded_crops, class_shares).encode())
    for teacher in teachers:
        manifest = _manifest(teacher)
        digest.update(f"{manifest.sha256} {manifest.priors}".encode())
    return digest.hexdigest()


def _manifest(teacher: str) -> ModelManifest:
    try:
        return read_manifest(find_model(teacher))
    except ModelError as error:
        raise ValueError(f"data.teachers: {error}") from None


@torch.inference_mode()
def _predict(
    padded_crops: Tensor, class_shares: Tensor, teacher: str, context: DistributedContext
) -> Tensor:
    """Probabilities (N, 8) of padded crops (N, 144, 144): mean over the crop and its mirror image.

    A teacher with class priors predicts for the ``class_shares`` (N, 8) of the faces' datasets.
    """
    try:
        network = load_model(teacher).to(context.device)
    except ModelError as error:
        raise ValueError(f"data.teachers: {error}") from None
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    priors, temperature = _manifest(teacher).priors, network.temperature.item()
    if priors:
        temperature = priors.get(NATURAL, priors[BALANCED]).temperature
    offsets = class_shares.log() if priors else torch.zeros_like(class_shares)
    batches = [torch.empty(2, 0, len(EMOTIONS))]  # there may be fewer faces than processes
    starts = range(0, len(padded_crops), _BATCH)
    for start in progress_bar(starts, description=f"teacher {teacher}", hidden=not context.is_main):
        part = padded_crops[start : start + _BATCH]
        crops = sample_crops(part.to(context.device), identity_affines(len(part)))
        pair = torch.cat([crops, crops.flip(-1)])
        with torch.autocast("cuda", torch.bfloat16, enabled=context.device.type == "cuda"):
            logits = network(pair).logits
        scaled = logits.float().cpu().unflatten(0, (2, -1)) / temperature
        batches.append((scaled + offsets[start : start + _BATCH]).softmax(dim=2))
    return torch.cat([batch.mean(dim=0) for batch in batches])
