"""Parameters made of dataclasses."""

import json
from dataclasses import fields, is_dataclass

import pytest
import yaml
from rclpy.node import Node
from rclpy.parameter import Parameter
from ros_tools import graph
from tree import ROOT

from fer_ros.config import PipelineConfig
from fer_ros.ros.parameters import NodeConfig, Parameters, is_dynamic

KINDS = (NodeConfig, PipelineConfig)


@pytest.fixture(scope="module")
def ros():
    with graph() as opened:
        yield opened


def make(ros, **parameters):
    """A node and its parameters, of which these are set from outside."""

    def node(**arguments):
        return Node("subject", automatically_declare_parameters_from_overrides=True, **arguments)

    node_under_test = ros.node(node, **parameters)
    return node_under_test, Parameters(node_under_test, *KINDS)


def dotted(kind, prefix=""):
    for item in fields(kind):
        if is_dataclass(item.default_factory):
            yield from dotted(item.default_factory, f"{prefix}{item.name}.")
        else:
            yield prefix + item.name, item


def as_parameter(value):
    return [*value] if isinstance(value, tuple) else value


def another(item):
    """A valid value that is not the default."""
    if isinstance(item.default, bool):
        return False if item.metadata.get("disable_only") else not item.default
    if isinstance(item.default, (int, float)):
        low, high = item.metadata["minimum"], item.metadata["maximum"]
        return type(item.default)(low if item.default != low else high)
    return OTHER_TEXTS.get(item.name, "other")


OTHER_TEXTS = {"cameras": ["front"], "image_qos": "default", "device": "cpu"}
NAMES = [name for kind in KINDS for name, _ in dotted(kind)]


def test_unset_parameters_have_defaults(ros):
    _, parameters = make(ros)
    assert parameters.read(NodeConfig) == NodeConfig()
    assert parameters.read(PipelineConfig) == PipelineConfig()


def test_every_setting_is_a_parameter_with_text_and_range(ros):
    node, _ = make(ros)
    for kind in KINDS:
        for name, item in dotted(kind):
            descriptor = node.describe_parameter(name)
            assert node.get_parameter(name).value == as_parameter(item.default)
            assert descriptor.description == item.metadata["description"]
            spans = [*descriptor.integer_range, *descriptor.floating_point_range]
            expected = (item.metadata.get("minimum"), item.metadata.get("maximum"))
            assert [(span.from_value, span.to_value) for span in spans] == (
                [] if expected == (None, None) else [expected]
            )


@pytest.mark.parametrize(
    ("name", "given", "read"),
    [
        ("detector__score_threshold", 0.25, 0.25),
        ("detector__score_threshold", 1, 1.0),
        ("tracker__min_hits", 7, 7),
        ("classifier__model", "other", "other"),
        ("classifier__model", 5, "5"),
    ],
)
def test_set_parameters_are_read(ros, name, given, read):
    _, parameters = make(ros, **{name: given})
    stage, key = name.split("__")
    value = getattr(getattr(parameters.read(PipelineConfig), stage), key)
    assert (value, type(value)) == (read, type(read))


@pytest.mark.parametrize(
    ("name", "given", "says"),
    [
        (
            "detector__score_threshold",
            7.5,
            "parameter detector.score_threshold: expected 0.0 to 1.0, found 7.5",
        ),
        (
            "detector__score_threshold",
            7,
            "parameter detector.score_threshold: expected 0.0 to 1.0, found 7",
        ),
        (
            "detector__score_threshold",
            "high",
            "parameter detector.score_threshold: expected float, found 'high'",
        ),
        ("tracker__min_hits", 0, "parameter tracker.min_hits: expected 1 to 100, found 0"),
        ("tracker__min_hits", 2.5, "parameter tracker.min_hits: expected int, found 2.5"),
        ("tracker__min_hits", True, "parameter tracker.min_hits: expected int, found True"),
        (
            "image_qos",
            "best",
            "parameter image_qos: expected sensor_data, reliable or default",
        ),
        ("image_transport", "h264", "parameter image_transport: expected raw or compressed, found"),
        (
            "input_source",
            "radar",
            "parameter input_source: expected camera or ros4hri, found 'radar'",
        ),
        (
            "hri_namespace",
            "/9",
            "parameter hri_namespace: expected a name such as '/humans', found",
        ),
        ("hri_namespace", "", "parameter hri_namespace: expected a name such as '/humans'"),
        (
            "hri_namespace",
            "/a/",
            "parameter hri_namespace: expected a name such as '/humans', found",
        ),
        ("cameras", ["front", "a b"], "parameter cameras: expected different names such as ['fr"),
        ("cameras", ["eye", "eye"], "parameter cameras: expected different names such as ['front'"),
        ("cameras", ["front", ""], "parameter cameras: expected different names such as ['front'"),
        ("cameras", [1, 2], "parameter cameras: expected different names such as ['front', 'rear"),
        ("cameras", "front", "parameter cameras: expected different names such as ['front', 'rea"),
        ("id_prefix", "", "parameter id_prefix: expected a name such as 'f', found ''"),
        ("id_prefix", "9", "parameter id_prefix: expected a name such as 'f', found '9'"),
        ("id_prefix", "a__b", "parameter id_prefix: expected a name such as 'f', found 'a__b'"),
        ("label_map", "happy", "parameter label_map: expected emotion:name with one of neutral, h"),
        ("label_map", "fear:", "parameter label_map: expected emotion:name with one of neutral, h"),
        ("label_map", "happy:joy", "parameter label_map: expected emotion:name with one of neutr"),
        ("label_map", "fear:anger", "parameter label_map: two emotions have the same name, found"),
        ("image_timeout_s", -1.0, "parameter image_timeout_s: expected 0.0 to 3600.0, found -1.0"),
        ("autostart", "maybe", "parameter autostart: expected bool, found 'maybe'"),
    ],
)
def test_an_invalid_value_is_reported_when_it_is_read(ros, name, given, says):
    node, parameters = make(ros, **{name: given})
    kind = PipelineConfig if "__" in name else NodeConfig
    with pytest.raises(ValueError) as caught:
        parameters.read(kind)
    assert str(caught.value).startswith(says)
    assert "\n" not in str(caught.value)
    # and can be fixed
    dotted_name = name.replace("__", ".")
    default = as_parameter(dict(dotted(kind))[dotted_name].default)
    (result,) = node.set_parameters([Parameter(dotted_name, value=default)])
    assert result.successful, result.reason
    assert parameters.read(kind) == kind()


def test_unknown_parameters_are_reported_with_the_nearest_known_one(ros, capfd):
    node, _ = make(ros, detector__score_treshold=0.3, zzz=1, use_sim_time=False)
    stderr = capfd.readouterr().err
    assert (
        "unknown parameter 'detector.score_treshold' is ignored; did you mean 'detector.score_th"
        in stderr
    )
    assert (
        "unknown parameter 'zzz' is ignored; known: input_source, cameras, image_transport"
        in stderr
    )
    assert stderr.count("unknown parameter") == 2
    assert not node.has_parameter("zzz")


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("detector.score_threshold", 0.9, ""),
        ("detector.score_threshold", 1, ""),
        ("detector.score_threshold", 1.5, "out of range"),
        (
            "detector.score_threshold",
            2,
            "out of range",
        ),
        ("image_qos", "reliable", ""),
        ("image_qos", "mine", "parameter image_qos: expected sensor_data, reliable or default"),
        ("results_log_path", "notes.jsonl", "read-only"),
        ("label_map", "fear:scared, disgust:disgusted", ""),
        ("label_map", "hapiness:joy", "found 'hapiness:joy'"),
        ("publish_images", True, "publish_images: can only be disabled; restart the node with"),
        ("publish_images", False, ""),
    ],
)
def test_parameters_can_be_set_while_unconfigured(ros, name, value, reason):
    node, _ = make(ros)
    (result,) = node.set_parameters([Parameter(name, value=value)])
    assert result.successful == (not reason)
    assert reason in result.reason


@pytest.mark.parametrize(
    ("given", "received", "reason"),
    [
        ({"use_sim_time": True}, None, ""),  # of every node
        ({"detector.score_threshold": 0.9}, {"detector.score_threshold": 0.9}, ""),
        ({"smoother.min_label_duration_s": 1}, {"smoother.min_label_duration_s": 1.0}, ""),
        (
            {"smoother.min_label_duration_s": -1},
            None,
            "out of range",
        ),
        ({"publish_humans": False}, {"publish_humans": False}, ""),
        (
            {"classifier.threads": 3},
            None,
            "classifier.threads: can only be set while the node is unco",
        ),
        ({"detector.model_path": "a"}, None, "detector.model_path: can only be set while the node"),
        ({"input_source": "ros4hri"}, None, "input_source: can only be set while"),
        (
            {"quality.min_score": 0.1, "quality.min_size_px": 9, "tracker.min_hits": 1},
            {"quality.min_score": 0.1, "quality.min_size_px": 9.0, "tracker.min_hits": 1},
            "",
        ),
        (
            {"quality.min_score": 0.1, "label_map": "fear:a"},
            None,
            "label_map: can only be set while",
        ),
    ],
)
def test_only_dynamic_parameters_can_be_set_while_configured(ros, given, received, reason):
    """The listener can read the new ones, which are those that were set in the end."""
    found = []

    def note(changes):
        found.append([parameters.read(kind, changes) for kind in KINDS])

    def node(**arguments):
        return Node("subject", automatically_declare_parameters_from_overrides=True, **arguments)

    node_under_test = ros.node(node)
    parameters = Parameters(node_under_test, *KINDS, on_change=note)
    parameters.locked = True
    result = node_under_test.set_parameters_atomically(
        [Parameter(name, value=value) for name, value in given.items()]
    )
    assert (result.successful, reason in result.reason) == (not reason, True)
    before = [kind() for kind in KINDS]
    after = [parameters.read(kind) for kind in KINDS]
    assert found == ([after] if received else [])
    assert (after != before) == bool(received)
    values = {name: value for name, value in given.items() if received}
    assert {name: node_under_test.get_parameter(name).value for name in values} == values


@pytest.mark.parametrize("given", [1, 0.5])
def test_a_fractional_parameter_keeps_its_type(ros, given):
    node, _ = make(ros, detector__score_threshold=given)
    assert node.get_parameter("detector.score_threshold").type_ == Parameter.Type.DOUBLE
    (result,) = node.set_parameters([Parameter("detector.score_threshold", value=0)])
    assert result.successful, result.reason
    assert node.get_parameter("detector.score_threshold").value == 0.0
    assert node.get_parameter("detector.score_threshold").type_ == Parameter.Type.DOUBLE


def test_a_parameter_dump_loads_back_into_a_running_node(ros):
    """Every parameter set to its present value, as ``ros2 param load`` does, one by one."""
    node, parameters = make(ros, results_log_path="notes.jsonl", publish_images=True, cameras=["a"])
    parameters.locked = True
    for name in NAMES:
        (result,) = node.set_parameters([node.get_parameter(name)])
        assert result.successful, result.reason
    (result,) = node.set_parameters([Parameter("results_log_path", value="others.jsonl")])
    assert result.reason == (
        "results_log_path: read-only; restart the node with results_log_path:=<value>"
    )


def shipped_text():
    """What the parameter file of the package has to say: every parameter as it is by itself."""
    lines = [
        "# All parameters of emotion_node, each with its default: change as needed.",
        "# Ranges: ros2 param describe /emotion_node detector.score_threshold",
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
        lines.append(f"{indent}{key}: {json.dumps(item.default)}  # {item.metadata['description']}")
    return "\n".join(lines) + "\n"


def test_the_shipped_file_has_all_parameters_with_their_defaults(ros):
    assert (ROOT / "config/fer.yaml").read_text() == shipped_text()
    (settings,) = yaml.safe_load(shipped_text()).values()
    given = {}
    for name, value in settings["ros__parameters"].items():
        group = {f"{name}__{key}": value[key] for key in value} if isinstance(value, dict) else {}
        given |= group or {name: value}
    _, parameters = make(ros, **given)
    assert parameters.read(NodeConfig) == NodeConfig()
    assert parameters.read(PipelineConfig) == PipelineConfig()


def test_dynamic_parameters_are_those_that_change_while_the_node_runs(ros):
    node, parameters = make(ros, publish_images=True)
    parameters.locked = True
    changed = set()
    for name, item in (pair for kind in KINDS for pair in dotted(kind)):
        (result,) = node.set_parameters([Parameter(name, value=another(item))])
        assert result.successful or result.reason
        changed |= {name} if result.successful else set()
    assert changed == {name for name in NAMES if is_dynamic(name)}
    assert {"smoother.switch_margin", "publish_images"} <= changed
    assert not {"cameras", "classifier.model", "results_log_path"} & changed
