"""ROS parameters generated from configuration dataclasses.

The dataclasses keep all defaults, descriptions and ranges. A nested field becomes a dotted name
such as ``detector.score_threshold``. Values are validated by the dataclasses when they are read, so
that a bad value gives a one-line error and no exception in the constructor of the node.
"""

import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import Field, dataclass, field, fields, is_dataclass
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

from fer_ros.config import ValidatedConfig, check_choice, config_field, from_dict
from fer_ros.emotions import EMOTIONS
from fer_ros.suggestions import did_you_mean

T = TypeVar("T")

INPUT_SOURCES = ("camera", "ros4hri")
TRANSPORTS = ("raw", "compressed")
IMAGE_QOS = {  # reliability and depth
    "sensor_data": (QoSReliabilityPolicy.BEST_EFFORT, 1),
    "reliable": (QoSReliabilityPolicy.RELIABLE, 1),
    "default": (QoSReliabilityPolicy.RELIABLE, 10),
}
_NODE_PARAMETERS = ("use_sim_time", "start_type_description_service", "qos_overrides.")
_NAME_PATTERN = "[A-Za-z](?:_?[A-Za-z0-9])*"  # one token of a topic name
# Parameters that take effect from the next image on; changing them loads no model.
_DYNAMIC_PARAMETERS = re.compile(
    r"(quality|tracker|smoother)\..*|detector\.(?!model_path|name).*"
    r"|image_timeout_s|publish_humans|publish_images"
)


@dataclass(frozen=True)
class NodeConfig(ValidatedConfig):
    """Inputs and outputs of the emotion node."""

    input_source: str = config_field(
        "camera", "camera: images; ros4hri: faces that another node publishes (REP-155)"
    )
    cameras: tuple[str, ...] = config_field(
        ("",), "names of several cameras: ['front', 'rear'] subscribes to front/image, rear/image"
    )
    image_transport: str = config_field(
        "raw", "raw: topic image; compressed: topic image/compressed"
    )
    image_qos: str = config_field(
        "sensor_data",
        "sensor_data: best effort, depth 1; reliable: depth 1; default: reliable, depth 10",
    )
    image_timeout_s: float = config_field(
        5.0, "seconds without an image before a warning with the likely cause; 0: none", 0.0, 3600.0
    )
    autostart: bool = config_field(True, "configure and activate the node at startup")
    publish_humans: bool = config_field(True, "publish faces as REP-155 topics (needs hri_msgs)")
    hri_namespace: str = config_field(
        "/humans",
        "namespace of the REP-155 topics; a relative name is below the namespace of the node",
    )
    id_prefix: str = config_field("f", "prefix of face ids, after the name of the camera")
    deterministic_ids: bool = config_field(
        False, "number the face ids (f00001, ...) instead of random, globally unique ids"
    )
    publish_tf: bool = config_field(
        False, "publish head poses as TF frames face_<id> (needs camera_info)"
    )
    label_map: str = config_field(
        "", "rename emotions, for example 'happiness:happy, contempt:annoyed'"
    )
    publish_images: bool = field(
        default=False,
        metadata={
            "description": "publish ~/debug_image and face crops; false: no image leaves the node",
            "disable_only": True,  # no other node can enable it on a running robot
        },
    )
    results_log_path: str = field(
        default="",
        metadata={
            "description": "append results, without images, to this JSON lines file; empty: none",
            "read_only": True,  # no other node can make the robot record people
        },
    )

    def __post_init__(self) -> None:
        _check_cameras(self.cameras)
        super().__post_init__()
        check_choice("input_source", self.input_source, INPUT_SOURCES)
        check_choice("image_transport", self.image_transport, TRANSPORTS)
        check_choice("image_qos", self.image_qos, tuple(IMAGE_QOS))
        namespace = f"/?{_NAME_PATTERN}(/{_NAME_PATTERN})*"
        _check_pattern("hri_namespace", self.hri_namespace, namespace, "/humans")
        _check_pattern("id_prefix", self.id_prefix, f"{_NAME_PATTERN}_?", "f")
        label_names(self.label_map)
        if self.input_source != "camera" and self.cameras != ("",):
            raise ValueError(
                f"cameras: expected [''] with input_source {self.input_source}, "
                f"found {list(self.cameras)}"
            )


def is_dynamic(name: str) -> bool:
    """Whether a parameter can change while the node is configured."""
    return _DYNAMIC_PARAMETERS.fullmatch(name) is not None


def camera_topic(camera: str, name: str) -> str:
    """Name of a topic of this camera; a single camera may have the empty name."""
    return f"{camera}/{name}" if camera else name


def id_prefix(camera: str, config: NodeConfig) -> str:
    """Prefix of the face ids of this camera; ids of two cameras never collide."""
    return f"{camera}_{config.id_prefix}" if camera else config.id_prefix


def _check_cameras(cameras: Any) -> None:
    are_names = isinstance(cameras, tuple) and all(
        isinstance(name, str) and re.fullmatch(_NAME_PATTERN, name) for name in cameras
    )
    if cameras != ("",) and not (are_names and 0 < len(cameras) == len({*cameras})):
        got = list(cameras) if isinstance(cameras, tuple) else cameras
        raise ValueError(
            "cameras: expected different names such as ['front', 'rear'], or [''] for a single "
            f"camera, found {got!r}"
        )


def _check_pattern(name: str, value: str, pattern: str, example: str) -> None:
    if not re.fullmatch(pattern, value):
        raise ValueError(f"{name}: expected a name such as {example!r}, found {value!r}")


def label_names(label_map: str) -> dict[str, str]:
    """Published name of each of the eight emotions for a ``label_map`` such as ``"fear:afraid"``.

    Raises ValueError for an unknown emotion and for two emotions with the same name.
    """
    names = {emotion: emotion for emotion in EMOTIONS}
    for pair in filter(None, (part.strip() for part in label_map.split(","))):
        emotion, _, name = (part.strip() for part in pair.partition(":"))
        if emotion not in names or not name:
            known = ", ".join(EMOTIONS)
            raise ValueError(
                f"label_map: expected emotion:name with one of {known}, found {pair!r}"
            )
        names[emotion] = name
    if len({*names.values()}) < len(names):
        raise ValueError(f"label_map: two emotions have the same name, found {label_map!r}")
    return names


def image_qos(name: str, depth: int = 0) -> QoSProfile:
    """QoS profile for a value of the parameter ``image_qos``; ``depth`` 0 keeps its own depth."""
    reliability, own_depth = IMAGE_QOS[name]
    return QoSProfile(depth=depth or own_depth, reliability=reliability)


class Parameters:
    """Declares and validates the parameters of one node.

    Create the node with ``automatically_declare_parameters_from_overrides``, so that overrides of
    unknown names can be reported. While ``locked`` is True only dynamic parameters can change, and
    ``on_change`` receives the changes before they are visible to other readers. Setting a parameter
    to its present value always succeeds, so that a parameter dump loads into a running node.
    """

    def __init__(
        self,
        node: Node,
        *config_types: type,
        on_change: Callable[[dict[str, Any]], Any] = lambda changes: None,
    ) -> None:
        self._node = node
        self._fields = {name: item for kind in config_types for name, item in _flatten(kind)}
        self._config_types = {name: kind for kind in config_types for name, _ in _flatten(kind)}
        self._on_change = on_change
        self.locked = False
        self._drop_unknown()
        for name, item in self._fields.items():
            self._declare(name, item)
        if hasattr(node, "add_pre_set_parameters_callback"):  # not in ROS 2 Humble
            node.add_pre_set_parameters_callback(self._convert)
        node.add_on_set_parameters_callback(self._on_set)

    def read(self, config_type: type[T], changes: dict[str, Any] | None = None) -> T:
        """Return the current configuration, optionally with ``changes`` applied.

        Raises ValueError that names the parameter.
        """
        values = {name: self._node.get_parameter(name).value for name, _ in _flatten(config_type)}
        own_changes = {name: new for name, new in (changes or {}).items() if name in values}
        return self._build(config_type, values | own_changes)

    def _build(self, config_type: type[T], values: dict[str, Any]) -> T:
        plain = {name: self._to_field_type(name, value) for name, value in values.items()}
        try:
            return from_dict(config_type, _unflatten(plain), "")
        except ValueError as error:
            raise ValueError(f"parameter {str(error).lstrip('.')}") from None

    def _to_field_type(self, name: str, value: Any) -> Any:
        """Convert lists to tuples, and numbers as YAML reads them (``1`` for 1.0 or "1")."""
        kind = type(self._fields[name].default)
        if kind is tuple and isinstance(value, list):
            return tuple(value)
        if kind in (str, float) and type(value) is int and abs(value) < 2**53:
            return kind(value)
        return value

    def _declare(self, name: str, item: Field) -> None:
        descriptor = _descriptor(item)
        if not self._node.has_parameter(name):
            default = item.default
            value = [*default] if isinstance(default, tuple) else default
            self._node.declare_parameter(name, value, descriptor)
            return
        with suppress(InvalidParameterValueException):  # read() gives the better message
            self._node.set_descriptor(name, descriptor)
            self._node.set_parameters(self._convert([self._node.get_parameter(name)]))

    def _drop_unknown(self) -> None:
        for name in self._node.get_parameters_by_prefix(""):
            if name in self._fields or name.startswith(_NODE_PARAMETERS):
                continue
            hint = did_you_mean(name, self._fields, f"known: {', '.join(self._fields)}")
            self._node.get_logger().warning(f"unknown parameter {name!r} is ignored; {hint}")
            self._node.undeclare_parameter(name)

    def _convert(self, parameters: list[Parameter]) -> list[Parameter]:
        """Give integers for fractional and text parameters the type of the parameter."""
        converted = []
        for parameter in parameters:
            value = parameter.value
            if type(value) is int and parameter.name in self._fields:
                value = self._to_field_type(parameter.name, value)
            is_same = type(value) is type(parameter.value)
            converted.append(parameter if is_same else Parameter(parameter.name, value=value))
        return converted

    def _on_set(self, parameters: list[Parameter]) -> SetParametersResult:
        changes = {
            item.name: item.value
            for item in parameters
            if item.name in self._fields and not self._is_current(item)
        }
        reason = next(filter(None, (self._rejection(*pair) for pair in changes.items())), "")
        if changes and self.locked and not reason:
            self._on_change(changes)
        return SetParametersResult(successful=not reason, reason=reason)

    def _is_current(self, parameter: Parameter) -> bool:
        current = self._node.get_parameter_or(parameter.name)
        return (current.type_, current.value) == (parameter.type_, parameter.value)

    def _rejection(self, name: str, value: Any) -> str:
        """Reason why a parameter cannot change to this value; empty if it can."""
        metadata = self._fields[name].metadata
        if metadata.get("read_only"):
            return f"{name}: read-only; restart the node with {name}:=<value>"
        if metadata.get("disable_only") and value is True:
            return f"{name}: can only be disabled; restart the node with {name}:=true"
        if self.locked and not is_dynamic(name):
            return f"{name}: can only be set while the node is unconfigured; clean it up first"
        try:
            self._build(self._config_types[name], {name: value})
        except ValueError as error:
            return str(error)
        return ""


def _flatten(config_type: Any, prefix: str = "") -> Iterator[tuple[str, Field]]:
    """Dotted names and fields of a configuration dataclass and those nested in it."""
    for item in fields(config_type):
        if is_dataclass(item.default_factory):
            yield from _flatten(item.default_factory, f"{prefix}{item.name}.")
        else:
            yield prefix + item.name, item


def _unflatten(values: dict[str, Any]) -> dict[str, Any]:
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
    metadata: Any = item.metadata
    descriptor = ParameterDescriptor(
        description=metadata["description"],
        dynamic_typing=True,  # the dataclass validates types; Humble needs it for 1 instead of 1.0
    )
    low, high = metadata.get("minimum"), metadata.get("maximum")
    if low is not None and isinstance(item.default, int):
        descriptor.integer_range = [IntegerRange(from_value=int(low), to_value=int(high))]
    elif low is not None:
        span = FloatingPointRange(from_value=float(low), to_value=float(high))
        descriptor.floating_point_range = [span]
    return descriptor
