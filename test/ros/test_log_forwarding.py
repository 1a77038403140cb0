"""Log messages of the library in the log of the node."""

import logging

import pytest
from rcl_interfaces.msg import Log
from rclpy.logging import LoggingSeverity
from rclpy.node import Node
from ros_tools import Listener, graph_of_a_test

from fer_ros.ros.log_forwarding import forwarded_library_logs

ros = graph_of_a_test


def test_messages_reach_rosout(ros):
    node = ros.node(Node, "emotion_node")
    messages = Listener(ros.node(Node, "console")).listen(Log, "/rosout")
    ros.until(lambda: node.count_subscribers("/rosout"), "the console")
    library = logging.getLogger("fer_ros.inference.backends.fallback")
    with forwarded_library_logs(node):
        for number in range(2):  # of every severity at each place, or rclpy would refuse the second
            library.debug("hidden %d", number)
            library.info("exporting %d", number)
            library.warning("out of memory\non cuda %d", number)
            library.error("broken %d", number)
    texts = ("exporting {}", "out of memory on cuda {}", "broken {}")
    expected = [
        (severity, text.format(number))
        for number in range(2)
        for severity, text in zip(("INFO", "WARN", "ERROR"), texts, strict=True)
    ]

    def received():
        of_node = [message for message in messages if message.name == "emotion_node"]
        return [(LoggingSeverity(message.level).name, message.msg) for message in of_node]

    ros.until(lambda: len(received()) >= len(expected), "all messages")
    assert received() == expected


def test_the_library_logs_as_before_afterwards(ros, caplog):
    library = logging.getLogger("fer_ros")
    before = (library.level, library.propagate, [*library.handlers])
    with pytest.raises(KeyError), forwarded_library_logs(ros.node(Node, "emotion_node")):
        raise KeyError
    assert (library.level, library.propagate, [*library.handlers]) == before
    logging.getLogger("fer_ros.io").warning("as before")
    assert "as before" in caplog.text
