"""ROS parameters made of the settings dataclasses, which keep all defaults, texts and ranges.

A nested field becomes a dotted name, as in ``detector.min_score``. Values are checked by the
dataclasses and by nothing else, when they are read: a value of the wrong type or out of its range
is an error of one line then, and no exception in the constructor of the node.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import Field, dataclass, field, fields, is_dataclass
from difflib import get_close_matches
from typing import Any, TypeVar

from rcl_interfaces.msg import (
    FloatingPointRange,
    IntegerRange,
    ParameterDescriptor,
    SetParametersResult,
)
from rclpy.exceptions import InvalidParameterValueException
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.qos import QoSProfile, QoSReliabilityPolicy

from fer_ros.config import Checked, from_dict, setting
from fer_ros.labels import EMOTIONS

T = TypeVar("T")

SOURCES = ("camera", "ros4hri")
TRANSPORTS = ("raw", "compressed")
IMAGE_QOS = {  # how images come, and how many of them wait
    "sensor_data": (QoSReliabilityPolicy.BEST_EFFORT, 1),
    "default": (QoSReliabilityPolicy.RELIABLE, 10),
    "reliable_latest": (QoSReliabilityPolicy.RELIABLE, 1),
}
_OF_EVERY_NODE = ("use_sim_time", "start_type_description_service", "qos_overrides.")
_WORD = "[A-Za-z](?:_?[A-Za-z0-9])*"  # what may stand between the slashes of a topic
# Changed while they are in use, they count from the next image on; no model is loaded for them.
_LIVE = re.compile(
    r"(quality|tracker|smoother)\..*|detector\.(?!model_path).*"
    r"|image_timeout_s|publish_humans|privacy"
)


def check_choice(name: str, value: str, choices: Sequence[str]) -> None:
    """Raises ValueError when ``value`` is none of the choices."""
    if value not in choices:
        *others, last = choices
        raise ValueError(f"{name}: expected {', '.join(others)} or {last}, got {value!r}")


@dataclass(frozen=True)
class NodeConfig(Checked):
    """How the emotion node gets its images and what else it does."""

    source: str = setting(
        "camera", "camera, or ros4hri: faces that another node finds and publishes as REP-155 says"
    )
    cameras: tuple[str, ...] = setting(
        ("",), "several cameras: ['front', 'rear'] takes 'front/image' and 'rear/image'"
    )
    image_transport: str = setting("raw", "raw: topic 'image'; compressed: 'image/compressed'")
    image_qos: str = setting(
        "sensor_data",
        "sensor_data takes images from every publisher; reliable_latest gets lost parts again, and "
        "default those of ten images",
    )
    image_timeout_s: float = setting(
        5.0, "a warning tells why, when no image came for so long; 0: none", 0.0, 3600.0
    )
    autostart: bool = setting(True, "the node configures and activates itself")
    publish_humans: bool = setting(True, "faces are published as REP-155 says, where hri_msgs is")
    humans_prefix: str = setting("/humans", "namespace of the topics of REP-155")
    id_prefix: str = setting("f", "ids of faces begin with this, after the name of their camera")
    deterministic_ids: bool = setting(
        False, "ids count up, the same in every run, instead of being random and thus unique"
    )
    publish_tf: bool = setting(
        False, "heads are frames of TF, face_<id>, where the camera publishes its calibration"
    )
    label_map: str = setting(
        "", "other names for emotions, such as 'happiness:happy, contempt:annoyed'"
    )
    privacy: bool = field(
        default=True,
        metadata={
            "about": "no picture leaves the node: neither crops of faces nor the debug image",
            "only_on": True,  # nobody on the network can look through a robot's eyes
        },
    )
    log_path: str = field(
        default="",
        metadata={
            "about": "results are appended to this file as JSON lines, no pictures; empty: none",
            "read_only": True,  # nobody on the network can make a robot take notes of people
        },
    )

    def __post_init__(self) -> None:
        _check_cameras(self.cameras)
        super().__post_init__()
        check_choice("source", self.source, SOURCES)
        check_choice("image_transport", self.image_transport, TRANSPORTS)
        check_choice("image_qos", self.image_qos, tuple(IMAGE_QOS))
        _check_form("humans_prefix", self.humans_prefix, f"(/{_WORD})+", "/humans")
        _check_form("id_prefix", self.id_prefix, f"{_WORD}_?", "f")
        label_names(self.label_map)
        if self.source != "camera" and self.cameras != ("",):
            raise ValueError(f"cameras: source {self.source} has none, got {list(self.cameras)}")


def below(camera: str, name: str) -> str:
    """What a topic of this camera is called; the only camera need not have a name."""
    return f"{camera}/{name}" if camera else name


def id_prefix(camera: str, config: NodeConfig) -> str:
    """How ids of the faces of this camera begin: those of two cameras stay apart."""
    return f"{camera}_{config.id_prefix}" if camera else config.id_prefix


def _check_cameras(cameras: Any) -> None:
    are_names = isinstance(cameras, tuple) and all(
        isinstance(name, str) and re.fullmatch(_WORD, name) for name in cameras
    )
    if cameras != ("",) and not (are_names and 0 < len(cameras) == len({*cameras})):
        got = list(cameras) if isinstance(cameras, tuple) else cameras
        raise ValueError(
            f"cameras: expected different names such as ['front', 'rear'], or [''] for a single "
            f"camera, got {got!r}"
        )


def _check_form(name: str, value: str, pattern: str, example: str) -> None:
    if not re.fullmatch(pattern, value):
        raise ValueError(f"{name}: expected a name such as {example!r}, got {value!r}")


def label_names(label_map: str) -> dict[str, str]:
    """What each of the eight emotions is called, by a ``label_map`` like ``"fear:afraid"``.

    Raises ValueError when it names no emotion of ours, or two emotions alike.
    """
    names = {emotion: emotion for emotion in EMOTIONS}
    for pair in filter(None, (part.strip() for part in label_map.split(","))):
        emotion, _, name = (part.strip() for part in pair.partition(":"))
        if emotion not in names or not name:
            known = ", ".join(EMOTIONS)
            raise ValueError(f"label_map: expected emotion:name with one of {known}, got {pair!r}")
        names[emotion] = name
    if len({*names.values()}) < len(names):
        raise ValueError(f"label_map: two emotions have the same name, got {label_map!r}")
    return names


def image_qos(name: str, depth: int = 0) -> QoSProfile:
    """The profile that the parameter ``image_qos`` calls by this name; ``depth`` 0 is its own."""
    reliability, own_depth = IMAGE_QOS[name]
    return QoSProfile(depth=depth or own_depth, reliability=reliability)


class Parameters:
    """The parameters of one node.

    The node must be made with ``automatically_declare_parameters_from_overrides``: that shows the
    parameters which somebody set and nobody knows. While ``locked`` is True only those can be
    changed that count from the next image on, and ``on_change`` hears of them before anybody can
    read them.
    """

    def __init__(
        self,
        node: Node,
        *kinds: type,
        on_change: Callable[[dict[str, Any]], Any] = lambda changes: None,
    ) -> None:
        self._node = node
        self._fields = {name: item for kind in kinds for name, item in _flat(kind)}
        self._kinds = {name: kind for kind in kinds for name, _ in _flat(kind)}
        self._on_change = on_change
        self.locked = False
        self._drop_unknown()
        for name, item in self._fields.items():
            self._declare(name, item)
        node.add_on_set_parameters_callback(self._check)

    def read(self, kind: type[T], changes: dict[str, Any] | None = None) -> T:
        """The settings as they are now, or with these changes to them.

        Raises ValueError that names the parameter.
        """
        values = {name: self._node.get_parameter(name).value for name, _ in _flat(kind)}
        return self._build(kind, values | {n: v for n, v in (changes or {}).items() if n in values})

    def _build(self, kind: type[T], values: dict[str, Any]) -> T:
        try:
            return from_dict(kind, _nest({n: self._plain(n, v) for n, v in values.items()}), "")
        except ValueError as error:
            raise ValueError(f"parameter {str(error).lstrip('.')}") from None

    def _plain(self, name: str, value: Any) -> Any:
        """On a command line a text such as ``source:=0`` looks like a number."""
        kind = type(self._fields[name].default)
        if kind is tuple and isinstance(value, list):
            return tuple(value)
        return str(value) if kind is str and type(value) is int else value

    def _declare(self, name: str, item: Field) -> None:
        descriptor = _descriptor(item)
        if not self._node.has_parameter(name):
            default = item.default
            value = [*default] if isinstance(default, tuple) else default
            self._node.declare_parameter(name, value, descriptor)
            return
        with suppress(InvalidParameterValueException):  # read() says it better
            self._node.set_descriptor(name, descriptor)

    def _drop_unknown(self) -> None:
        given = self._node.get_parameters_by_prefix("")
        for name in given:
            if name in self._fields or name.startswith(_OF_EVERY_NODE):
                continue
            close = get_close_matches(name, self._fields, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"known: {', '.join(self._fields)}"
            self._node.get_logger().warning(f"unknown parameter {name!r} is ignored; {hint}")
            self._node.undeclare_parameter(name)

    def _check(self, parameters: list[Parameter]) -> SetParametersResult:
        ours = {item.name: item.value for item in parameters if item.name in self._fields}
        reason = next(filter(None, (self._why_not(*pair) for pair in ours.items())), "")
        if ours and self.locked and not reason:
            self._on_change(ours)
        return SetParametersResult(successful=not reason, reason=reason)

    def _why_not(self, name: str, value: Any) -> str:
        if self.locked and not _LIVE.fullmatch(name):
            return f"{name}: can be set while the node is unconfigured; clean it up"
        only_on = self._fields[name].metadata.get("only_on")
        if only_on and self._node.get_parameter(name).value is True and value is not True:
            return f"{name}: can be switched on but not off; start the node with {name}:=false"
        try:
            self._build(self._kinds[name], {name: value})
        except ValueError as error:
            return str(error)
        return ""


def _flat(kind: Any, prefix: str = "") -> Iterator[tuple[str, Field]]:
    """Dotted names and fields of a settings dataclass and of those nested in it."""
    for item in fields(kind):
        if is_dataclass(item.default_factory):
            yield from _flat(item.default_factory, f"{prefix}{item.name}.")
        else:
            yield prefix + item.name, item


def _nest(values: dict[str, Any]) -> dict[str, Any]:
    """``{"a.b": 1}`` to ``{"a": {"b": 1}}``."""
    nested: dict[str, Any] = {}
    for name, value in values.items():
        *path, last = name.split(".")
        inner = nested
        for key in path:
            inner = inner.setdefault(key, {})
        inner[last] = value
    return nested


def _descriptor(item: Field) -> ParameterDescriptor:
    about: Any = item.metadata
    descriptor = ParameterDescriptor(
        description=about["about"],
        read_only=about.get("read_only", False),
        dynamic_typing=True,  # the dataclass checks: it also takes 1 for 1.0
    )
    low, high = about.get("low"), about.get("high")
    if low is not None and isinstance(item.default, int):
        descriptor.integer_range = [IntegerRange(from_value=int(low), to_value=int(high))]
    elif low is not None:
        span = FloatingPointRange(from_value=float(low), to_value=float(high))
        descriptor.floating_point_range = [span]
    return descriptor
