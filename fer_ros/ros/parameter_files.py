"""Detection of parameter file sections that do not apply to a node.

rcl ignores sections for other nodes without a message. A section that has the name of the node but
not its namespace is most likely a mistake.
"""

import re
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from rclpy.node import Node

from fer_ros.io.errors import format_os_error
from fer_ros.io.yaml_file import parse_yaml

_VALUES_KEY = "ros__parameters"


def warn_unmatched_sections(node: Node, args: Sequence[str]) -> None:
    """Warn of sections in ``--params-file`` arguments that name the node without its namespace."""
    full_name = node.get_fully_qualified_name()
    for option, path in pairwise(args):
        if option != "--params-file":
            continue
        try:
            sections = unmatched_sections(Path(path), full_name)
        except (OSError, ValueError) as error:  # rcl has read it, but not as plain YAML
            node.get_logger().warning(f"{path}: sections are not checked: {format_os_error(error)}")
            continue
        for section in sections:
            node.get_logger().warning(
                f"{path}: section {section!r} does not apply to {full_name}; use {full_name!r} or "
                "'/**' as its key"
            )


def unmatched_sections(path: Path, full_name: str) -> list[str]:
    """Sections with the last part of the node's full name that do not match all of it."""
    name = full_name.rpartition("/")[2]
    sections = _section_names(parse_yaml(path.read_bytes()))
    return [
        section
        for section in sections
        if section.rpartition("/")[2] == name and not _matches(section, full_name)
    ]


def _section_names(tree: Any, prefix: str = "") -> Iterator[str]:
    """Names of all sections; keys of nested namespaces are joined by slashes."""
    if not isinstance(tree, dict):
        return
    for key, value in tree.items():
        if key == _VALUES_KEY:
            yield prefix
        else:
            yield from _section_names(value, f"{prefix}/{key}" if prefix else str(key))


def _matches(section: str, full_name: str) -> bool:
    """Whether a section applies, as rcl matches: ``*`` is one token, ``**`` any number."""
    pattern = re.escape("/" + section.strip("/"))
    pattern = pattern.replace(r"/\*\*", "(/[^/]+)*").replace(r"\*", "[^/]+")
    return re.fullmatch(pattern, full_name) is not None
