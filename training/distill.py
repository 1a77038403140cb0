"""What trained models say about a face, as a part of what the next one learns (distillation).

Hinton et al., "Distilling the Knowledge in a Neural Network", 2015: the mean answer of several
models is a target that tells more than ten votes do. Each face is answered once, as it is and
mirrored, and the student sees it augmented (Xie et al., "Self-training with Noisy Student", 2020).
So faces without labels can be learned from too.
"""

from dataclasses import replace

import torch
from torch import Tensor
from tqdm import tqdm

from fer_ros.model.checkpoint import load_model
from fer_ros.weights import ModelError
from training.augment import centre_maps, view
from training.data import DataConfig, Faces

_BATCH = 64


def taught(faces: Faces, config: DataConfig, device: torch.device) -> Faces:
    """The same faces; ``taught`` of their targets is what the teachers answer on average.

    Faces that are wholly taught get their labels from the answers too. ValueError, one line: a
    teacher that cannot be loaded.
    """
    asked = faces.taught.nonzero()[:, 0]
    if not len(asked):
        return faces
    every = [_answers(faces.canvases[asked], name, device) for name in config.teachers]
    answers = torch.stack(every).mean(dim=0)
    answers[:, config.classes :] = 0
    answers /= answers.sum(dim=1, keepdim=True)
    shares = faces.taught[asked, None]
    targets, labels = faces.targets.clone(), faces.labels.clone()
    targets[asked] = (1 - shares) * targets[asked] + shares * answers
    wholly = shares[:, 0] == 1
    labels[asked[wholly]] = answers[wholly].argmax(dim=1)
    return replace(faces, targets=targets, labels=labels)


@torch.inference_mode()
def _answers(canvases: Tensor, teacher: str, device: torch.device) -> Tensor:
    """Probabilities (N, 8) of canvases (N, 144, 144), each also mirrored."""
    try:
        network = load_model(teacher).to(device)
    except ModelError as error:
        raise ValueError(f"data.teachers: {error}") from None
    answers = []
    for part in tqdm(canvases.split(_BATCH), desc=f"teacher {teacher}"):
        crops = view(part.to(device), centre_maps(len(part)))
        both = torch.cat([crops, crops.flip(-1)])
        with torch.autocast(device.type, torch.bfloat16):
            logits = network(both).logits
        answers.append((logits.float() / network.temperature).softmax(1).unflatten(0, (2, -1)))
    return torch.cat([each.mean(dim=0).cpu() for each in answers])
