"""Parameters made of dataclasses."""

import fnmatch
import json
import re
from dataclasses import fields, is_dataclass

import pytest
import yaml
from rclpy.node import Node
from rclpy.parameter import Parameter
from ros_tools import graph
from tree import ROOT

from fer_ros.config import PipelineConfig
from fer_ros.ros.params import NodeConfig, Parameters

KINDS = (NodeConfig, PipelineConfig)


@pytest.fixture(scope="module")
def ros():
    with graph() as opened:
        yield opened


def make(ros, **parameters):
    """A node and its parameters, of which these are set from outside."""

    def node(**arguments):
        return Node("subject", automatically_declare_parameters_from_overrides=True, **arguments)

    made = ros.node(node, **parameters)
    return made, Parameters(made, *KINDS)


def dotted(kind, prefix=""):
    for item in fields(kind):
        if is_dataclass(item.default_factory):
            yield from dotted(item.default_factory, f"{prefix}{item.name}.")
        else:
            yield prefix + item.name, item


def as_parameter(value):
    return [*value] if isinstance(value, tuple) else value


NAMES = [name for kind in KINDS for name, _ in dotted(kind)]


def test_nothing_set_gives_the_defaults(ros):
    _, parameters = make(ros)
    assert parameters.read(NodeConfig) == NodeConfig()
    assert parameters.read(PipelineConfig) == PipelineConfig()


def test_every_setting_is_a_parameter_with_text_and_range(ros):
    node, _ = make(ros)
    for kind in KINDS:
        for name, item in dotted(kind):
            descriptor = node.describe_parameter(name)
            assert node.get_parameter(name).value == as_parameter(item.default)
            assert descriptor.description == item.metadata["about"]
            spans = [*descriptor.integer_range, *descriptor.floating_point_range]
            wanted = (item.metadata.get("low"), item.metadata.get("high"))
            assert [(span.from_value, span.to_value) for span in spans] == (
                [] if wanted == (None, None) else [wanted]
            )


@pytest.mark.parametrize(
    ("name", "given", "read"),
    [
        ("detector__min_score", 0.25, 0.25),
        ("detector__min_score", 1, 1.0),
        ("tracker__min_hits", 7, 7),
        ("classifier__model", "other", "other"),
        ("classifier__model", 5, "5"),
    ],
)
def test_what_is_set_is_read(ros, name, given, read):
    _, parameters = make(ros, **{name: given})
    stage, key = name.split("__")
    found = getattr(getattr(parameters.read(PipelineConfig), stage), key)
    assert (found, type(found)) == (read, type(read))


@pytest.mark.parametrize(
    ("name", "given", "says"),
    [
        ("detector__min_score", 7.5, "parameter detector.min_score: expected 0.0 to 1.0, got 7.5"),
        ("detector__min_score", 7, "parameter detector.min_score: expected 0.0 to 1.0, got 7"),
        ("detector__min_score", "high", "parameter detector.min_score: expected float, got 'high'"),
        ("tracker__min_hits", 0, "parameter tracker.min_hits: expected 1 to 100, got 0"),
        ("tracker__min_hits", 2.5, "parameter tracker.min_hits: expected int, got 2.5"),
        ("tracker__min_hits", True, "parameter tracker.min_hits: expected int, got True"),
        (
            "image_qos",
            "best",
            "parameter image_qos: expected sensor_data, default or reliable_latest",
        ),
        ("image_transport", "h264", "parameter image_transport: expected raw or compressed, got"),
        ("source", "radar", "parameter source: expected camera or ros4hri, got 'radar'"),
        ("humans_prefix", "/9", "parameter humans_prefix: expected a name such as '/humans', got"),
        ("humans_prefix", "humans", "parameter humans_prefix: expected a name such as '/humans'"),
        ("humans_prefix", "/a/", "parameter humans_prefix: expected a name such as '/humans', got"),
        ("cameras", ["front", "a b"], "parameter cameras: expected different names such as ['fr"),
        ("cameras", ["eye", "eye"], "parameter cameras: expected different names such as ['front'"),
        ("cameras", ["front", ""], "parameter cameras: expected different names such as ['front'"),
        ("cameras", [1, 2], "parameter cameras: expected different names such as ['front', 'rear"),
        ("cameras", "front", "parameter cameras: expected different names such as ['front', 'rea"),
        ("id_prefix", "", "parameter id_prefix: expected a name such as 'f', got ''"),
        ("id_prefix", "9", "parameter id_prefix: expected a name such as 'f', got '9'"),
        ("id_prefix", "a__b", "parameter id_prefix: expected a name such as 'f', got 'a__b'"),
        ("label_map", "happy", "parameter label_map: expected emotion:name with one of neutral, h"),
        ("label_map", "fear:", "parameter label_map: expected emotion:name with one of neutral, h"),
        ("label_map", "happy:joy", "parameter label_map: expected emotion:name with one of neutr"),
        ("label_map", "fear:anger", "parameter label_map: two emotions have the same name, got"),
        ("image_timeout_s", -1.0, "parameter image_timeout_s: expected 0.0 to 3600.0, got -1.0"),
        ("autostart", "maybe", "parameter autostart: expected bool, got 'maybe'"),
    ],
)
def test_a_bad_value_is_told_when_it_is_read(ros, name, given, says):
    node, parameters = make(ros, **{name: given})
    kind = PipelineConfig if "__" in name else NodeConfig
    with pytest.raises(ValueError) as caught:
        parameters.read(kind)
    assert str(caught.value).startswith(says)
    assert "\n" not in str(caught.value)
    # and can be mended
    dotted_name = name.replace("__", ".")
    default = as_parameter(dict(dotted(kind))[dotted_name].default)
    (result,) = node.set_parameters([Parameter(dotted_name, value=default)])
    assert result.successful, result.reason
    assert parameters.read(kind) == kind()


def test_unknown_parameters_are_told_with_the_nearest_known_one(ros, capfd):
    node, _ = make(ros, detector__min_scor=0.3, zzz=1, use_sim_time=False)
    told = capfd.readouterr().err
    assert "unknown parameter 'detector.min_scor' is ignored; did you mean 'detector.min_sc" in told
    assert "unknown parameter 'zzz' is ignored; known: source, cameras, image_transport" in told
    assert told.count("unknown parameter") == 2
    assert not node.has_parameter("zzz")


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("detector.min_score", 0.9, ""),
        ("detector.min_score", 1, ""),
        ("detector.min_score", 1.5, "out of range"),
        ("detector.min_score", 2, "parameter detector.min_score: expected 0.0 to 1.0, got 2"),
        ("image_qos", "reliable_latest", ""),
        ("image_qos", "mine", "parameter image_qos: expected sensor_data, default or reliable_lat"),
        ("log_path", "notes.jsonl", "read-only"),
        ("label_map", "fear:scared, disgust:disgusted", ""),
        ("label_map", "hapiness:joy", "got 'hapiness:joy'"),
        ("privacy", False, "privacy: can be switched on but not off; start the node with privacy"),
        ("privacy", True, ""),
    ],
)
def test_setting_before_it_is_configured(ros, name, value, reason):
    node, _ = make(ros)
    (result,) = node.set_parameters([Parameter(name, value=value)])
    assert result.successful == (not reason)
    assert reason in result.reason


@pytest.mark.parametrize(
    ("given", "heard", "reason"),
    [
        ({}, None, ""),
        ({"use_sim_time": True}, None, ""),  # of every node
        ({"detector.min_score": 0.9}, {"detector.min_score": 0.9}, ""),
        ({"smoother.min_dwell_s": 1}, {"smoother.min_dwell_s": 1.0}, ""),
        ({"smoother.min_dwell_s": -1}, None, "smoother.min_dwell_s: expected 0.0 to 60.0, got -1"),
        ({"publish_humans": False}, {"publish_humans": False}, ""),
        ({"classifier.threads": 2}, None, "classifier.threads: can be set while the node is unco"),
        ({"detector.model_path": "a"}, None, "detector.model_path: can be set while the node is"),
        ({"source": "ros4hri"}, None, "source: can be set while the node is unconfigured; clean"),
        (
            {"quality.min_score": 0.1, "quality.min_size_px": 9, "tracker.min_hits": 1},
            {"quality.min_score": 0.1, "quality.min_size_px": 9.0, "tracker.min_hits": 1},
            "",
        ),
        ({"quality.min_score": 0.1, "label_map": "fear:a"}, None, "label_map: can be set while"),
    ],
)
def test_setting_while_they_are_in_use(ros, given, heard, reason):
    """The listener can read the new ones, which are those that were set in the end."""
    found = []

    def note(changes):
        found.append([parameters.read(kind, changes) for kind in KINDS])

    def node(**arguments):
        return Node("subject", automatically_declare_parameters_from_overrides=True, **arguments)

    made = ros.node(node)
    parameters = Parameters(made, *KINDS, on_change=note)
    parameters.locked = True
    result = made.set_parameters_atomically(
        [Parameter(name, value=value) for name, value in given.items()]
    )
    assert (result.successful, reason in result.reason) == (not reason, True)
    before = [kind() for kind in KINDS]
    after = [parameters.read(kind) for kind in KINDS]
    assert found == ([after] if heard else [])
    assert (after != before) == bool(heard)
    values = {name: value for name, value in given.items() if heard}
    assert {name: made.get_parameter(name).value for name in values} == values


def shipped_text():
    """What the parameter file of the package has to say: every parameter as it is by itself."""
    lines = [
        "# All parameters of emotion_node, each with its default: change what does not suit.",
        "# Ranges: ros2 param describe /emotion_node detector.min_score",
        "/**:",
        "  ros__parameters:",
    ]
    stage = ""
    for name, item in (pair for kind in KINDS for pair in dotted(kind)):
        *group, key = name.split(".")
        if group and group[0] != stage:
            stage = group[0]
            lines.append(f"    {stage}:")
        indent = "      " if group else "    "
        lines.append(f"{indent}{key}: {json.dumps(item.default)}  # {item.metadata['about']}")
    return "\n".join(lines) + "\n"


def test_the_shipped_file_has_all_parameters_as_they_are_by_themselves(ros):
    assert (ROOT / "config/fer.yaml").read_text() == shipped_text()
    (settings,) = yaml.safe_load(shipped_text()).values()
    given = {}
    for name, value in settings["ros__parameters"].items():
        group = {f"{name}__{key}": value[key] for key in value} if isinstance(value, dict) else {}
        given |= group or {name: value}
    _, parameters = make(ros, **given)
    assert parameters.read(NodeConfig) == NodeConfig()
    assert parameters.read(PipelineConfig) == PipelineConfig()


def test_the_readme_says_which_ones_change_while_they_are_in_use(ros):
    """It names groups with a star, and single ones."""
    node, parameters = make(ros, privacy=False)
    parameters.locked = True
    live = set()
    for name, item in (pair for kind in KINDS for pair in dotted(kind)):
        (result,) = node.set_parameters([Parameter(name, value=as_parameter(item.default))])
        assert result.successful or result.reason
        live |= {name} if result.successful else set()
    (sentence,) = [
        line
        for line in (ROOT / "README.md").read_text().splitlines()
        if "while the node runs" in line
    ]
    said = re.findall(r"`([\w.*]+)`", sentence.split("while the node runs")[0])
    named = {name for pattern in said for name in fnmatch.filter(NAMES, pattern)}
    assert live == named
