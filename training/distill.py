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

from fer_ros.labels import EMOTIONS
from fer_ros.model.checkpoint import load_model
from fer_ros.weights import ModelError
from training.augment import centre_maps, view
from training.data import DataConfig, Faces
from training.processes import World

_BATCH = 64


def taught(faces: Faces, config: DataConfig, place: World) -> Faces:
    """The same faces; ``taught`` of their targets is what the teachers answer on average.

    Each process asks about a part of the faces, and all get all answers.
    Faces that are wholly taught get their labels from the answers too. ValueError, one line: a
    teacher that cannot be loaded.
    """
    asked = faces.taught.nonzero()[:, 0]
    if not len(asked):
        return faces
    canvases = faces.canvases[place.own(asked)]
    every = [_answers(canvases, name, place) for name in config.teachers]
    answers = place.joined(torch.stack(every).mean(dim=0))
    answers[:, config.classes :] = 0
    answers /= answers.sum(dim=1, keepdim=True)
    shares = faces.taught[asked, None]
    targets, labels = faces.targets.clone(), faces.labels.clone()
    targets[asked] = (1 - shares) * targets[asked] + shares * answers
    wholly = shares[:, 0] == 1
    labels[asked[wholly]] = answers[wholly].argmax(dim=1)
    return replace(faces, targets=targets, labels=labels)


@torch.inference_mode()
def _answers(canvases: Tensor, teacher: str, place: World) -> Tensor:
    """Probabilities (N, 8) of canvases (N, 144, 144), each also mirrored."""
    try:
        network = load_model(teacher).to(place.device)
    except ModelError as error:
        raise ValueError(f"data.teachers: {error}") from None
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    answers = [torch.empty(2, 0, len(EMOTIONS))]  # there may be fewer faces than processes
    starts = range(0, len(canvases), _BATCH)
    for start in tqdm(starts, desc=f"teacher {teacher}", disable=not place.writes):
        part = canvases[start : start + _BATCH]
        crops = view(part.to(place.device), centre_maps(len(part)))
        both = torch.cat([crops, crops.flip(-1)])
        with torch.autocast(place.device.type, torch.bfloat16):
            logits = network(both).logits
        answers.append((logits.float() / network.temperature).softmax(1).unflatten(0, (2, -1)))
    return torch.cat([each.mean(dim=0).cpu() for each in answers])
