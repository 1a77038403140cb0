"""Parameters made of dataclasses."""

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


def test_nothing_set_gives_the_defaults(ros):
    _, parameters = make(ros)
    assert parameters.read(NodeConfig) == NodeConfig()
    assert parameters.read(PipelineConfig) == PipelineConfig()


def test_every_setting_is_a_parameter_with_text_and_range(ros):
    node, _ = make(ros)
    for kind in KINDS:
        for name, item in dotted(kind):
            descriptor = node.describe_parameter(name)
            assert node.get_parameter(name).value == item.default
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
        ("image_qos", "best", "parameter image_qos: expected sensor_data or reliable, got 'best'"),
        ("image_transport", "h264", "parameter image_transport: expected raw or compressed, got"),
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
    default = dict(dotted(kind))[dotted_name].default
    (result,) = node.set_parameters([Parameter(dotted_name, value=default)])
    assert result.successful, result.reason
    assert parameters.read(kind) == kind()


def test_unknown_parameters_are_told_with_the_nearest_known_one(ros, capfd):
    node, _ = make(ros, detector__min_scor=0.3, zzz=1, use_sim_time=False)
    told = capfd.readouterr().err
    assert "unknown parameter 'detector.min_scor' is ignored; did you mean 'detector.min_sc" in told
    assert "unknown parameter 'zzz' is ignored; known: image_transport, image_qos" in told
    assert told.count("unknown parameter") == 2
    assert not node.has_parameter("zzz")


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("detector.min_score", 0.9, ""),
        ("detector.min_score", 1, ""),
        ("detector.min_score", 1.5, "out of range"),
        ("detector.min_score", 2, "parameter detector.min_score: expected 0.0 to 1.0, got 2"),
        ("image_qos", "reliable", ""),
        ("image_qos", "mine", "parameter image_qos: expected sensor_data or reliable, got 'mine'"),
        ("log_path", "notes.jsonl", "read-only"),
    ],
)
def test_setting_while_running(ros, name, value, reason):
    node, _ = make(ros)
    (result,) = node.set_parameters([Parameter(name, value=value)])
    assert result.successful == (not reason)
    assert reason in result.reason


def test_locked_parameters_stay_and_those_of_others_do_not_care(ros):
    node, parameters = make(ros)
    parameters.locked = True
    (result,) = node.set_parameters([Parameter("detector.min_score", value=0.9)])
    assert "detector.min_score: can be set while the node is unconfigured" in result.reason
    (result,) = node.set_parameters([Parameter("use_sim_time", value=True)])
    assert result.successful
    parameters.locked = False
    (result,) = node.set_parameters([Parameter("detector.min_score", value=0.9)])
    assert result.successful
    assert parameters.read(PipelineConfig).detector.min_score == 0.9


def test_the_shipped_file_names_known_parameters_and_changes_them():
    (settings,) = yaml.safe_load((ROOT / "config/fer.yaml").read_text()).values()
    known = {name: item.default for kind in KINDS for name, item in dotted(kind)}
    given = {
        f"{stage}.{key}": value
        for stage, keys in settings["ros__parameters"].items()
        for key, value in keys.items()
    }
    assert given
    for name, value in given.items():
        assert type(value) is type(known[name])
        assert value != known[name], f"{name}: is the default"
