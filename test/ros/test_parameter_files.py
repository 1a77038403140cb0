"""Sections of parameter files that rcl would ignore without a message."""

import pytest
from rclpy.node import Node
from ros_tools import graph_of_a_test

from fer_ros.ros.parameter_files import unmatched_sections, warn_unmatched_sections

ros = graph_of_a_test
SECTION = "{}:\n  ros__parameters:\n    id_prefix: a\n"
NESTED = "{}:\n  emotion_node:\n    ros__parameters:\n      id_prefix: a\n"


@pytest.mark.parametrize(
    ("text", "full_name", "unmatched"),
    [
        ("{}", "/emotion_node", []),
        (SECTION.format("emotion_node"), "/emotion_node", []),
        (SECTION.format("/emotion_node"), "/emotion_node", []),
        (SECTION.format("emotion_node"), "/robot/emotion_node", ["emotion_node"]),
        (SECTION.format("/robot/emotion_node"), "/robot/emotion_node", []),
        (SECTION.format("/a/b/emotion_node"), "/robot/emotion_node", ["/a/b/emotion_node"]),
        (SECTION.format('"/**"'), "/robot/emotion_node", []),
        (SECTION.format('"/*/emotion_node"'), "/robot/emotion_node", []),
        (SECTION.format('"/*/emotion_node"'), "/a/b/emotion_node", ["/*/emotion_node"]),
        (SECTION.format('"/**/emotion_node"'), "/a/b/emotion_node", []),
        (SECTION.format('"/**/emotion_node"'), "/emotion_node", []),
        (SECTION.format("another_node"), "/robot/emotion_node", []),
        (NESTED.format("robot"), "/robot/emotion_node", []),
        (NESTED.format("robot"), "/emotion_node", ["robot/emotion_node"]),
    ],
)
def test_sections_that_name_the_node_without_its_namespace(tmp_path, text, full_name, unmatched):
    path = tmp_path / "params.yaml"
    path.write_text(text)
    assert unmatched_sections(path, full_name) == unmatched


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (SECTION.format("emotion_node"), "section 'emotion_node' does not apply to /robot/emotion"),
        ("a: [", "sections are not checked: not a YAML file"),
        (SECTION.format("/robot/emotion_node"), None),
    ],
)
def test_the_warning_names_the_file(ros, capfd, tmp_path, text, says):
    path = tmp_path / "params.yaml"
    path.write_text(text)

    def make(**given):
        return Node("emotion_node", namespace="robot", **given)

    warn_unmatched_sections(ros.node(make), ["node", "--ros-args", "--params-file", str(path)])
    warnings = [line for line in capfd.readouterr().err.splitlines() if "[WARN]" in line]
    assert len(warnings) == (says is not None)
    assert all(f"{path}: {says}" in line for line in warnings)
