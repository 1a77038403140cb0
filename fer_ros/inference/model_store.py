"""Model folders: find them, read ``model.yaml``, verify the weights. Does not import PyTorch.

A model folder holds ``model.yaml`` (the manifest), the weights file that it names, CARD.md and
metrics.json. Installed folders are in ``models/`` of the source tree or of ``share/fer_ros``.
"""

import hashlib
import json
import os
import re
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from reprlib import repr as short
from typing import Any

import numpy as np
import yaml

from fer_ros.config import config_field, from_dict
from fer_ros.emotions import EMOTIONS
from fer_ros.inference.priors import Prior, parse_priors
from fer_ros.io.atomic_write import atomic_write
from fer_ros.io.yaml_file import parse_yaml
from fer_ros.suggestions import did_you_mean
from fer_ros.types import TEMPLATE_XY

MANIFEST_FILE = "model.yaml"
FORMAT = 1
INT8_SUFFIX = "_int8"
"""Suffix of the folder of an int8 variant."""

_OPTIONAL_KEYS = {"priors", "quantized_from", "settings_sha256"}
_GRAPH_SETTINGS = ("architecture", "config", "labels", "input", "template_xy", "temperature")
# Text fields of a manifest: key, pattern, description.
_TEXT_FIELDS = (
    ("name", r".+", "text of one line"),
    ("architecture", r".+", "text of one line"),
    ("weights", r"[\w-][\w.-]*", "a file of the model's folder"),
    ("sha256", r"[0-9a-f]{64}", "64 hexadecimal digits"),
    ("quantized_from", r"([0-9a-f]{64})?", "64 hexadecimal digits"),
    ("settings_sha256", r"([0-9a-f]{64})?", "64 hexadecimal digits"),
)


class ModelError(ValueError):
    """A model cannot be used."""


@dataclass(frozen=True)
class InputSpec:
    """Network input: side in pixels, grayscale (Rec. 601) or RGB, mean and std of 0..1 values."""

    size_px: int = config_field(112, "input side of the network", 1, 4096)
    grayscale: bool = True
    mean: tuple[float, ...] = (0.5, 0.5, 0.5)
    std: tuple[float, ...] = (0.5, 0.5, 0.5)

    def __post_init__(self) -> None:
        if not isinstance(self.grayscale, bool):
            raise ValueError(f"grayscale: expected true or false, found {short(self.grayscale)}")
        for name in ("mean", "std"):
            values = getattr(self, name)
            if not isinstance(values, (list, tuple)) or len(values) != 3:
                raise ValueError(f"{name}: expected three numbers, found {short(values)}")
            if not all(map(_is_number, values)):
                raise ValueError(f"{name}: expected three numbers, found {short(values)}")
            object.__setattr__(self, name, tuple(float(value) for value in values))
        if min(self.std) <= 0:
            raise ValueError(f"std: expected numbers above 0, found {self.std}")


@dataclass(frozen=True)
class ModelManifest:
    """The content of ``model.yaml``.

    Attributes:
        config: keyword arguments of the architecture.
        template_xy: five alignment points in pixels of the 112 px crop.
        temperature: divisor of the logits.
        priors: class priors by name; empty: those of the training data.
        quantized_from: sha256 of the weights that an int8 model was made from, "" for others.
        settings_sha256: ``settings_digest`` of the settings that an ONNX graph has built in, "" for
            other weights.
        folder: the model folder; not part of the file.
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
    priors: dict[str, Prior] = field(default_factory=dict)
    quantized_from: str = ""
    settings_sha256: str = ""
    format: int = FORMAT
    folder: Path = Path()

    @property
    def weights_path(self) -> Path:
        """Path of the weights file."""
        return self.folder / self.weights

    @property
    def short_sha256(self) -> str:
        """First 16 digits of ``sha256``, which name the model's files in the cache."""
        return self.sha256[:16]

    def verify(self) -> None:
        """Raise ModelError unless the weights are those of the manifest.

        The file must have its sha256, and a graph the settings that it was exported with.
        """
        path = self.weights_path
        if not path.is_file():
            raise ModelError(f"{path}: no such file, but {MANIFEST_FILE} names it as the weights")
        digest = sha256_of(path)
        if digest != self.sha256:
            raise ModelError(
                f"{path}: expected sha256 {self.sha256[:12]}..., found {digest[:12]}...: "
                "the file is damaged or of another model; install it again"
            )
        if is_onnx_model(self) and self.settings_sha256 != settings_digest(self):
            raise ModelError(
                f"{self.folder / MANIFEST_FILE}: {', '.join(_GRAPH_SETTINGS)}: expected the values "
                f"that {self.weights} has built in (settings_sha256), found others; restore them, "
                "or edit the fp32 model and quantize it again"
            )


def is_onnx_model(manifest: ModelManifest) -> bool:
    """Whether the weights file is an ONNX graph, as that of int8 models is."""
    return manifest.weights_path.suffix == ".onnx"


def settings_digest(manifest: ModelManifest) -> str:
    """Hexadecimal sha256 of the settings that an exported graph has built in."""
    values = asdict(manifest)
    settings = {name: values[name] for name in _GRAPH_SETTINGS}
    return hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode()).hexdigest()


def differing_settings(first: ModelManifest, second: ModelManifest) -> list[str]:
    """Names of the settings in which the outputs of two models of equal weights differ."""
    names = (*_GRAPH_SETTINGS, "priors")
    return [name for name in names if getattr(first, name) != getattr(second, name)]


def check_conventions(manifest: ModelManifest) -> None:
    """Raise ModelError unless a model has this package's labels and crop template."""
    where = manifest.folder
    if manifest.labels != EMOTIONS:
        labels = ", ".join(manifest.labels)
        raise ModelError(f"{where}: expected the labels {', '.join(EMOTIONS)}, found {labels}")
    if not np.array_equal(manifest.template_xy, TEMPLATE_XY):
        raise ModelError(
            f"{where}: faces were aligned to another template, {short(manifest.template_xy)}; "
            f"expected {TEMPLATE_XY.tolist()}"
        )


def cache_folder() -> Path:
    """FER_ROS_CACHE, else ``fer_ros`` in XDG_CACHE_HOME, else ``~/.cache/fer_ros``.

    Relative paths are ignored.
    """
    own, xdg = (Path(os.environ.get(name, "")) for name in ("FER_ROS_CACHE", "XDG_CACHE_HOME"))
    if own.is_absolute():
        return own
    return (xdg if xdg.is_absolute() else Path.home() / ".cache") / "fer_ros"


def sha256_of(path: Path) -> str:
    """Hexadecimal sha256 of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(2**20):
            digest.update(chunk)
    return digest.hexdigest()


def model_folders() -> list[Path]:
    """Folders of the installed models, sorted by name."""
    folders: dict[str, Path] = {}
    for root in _search_paths():
        for manifest in root.glob(f"*/{MANIFEST_FILE}"):
            folders.setdefault(manifest.parent.name, manifest.parent)
    return [folders[name] for name in sorted(folders)]


def find_model(name_or_path: str) -> Path:
    """Find a model folder by name or path. Raises ModelError listing the installed models."""
    path = Path(name_or_path).expanduser()
    if path.name == MANIFEST_FILE:
        path = path.parent
    if (path / MANIFEST_FILE).is_file():
        return path
    if name_or_path and (path.is_dir() or len(path.parts) > 1):
        found = "a folder without" if path.is_dir() else "no folder with"
        raise ModelError(
            f"model {name_or_path}: expected a model folder, found {found} {MANIFEST_FILE}"
        )
    folders = {folder.name: folder for folder in model_folders()}
    if name_or_path in folders:
        return folders[name_or_path]
    hint = did_you_mean(name_or_path, folders, f"installed: {', '.join(folders) or 'none'}")
    raise ModelError(f"unknown model {name_or_path!r}; {hint}")


def read_manifest(folder: Path) -> ModelManifest:
    """Read ``model.yaml``. Raises ModelError naming the missing, unknown or wrong key."""
    path = folder / MANIFEST_FILE
    try:
        return _parse_manifest(parse_yaml(path.read_bytes()), folder)
    except OSError as error:
        raise ModelError(f"{path}: cannot be read: {error.strerror}") from None
    except (TypeError, ValueError, OverflowError) as error:
        raise ModelError(f"{path}: {error}") from None


def write_manifest(manifest: ModelManifest) -> None:
    """Write ``model.yaml`` into the manifest's folder."""
    values = {key: value for key, value in asdict(manifest).items() if key != "folder"}
    plain = {"format": values.pop("format"), **values}
    plain["labels"] = list(manifest.labels)
    plain["priors"] = {
        name: {"temperature": prior.temperature}
        | ({"shares": list(prior.shares)} if prior.shares else {})
        for name, prior in manifest.priors.items()
    }
    plain["template_xy"] = [list(point) for point in manifest.template_xy]
    plain["input"] |= {"mean": list(manifest.input.mean), "std": list(manifest.input.std)}
    for key in _OPTIONAL_KEYS:
        if not plain[key]:
            del plain[key]
    text = yaml.safe_dump(plain, sort_keys=False, default_flow_style=None, width=100)
    with atomic_write(manifest.folder / MANIFEST_FILE) as file:
        file.write_text(text, encoding="utf-8")


def _parse_manifest(values: Any, folder: Path) -> ModelManifest:
    if not isinstance(values, dict):
        raise ValueError(f"expected a mapping, found {type(values).__name__}")
    if values.get("format") != FORMAT:
        raise ValueError(f"format: expected {FORMAT}, found {short(values.get('format'))}")
    known = {item.name for item in fields(ModelManifest)} - {"folder"}
    errors = [f"missing key {key!r}" for key in sorted(known - _OPTIONAL_KEYS - set(values))]
    errors += [f"unknown key {short(key)}" for key in values if key not in known]
    if errors:
        raise ValueError("; ".join(errors))
    for key, pattern, description in _TEXT_FIELDS:
        value = values.get(key, "")
        is_text = isinstance(value, str) and value.isprintable()
        if not is_text or not re.fullmatch(pattern, value):
            raise ValueError(f"{key}: expected {description}, found {short(value)}")
    labels, points_xy = values["labels"], values["template_xy"]
    if not isinstance(labels, list) or not all(
        isinstance(label, str) and label.isprintable() for label in labels
    ):
        raise ValueError(f"labels: expected names, found {short(labels)}")
    if not isinstance(points_xy, list) or not all(map(_is_point, points_xy)):
        raise ValueError(f"template_xy: expected points [x, y], found {short(points_xy)}")
    if not isinstance(values["config"], dict):
        raise ValueError(f"config: expected a mapping, found {short(values['config'])}")
    temperature = values["temperature"]
    if not _is_number(temperature) or temperature <= 0:
        raise ValueError(f"temperature: expected a number above 0, found {short(temperature)}")
    return ModelManifest(
        **values
        | {
            "labels": tuple(labels),
            "input": from_dict(InputSpec, values["input"], "input"),
            "template_xy": tuple((float(x), float(y)) for x, y in points_xy),
            "temperature": float(temperature),
            "priors": parse_priors(values.get("priors", {})),
            "folder": folder,
        }
    )


def _is_number(value: Any) -> bool:
    """Whether a value of a YAML file is a finite number."""
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return is_number and abs(value) <= sys.float_info.max


def _is_point(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(map(_is_number, value))


def _search_paths() -> Iterator[Path]:
    """Folders that may hold model folders: beside the package, or in share/ of an installation."""
    package = Path(__file__).resolve().parents[1]
    yield package.parent / "models"
    ament = os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep)
    prefixes = [Path(prefix) for prefix in ament if Path(prefix).is_absolute()]
    # an installed package is <prefix>/lib/python3.x/site-packages/fer_ros
    for prefix in (*package.parents, *prefixes, Path(sys.prefix)):
        yield prefix / "share" / "fer_ros" / "models"
