"""Networks to model folders and back. Weights are safetensors in half precision, never pickles."""

from collections.abc import Mapping
from pathlib import Path
from reprlib import repr as short
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from fer_ros.align import TEMPLATE_XY
from fer_ros.errors import one_line
from fer_ros.files import whole_file
from fer_ros.labels import EMOTIONS
from fer_ros.model import build_model
from fer_ros.model.network import FaceNetwork
from fer_ros.weights import ModelCard, ModelError, find_model, read_card, sha256_of, write_card

WEIGHTS_FILE = "weights.safetensors"


def save_model(network: FaceNetwork, folder: Path, architecture: str, **config: Any) -> ModelCard:
    """Writes weights and ``model.yaml`` into ``folder``, whose name becomes the model's.

    ``config`` are the arguments that ``build_model`` took. Parameters are stored in half precision,
    batch statistics as they are.
    """
    parameters = {name for name, _ in network.core.named_parameters()}
    state = {
        name: (value.half() if name in parameters else value).detach().cpu().contiguous()
        for name, value in network.core.state_dict().items()
    }
    with whole_file(folder / WEIGHTS_FILE) as file:
        save_file(state, file)
    card = ModelCard(
        name=folder.name,
        architecture=architecture,
        config=config,
        weights=WEIGHTS_FILE,
        sha256=sha256_of(folder / WEIGHTS_FILE),
        input=network.spec,
        template_xy=tuple((float(x), float(y)) for x, y in TEMPLATE_XY),
        temperature=network.temperature.item(),
        folder=folder,
    )
    write_card(card)
    return card


def load_model(path: Path | str) -> FaceNetwork:
    """The network of a model folder, or of a shipped model's name, in eval mode on the CPU.

    Raises ModelError, one line that says what differs, when the architecture, the labels, the crop
    template, the sha256 or the weights are not what this package expects.
    """
    card = read_card(find_model(str(path)))
    check_conventions(card)
    card.verify()
    try:
        core = build_model(card.architecture, **card.config)
    except ValueError as error:
        raise ModelError(f"{card.folder}: {error}") from None
    core.load_state_dict(read_state(card.weights_path, core.state_dict(), card.architecture))
    return FaceNetwork(core, card.input, card.temperature).eval()


def read_state(path: Path, expected: Mapping[str, Tensor], owner: str) -> dict[str, Tensor]:
    """The tensors of a safetensors file, which must be those that ``owner`` expects.

    Raises ModelError, one line that says what differs.
    """
    try:
        state = load_file(path)
    except (SafetensorError, OSError, AttributeError) as error:
        # AttributeError: a type that this PyTorch does not have
        raise ModelError(f"{path}: not a safetensors file: {one_line(error)}") from None
    difference = first_difference(expected, state)
    if difference:
        raise ModelError(f"{path}: not the weights of {owner}: {difference}")
    return state


def first_difference(expected: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> str:
    """The first name, shape or kind of number that differs, in words; "" when the states fit."""
    for name, value in expected.items():
        if name not in found:
            return f"{name} is missing"
        if found[name].shape != value.shape:
            shapes = [tuple(each.shape) for each in (value, found[name])]
            return f"{name} has shape {shapes[1]}, expected {shapes[0]}"
        if found[name].is_floating_point() != value.is_floating_point():
            return f"{name} is of {found[name].dtype}, expected {value.dtype}"
    extra = [name for name in found if name not in expected]
    return f"{' '.join(extra[0].split())} is unknown" if extra else ""


def check_conventions(card: ModelCard) -> None:
    """Raises ModelError when the labels or the crop template of a card are not ours."""
    where = card.folder
    if card.labels != EMOTIONS:
        raise ModelError(
            f"{where}: expected the labels {', '.join(EMOTIONS)}, found {', '.join(card.labels)}"
        )
    template = torch.tensor(card.template_xy)
    if template.shape != TEMPLATE_XY.shape or not torch.equal(template, torch.tensor(TEMPLATE_XY)):
        raise ModelError(
            f"{where}: faces were aligned to another template, {short(card.template_xy)}; "
            f"expected {TEMPLATE_XY.tolist()}"
        )
