"""Model folders: finds them, reads ``model.yaml`` and verifies the weights file. Knows no torch.

A model folder holds ``model.yaml`` (what the file is), the weights named there, CARD.md and
metrics.json. Shipped folders stand in ``models/``, in the source tree or under ``share/fer_ros``.
"""

import hashlib
import math
import os
import re
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, fields
from difflib import get_close_matches
from pathlib import Path
from reprlib import repr as short
from typing import Any

import yaml

from fer_ros.config import from_dict, parse_yaml, setting
from fer_ros.files import whole_file
from fer_ros.labels import EMOTIONS

CARD_FILE = "model.yaml"
FORMAT = 1
# The texts of a card: key, what it must match, in words.
_TEXTS = (
    ("name", r".+", "text of one line"),
    ("architecture", r".+", "text of one line"),
    ("weights", r"[\w-][\w.-]*", "a file of the model's folder"),
    ("sha256", r"[0-9a-f]{64}", "64 hexadecimal digits"),
)


class ModelError(ValueError):
    """A model cannot be used; the message is one line."""


@dataclass(frozen=True)
class InputSpec:
    """What a network expects: side in pixels, grey (Rec. 601) or RGB, mean and std of 0..1."""

    size_px: int = setting(112, "side of the picture that the network sees", 1, 4096)
    luma: bool = True
    mean: tuple[float, ...] = (0.5, 0.5, 0.5)
    std: tuple[float, ...] = (0.5, 0.5, 0.5)

    def __post_init__(self) -> None:
        for name in ("mean", "std"):
            values = getattr(self, name)
            if not isinstance(values, (list, tuple)) or len(values) != 3:
                raise ValueError(f"{name}: expected three numbers, got {short(values)}")
            if not all(
                isinstance(value, (int, float)) and math.isfinite(value) for value in values
            ):
                raise ValueError(f"{name}: expected three numbers, got {short(values)}")
            object.__setattr__(self, name, tuple(float(value) for value in values))
        if min(self.std) <= 0:
            raise ValueError(f"std: expected numbers above 0, got {self.std}")


@dataclass(frozen=True)
class ModelCard:
    """What ``model.yaml`` says.

    ``config`` are the arguments of the architecture, ``template_xy`` the five points that faces
    were aligned to, in pixels of the 112 px crop, ``temperature`` divides the logits.
    """

    name: str
    architecture: str
    weights: str
    sha256: str
    config: dict[str, Any] = field(default_factory=dict)
    labels: tuple[str, ...] = EMOTIONS
    input: InputSpec = field(default_factory=InputSpec)
    template_xy: tuple[tuple[float, float], ...] = ()
    temperature: float = 1.0
    format: int = FORMAT
    folder: Path = Path()

    @property
    def weights_path(self) -> Path:
        """The weights file."""
        return self.folder / self.weights

    def verify(self) -> None:
        """Raises ModelError unless the weights file is the one that the card names."""
        path = self.weights_path
        if not path.is_file():
            raise ModelError(f"{path}: no such file; {CARD_FILE} beside it names it as the weights")
        found = sha256_of(path)
        if found != self.sha256:
            raise ModelError(
                f"{path}: expected sha256 {self.sha256[:12]}..., found {found[:12]}...: "
                "the file is damaged or of another model; get it again"
            )


def cache_folder() -> Path:
    """FER_ROS_CACHE, else ``fer_ros`` in XDG_CACHE_HOME or, where that is not set, in ~/.cache.

    Paths that are not absolute count as not set.
    """
    given, caches = (Path(os.environ.get(name, "")) for name in ("FER_ROS_CACHE", "XDG_CACHE_HOME"))
    if given.is_absolute():
        return given
    return (caches if caches.is_absolute() else Path.home() / ".cache") / "fer_ros"


def sha256_of(path: Path) -> str:
    """Hexadecimal digest of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(2**20):
            digest.update(piece)
    return digest.hexdigest()


def model_folders() -> list[Path]:
    """Folders of the models at hand, by name."""
    found: dict[str, Path] = {}
    for root in _roots():
        for card in root.glob(f"*/{CARD_FILE}"):
            found.setdefault(card.parent.name, card.parent)
    return [found[name] for name in sorted(found)]


def find_model(name_or_path: str) -> Path:
    """The model folder of this name, or at this path; ModelError lists what is at hand."""
    path = Path(name_or_path).expanduser()
    if path.name == CARD_FILE:
        path = path.parent
    if (path / CARD_FILE).is_file():
        return path
    if name_or_path and (path.is_dir() or len(path.parts) > 1):
        what = "a folder without" if path.is_dir() else "no folder with"
        raise ModelError(f"model {name_or_path}: expected a model folder, found {what} {CARD_FILE}")
    folders = {folder.name: folder for folder in model_folders()}
    if name_or_path in folders:
        return folders[name_or_path]
    close = get_close_matches(name_or_path, folders, n=1)
    hint = f"did you mean {close[0]!r}?" if close else f"at hand: {', '.join(folders) or 'none'}"
    raise ModelError(f"unknown model {name_or_path!r}; {hint}")


def read_card(folder: Path) -> ModelCard:
    """The card of a model folder; ModelError names the key that is missing, unknown or wrong."""
    path = folder / CARD_FILE
    try:
        return _card(parse_yaml(path.read_bytes()), folder)
    except OSError as error:
        raise ModelError(f"{path}: cannot be read: {error.strerror}") from None
    except (TypeError, ValueError, OverflowError) as error:
        raise ModelError(f"{path}: {error}") from None


def write_card(card: ModelCard) -> None:
    """Writes ``model.yaml`` into the card's folder."""
    values = {key: value for key, value in asdict(card).items() if key != "folder"}
    plain = {"format": values.pop("format"), **values}
    plain["labels"] = list(card.labels)
    plain["template_xy"] = [list(point) for point in card.template_xy]
    plain["input"] |= {"mean": list(card.input.mean), "std": list(card.input.std)}
    text = yaml.safe_dump(plain, sort_keys=False, default_flow_style=None, width=100)
    with whole_file(card.folder / CARD_FILE) as file:
        file.write_text(text, encoding="utf-8")


def _card(values: Any, folder: Path) -> ModelCard:
    if not isinstance(values, dict):
        raise ValueError(f"expected a mapping, found {type(values).__name__}")
    if values.get("format") != FORMAT:
        raise ValueError(f"format: expected {FORMAT}, found {short(values.get('format'))}")
    known = {item.name for item in fields(ModelCard)} - {"folder"}
    wrong = [f"missing key {key!r}" for key in sorted(known - set(values))]
    wrong += [f"unknown key {short(key)}" for key in values if key not in known]
    if wrong:
        raise ValueError("; ".join(wrong))
    for key, pattern, what in _TEXTS:
        value = values[key]
        fits = isinstance(value, str) and value.isprintable() and re.fullmatch(pattern, value)
        if not fits:
            raise ValueError(f"{key}: expected {what}, found {short(value)}")
    labels = tuple(values["labels"])
    if not all(isinstance(label, str) and label.isprintable() for label in labels):
        raise ValueError(f"labels: expected names, found {short(labels)}")
    if not isinstance(values["config"], dict):
        raise ValueError(f"config: expected a mapping, found {short(values['config'])}")
    temperature = float(values["temperature"])
    if not 0 < temperature < math.inf:
        raise ValueError(f"temperature: expected a number above 0, found {temperature}")
    return ModelCard(
        **values
        | {
            "labels": labels,
            "input": from_dict(InputSpec, values["input"], "input"),
            "template_xy": tuple((float(x), float(y)) for x, y in values["template_xy"]),
            "temperature": temperature,
            "folder": folder,
        }
    )


def _roots() -> Iterator[Path]:
    """Where shipped models can stand: beside the package, or in share/ of an installation."""
    package = Path(__file__).resolve().parent
    yield package.parent / "models"
    prefixes = [Path(each) for each in os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep)]
    # an installed package is <prefix>/lib/python3.x/site-packages/fer_ros
    for prefix in (*package.parents, *filter(Path.is_absolute, prefixes), Path(sys.prefix)):
        yield prefix / "share" / "fer_ros" / "models"
