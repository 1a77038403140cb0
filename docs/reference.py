"""The reference of topics, services and parameters, read from a running node.

The node is started in this process, in a ROS_DOMAIN_ID of its own. A topic or service that it
offers and this file does not describe is an error, and so is a description without its topic.
"""

import io
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout, suppress
from dataclasses import dataclass, fields
from pathlib import Path

from fer_ros.ros.tools.isolated_domain import find_free_domain_id, localhost_transport_env

_FOLDER = tempfile.TemporaryDirectory()
os.environ |= localhost_transport_env(Path(_FOLDER.name))
os.environ.setdefault("ROS_LOG_DIR", _FOLDER.name)

import rclpy  # noqa: E402
from rcl_interfaces.msg import ParameterDescriptor  # noqa: E402
from rclpy.context import Context  # noqa: E402
from rclpy.parameter import Parameter  # noqa: E402

from fer_ros.cli import main as fer  # noqa: E402
from fer_ros.inference.model_store import model_folders  # noqa: E402
from fer_ros.ros.node import EmotionNode  # noqa: E402
from fer_ros.ros.parameters import NodeConfig, is_dynamic  # noqa: E402

SUBSCRIPTIONS = {
    "image": "raw images of the camera (`image_transport: raw`)",
    "image/compressed": "JPEG or PNG images (`image_transport: compressed`)",
    "camera_info": "intrinsics of the camera (`publish_tf: true`)",
    "/humans/faces/tracked": "ids of the faces of another detector (`input_source: ros4hri`)",
}
PUBLICATIONS = {
    "~/emotions": "one message per processed image, also without faces, with the image's header",
    "~/emotions/labels": "the names of the eight emotions, latched",
    "~/debug_image": "the image with boxes, landmarks and probabilities; only with "
    "`publish_images: true`, drawn only while there is a subscriber",
    "/humans/faces/tracked": "ids of all faces that are visible or may come back (where "
    "`hri_msgs` is installed)",
    "/diagnostics": "once a second: rates, dropped images, stage latencies, model and device",
    "/tf": "one frame `face_<id>` per head (`publish_tf: true`)",
}
SERVICES = {
    "~/set_enabled": "`true` activates the node, `false` deactivates it",
    "~/change_state": "lifecycle transitions: configure, activate, deactivate, cleanup, shutdown",
    "~/get_state": "the state of the lifecycle",
    "~/get_available_states": "all states of the lifecycle",
    "~/get_available_transitions": "the transitions that are possible now",
    "~/get_transition_graph": "all transitions of the lifecycle",
}
COMMON_INTERFACES = {
    "/parameter_events",
    "/rosout",
    "/clock",
    "~/transition_event",
    "~/describe_parameters",
    "~/get_parameter_types",
    "~/get_parameters",
    "~/list_parameters",
    "~/set_parameters",
    "~/set_parameters_atomically",
    "~/get_type_description",
}
VARIANTS: tuple[dict[str, object], ...] = (
    {},
    {"publish_images": True, "publish_tf": True},
    {"image_transport": "compressed"},
    {"input_source": "ros4hri"},
)
GROUPS = {
    "": "Node",
    "detector": "Detector",
    "tracker": "Tracker",
    "quality": "Quality gate",
    "classifier": "Classifier",
    "smoother": "Smoother",
}


COMMANDS = (
    "analyze",
    "evaluate-bag",
    "compare",
    "bag-from-video",
    "models",
    "models fetch",
    "models export",
    "bench",
    "doctor",
)


@dataclass
class Interfaces:
    """Names and types of what a node offers, names as in the documentation."""

    subscriptions: dict[str, str]
    publications: dict[str, str]
    services: dict[str, str]


def write(folder: Path) -> None:
    """Write one page per reference into ``folder``."""
    folder.mkdir(exist_ok=True)
    offered = Interfaces({}, {}, {})
    for variant in VARIANTS:
        with _active_node(variant) as node:
            _add_interfaces(node, offered)
            if variant is VARIANTS[0]:
                parameters = _parameters(node)
    pages = {
        "parameters": parameters,
        "topics": _table("subscribes to", offered.subscriptions, SUBSCRIPTIONS)
        + "\n"
        + _table("publishes", offered.publications, PUBLICATIONS),
        "services": _table("service", offered.services, SERVICES),
        "command_line": "\n".join(_help(command) for command in COMMANDS),
        "models": _models(),
    }
    for name, text in pages.items():
        path = folder / f"{name}.md"
        if not path.exists() or path.read_text() != text:
            path.write_text(text)


@contextmanager
def _active_node(parameters: dict[str, object]) -> Iterator[EmotionNode]:
    context = Context()
    rclpy.init(args=[], context=context, domain_id=find_free_domain_id())
    overrides = [Parameter(name, value=value) for name, value in parameters.items()]
    node = EmotionNode(context=context, parameter_overrides=overrides)
    try:
        node.start()
        yield node
    finally:
        node.destroy_node()
        rclpy.shutdown(context=context)


def _add_interfaces(node: EmotionNode, offered: Interfaces) -> None:
    name = node.get_name()
    for interfaces, target in (
        (node.get_subscriber_names_and_types_by_node(name, "/"), offered.subscriptions),
        (node.get_publisher_names_and_types_by_node(name, "/"), offered.publications),
        (node.get_service_names_and_types_by_node(name, "/"), offered.services),
    ):
        for full_name, types in interfaces:
            display_name = full_name.replace(f"/{name}/", "~/")
            if display_name in {"/image", "/image/compressed", "/camera_info"}:
                display_name = display_name[1:]  # relative: remapped with the namespace
            if display_name not in COMMON_INTERFACES:
                target[display_name] = types[0].replace("/msg/", "/").replace("/srv/", "/")


def _table(heading: str, offered: dict[str, str], descriptions: dict[str, str]) -> str:
    if offered.keys() != descriptions.keys():
        different = sorted(offered.keys() ^ descriptions.keys())
        raise ValueError(
            f"docs/reference.py, {heading!r}: node and descriptions differ: {different}"
        )
    rows = [f"| `{name}` | `{offered[name]}` | {text} |" for name, text in descriptions.items()]
    return "\n".join([f"| {heading} | type | content |", "|---|---|---|", *rows]) + "\n"


def _parameters(node: EmotionNode) -> str:
    names = sorted(node.list_parameters([], 0).names)
    names = [name for name in names if not name.startswith(("qos_overrides", "start_type", "use_"))]
    sections = []
    for group, title in GROUPS.items():
        chosen = [name for name in names if name.rpartition(".")[0] == group]
        rows = [_parameter_row(node, name) for name in chosen]
        sections.append(
            "\n".join(
                [
                    f"## {title}",
                    "",
                    "| parameter | default | range | while active | meaning |",
                    "|---|---|---|---|---|",
                    *rows,
                ]
            )
        )
    if missing := {name.rpartition(".")[0] for name in names} - GROUPS.keys():
        raise ValueError(f"docs/reference.py: GROUPS lacks {sorted(missing)}")
    return "\n\n".join(sections) + "\n"


def _parameter_row(node: EmotionNode, name: str) -> str:
    descriptor = node.describe_parameter(name)
    value = _format_value(node.get_parameter(name).value)
    meaning = descriptor.description.replace("<", "&lt;")  # as in face_<id>
    cells = (f"`{name}`", f"`{value}`", _range(descriptor), _change(name), meaning)
    return f"| {' | '.join(cells)} |"


def _change(name: str) -> str:
    metadata = next((item.metadata for item in fields(NodeConfig) if item.name == name), {})
    if metadata.get("read_only"):
        return "no, only at startup"
    return "yes" if is_dynamic(name) else "no"


def _format_value(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f'"{value}"' if isinstance(value, str) else str(value).replace("'", '"')


def _range(descriptor: ParameterDescriptor) -> str:
    for limits in (*descriptor.integer_range, *descriptor.floating_point_range):
        return f"{limits.from_value:g} to {limits.to_value:g}"
    return ""


def _help(command: str) -> str:
    os.environ["COLUMNS"] = "96"
    output = io.StringIO()
    with redirect_stdout(output), suppress(SystemExit):
        fer([*command.split(), "--help"])
    return f"## fer {command}\n\n```text\n{output.getvalue()}```\n"


def _models() -> str:
    rows = [
        "| model | FER+, prior `balanced` | FER+, prior `natural` | nhfi, prior "
        "`balanced` | landmark error |",
        "|---|---:|---:|---:|---:|",
    ]
    for folder in model_folders():
        results = json.loads((folder / "metrics.json").read_text())
        tests = ("ferplus-3573-balanced", "ferplus-3573", "nhfi-balanced")
        cells = [
            f"{results[test]['accuracy']:.1%} / {results[test]['balanced_accuracy']:.1%}"
            for test in tests
        ]
        cells.append(f"{results['landmarks-lfwx']['median_nme']:.1%}")
        rows.append(f"| `{folder.name}` | {' | '.join(cells)} |")
    return "\n".join(rows) + "\n"
