"""The notice on personal data, where the message for it is installed."""

import sys
from dataclasses import make_dataclass
from importlib.machinery import ModuleSpec
from types import ModuleType

import pytest
from rclpy.parameter import Parameter
from ros_tools import graph_of_a_test, quick_pipeline

from fer_ros.ros.node import EmotionNode
from fer_ros.ros.parameters import NodeConfig
from fer_ros.ros.privacy import is_installed, purpose

# As hri_privacy_msgs 1.2.0 defines it: all four are strings.
FIELDS = ("data_source_node", "user_friendly_source_name", "data_purpose", "path")


ros = graph_of_a_test


class Subject(EmotionNode):
    """Keeps its notices: a message of the test's own has no way over DDS."""

    def __init__(self, **arguments):
        self.notices, self.has_publisher = [], False
        super().__init__(quick_pipeline(), **arguments)

    def create_publisher(self, kind, topic, qos, **arguments):
        if topic != "/data_management":
            return super().create_publisher(kind, topic, qos, **arguments)
        self.has_publisher = True
        assert qos.durability.name == "TRANSIENT_LOCAL"
        return self

    def publish(self, message):
        self.notices.append(message)

    def destroy_publisher(self, publisher):
        if publisher is not self:
            return super().destroy_publisher(publisher)
        self.has_publisher = False
        return True


@pytest.fixture
def installed(monkeypatch):
    package, messages = ModuleType("hri_privacy_msgs"), ModuleType("hri_privacy_msgs.msg")
    package.__spec__ = ModuleSpec("hri_privacy_msgs", None)
    messages.PersonalDataProcessor = make_dataclass("PersonalDataProcessor", FIELDS)
    for module in (package, messages):
        monkeypatch.setitem(sys.modules, module.__name__, module)


@pytest.mark.skipif(is_installed(), reason="hri_privacy_msgs is installed")
def test_without_the_message_there_is_no_notice(ros):
    node = ros.node(Subject)
    node.start()
    assert (node.has_publisher, node.notices) == (False, [])


def test_the_notice_lasts_from_configuration_to_cleanup(ros, installed):
    node = ros.node(Subject)
    assert not node.has_publisher
    for life in (1, 2):
        node.trigger_configure()
        assert node.has_publisher
        node.trigger_activate()
        node.trigger_deactivate()
        assert len(node.notices) == life
        node.trigger_cleanup()
        assert not node.has_publisher
    (notice, other) = node.notices
    assert notice == other
    assert notice.data_source_node == "/emotion_node"
    assert notice.data_purpose == purpose(NodeConfig())
    assert notice.path == ""


def test_the_notice_follows_the_settings(ros, installed, tmp_path):
    path = str(tmp_path / "log.jsonl")
    node = ros.node(Subject, publish_images=True, results_log_path=path)
    node.trigger_configure()
    assert node.set_parameters([Parameter("publish_images", value=False)])[0].successful
    shown, kept_back = node.notices
    assert shown.data_purpose == purpose(NodeConfig(publish_images=True, results_log_path=path))
    assert kept_back.data_purpose == purpose(NodeConfig(results_log_path=path))
    assert (shown.path, kept_back.path) == (path, path)


@pytest.mark.parametrize(
    ("settings", "says", "never_says"),
    [
        ({}, ["No image leaves", "No results are stored"], ["are sent", "in a file"]),
        (
            {"publish_images": True},
            ["Images of faces are sent", "No results are stored"],
            ["No image leaves"],
        ),
        (
            {"results_log_path": "log.jsonl"},
            ["No image leaves", "in a file"],
            ["No results are stored"],
        ),
    ],
)
def test_the_text_of_the_notice(settings, says, never_says):
    text = purpose(NodeConfig(**settings))
    assert [words for words in says if words not in text] == []
    assert [words for words in never_says if words in text] == []
