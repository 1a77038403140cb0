"""The views of RViz and Foxglove show topics and fields that the node has."""

import json
import re
from collections.abc import Iterator
from importlib import import_module
from typing import Any

import pytest
import yaml
from ros_tools import fake_pipeline, graph
from tree import ROOT

from fer_ros.emotions import EMOTIONS
from fer_ros.ros.node import EmotionNode

RVIZ = yaml.safe_load((ROOT / "config/fer.rviz").read_text())
FOXGLOVE = json.loads((ROOT / "config/foxglove_layout.json").read_text())
TOPIC = re.compile(r"/[\w/]+")
STEP = re.compile(r"\.(\w+)|\[(?:\d+|:)\]|\{([\w.]+)==\"([\w.]+)\"\}")


@pytest.fixture(scope="module")
def published() -> dict[str, type]:
    """The topics of the node with the classes of their messages."""
    with graph() as nodes:
        node = nodes.node(EmotionNode, fake_pipeline)
        node.start()
        offered = dict(node.get_publisher_names_and_types_by_node("emotion_node", "/"))
    return {topic: message_class(*names) for topic, names in offered.items()}


def message_class(name: str) -> Any:
    package, _, kind = name.split("/")
    return getattr(import_module(f"{package}.msg"), kind)


def leaves(tree: Any) -> Iterator[str]:
    """All texts in nested dictionaries and lists."""
    if isinstance(tree, str):
        yield tree
    for branch in (
        tree.values() if isinstance(tree, dict) else tree if isinstance(tree, list) else ()
    ):
        yield from leaves(branch)


def field_of(message: Any, name: str) -> Any:
    """The class of a field, of the elements of an array; a text for one that is no message."""
    kind = message.get_fields_and_field_types()[name]
    kind = re.sub(r"^sequence<|>$|\[\d+\]$", "", kind)
    return message_class(kind.replace("/", "/msg/")) if "/" in kind else kind


def check_path(path: str, topics: dict[str, Any]) -> list[str]:
    """Raises KeyError where a message path names what is not there; the values of its filters."""
    topic = TOPIC.match(path)[0]
    here, values, rest = topics[topic], [], path.removeprefix(topic)
    while rest:
        step = STEP.match(rest)
        assert step, f"{path}: what is {rest!r}?"
        rest = rest.removeprefix(step[0])
        if step[1]:
            here = field_of(here, step[1])
        elif step[2]:
            inner = here
            for name in step[2].split("."):
                inner = field_of(inner, name)
            values.append(step[3])
    return values


def test_rviz_shows_an_image_of_the_node(published):
    displays = RVIZ["Visualization Manager"]["Displays"]
    assert [display["Class"] for display in displays] == ["rviz_default_plugins/Image"]
    kinds = [published[display["Topic"]["Value"]].__name__ for display in displays]
    assert kinds == ["Image"]


def test_foxglove_places_every_panel_once():
    placed = [panel for panel in leaves(FOXGLOVE["layout"]) if panel not in ("row", "column")]
    assert sorted(placed) == sorted(FOXGLOVE["configById"])


def test_foxglove_reads_fields_that_the_messages_have(published):
    paths = [leaf for leaf in leaves(FOXGLOVE["configById"]) if leaf.startswith("/")]
    filters = [value for path in paths for value in check_path(path, published)]
    assert filters == [*EMOTIONS, "latency_ms.total.p50", "latency_ms.total.p95"]


@pytest.mark.parametrize(
    ("path", "error"),
    [
        ("", TypeError),
        ("/nowhere", KeyError),
        ("/diagnostics.state", KeyError),
        ('/diagnostics.status[:].values[:]{name=="x"}.value', KeyError),
        ("/diagnostics.status[:", AssertionError),
    ],
)
def test_invalid_message_paths_are_detected(published, path, error):
    with pytest.raises(error):
        check_path(path, published)
