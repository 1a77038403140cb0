"""How the process of a node ends."""

import signal

import pytest
import rclpy
from rclpy.node import Node
from ros_tools import LIMIT_S, graph

from fer_ros.ros.local import free_domain
from fer_ros.ros.process import NodeProcess, ros, spin

SIGNALS = [signal.SIGINT, signal.SIGTERM]


@pytest.fixture(autouse=True)
def own_domain(monkeypatch):
    monkeypatch.setenv("ROS_DOMAIN_ID", str(free_domain()))


def test_without_a_signal_nothing_has_ended():
    before = [signal.getsignal(each) for each in SIGNALS]
    with ros([]) as ended:
        assert rclpy.ok()
        assert not ended.is_set()
    assert not rclpy.ok()
    assert [signal.getsignal(each) for each in SIGNALS] == before


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_asks_for_the_end_and_others_are_ignored_from_then_on(number):
    before = {each: signal.getsignal(each) for each in SIGNALS}
    try:
        with ros([]) as ended:
            signal.raise_signal(number)
            assert ended.is_set()
            assert rclpy.ok()  # nodes can still say goodbye
        assert not rclpy.ok()
        for each in SIGNALS:
            signal.raise_signal(each)
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


@pytest.mark.parametrize(
    "arguments",
    [
        ["-p", "no_value"],
        ["-r", "nothing"],
        ["--no-such-argument"],
        ["--params-file", "none.yaml"],
        ["--log-level", "loud"],
    ],
)
def test_arguments_that_are_none_end_it_with_one_line(arguments):
    before = [signal.getsignal(each) for each in SIGNALS]
    with pytest.raises(SystemExit) as ended, ros(["--ros-args", *arguments]):
        pytest.fail("it runs")
    assert arguments[-1] in ended.value.code
    assert "\n" not in ended.value.code
    assert [signal.getsignal(each) for each in SIGNALS] == before


def test_spinning_ends_when_it_is_over():
    calls = []
    with ros([]):
        node = rclpy.create_node("subject")
        node.create_timer(0.001, lambda: calls.append(1))
        spin(node, lambda: len(calls) == 3)
        node.destroy_node()
    assert len(calls) == 3


def test_spinning_raises_what_a_callback_raises():
    def fail():
        raise KeyError("unforeseen")

    with ros([]):
        node = rclpy.create_node("subject")
        node.create_timer(0.001, fail)
        with pytest.raises(KeyError, match="unforeseen"):
            spin(node, lambda: False)
        node.destroy_node()


@pytest.mark.parametrize(
    ("module", "given", "says"),
    [
        ("camera", "no_value", "no_value"),
        ("node", "no_value", "no_value"),
        ("node", "cameras:=[]", "PARAMETER_NOT_SET; is one of them []?"),
    ],
)
def test_a_process_with_wrong_arguments_ends_without_a_trace(tmp_path, module, given, says):
    with graph() as nodes:
        log = tmp_path / "log"
        process = nodes.process(f"fer_ros.ros.{module}", log, "--ros-args", "-p", given)
        nodes.until(lambda: process.poll() is not None, "the process has ended", 2 * LIMIT_S)
    assert process.returncode == 1
    said = log.read_text()
    assert says in said.splitlines()[-1]
    assert "Traceback" not in said


def test_a_process_whose_node_has_no_model_waits_for_a_better_one(tmp_path):
    arguments = ["--ros-args", "-p", "classifier.model:=nobody"]
    with graph() as nodes:
        log = tmp_path / "log"
        process = nodes.process("fer_ros.ros.node", log, *arguments)
        nodes.node(Node, "watcher")
        nodes.until(lambda: "configure and activate it" in log.read_text(), "it waits", 4 * LIMIT_S)
        assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        nodes.until(lambda: process.poll() is not None, "the process has ended")
    assert process.returncode == 0
    assert "Traceback" not in log.read_text()
    assert "cannot be configured: unknown model 'nobody'; " in log.read_text()


def test_no_moment_of_the_end_is_without_a_handler(monkeypatch):
    """rclpy would take back handlers that it never installed: a signal then ends the process."""
    before = [signal.getsignal(each) for each in SIGNALS]
    taken_back = []
    monkeypatch.setattr(rclpy, "uninstall_signal_handlers", lambda: taken_back.append(True))
    try:
        with ros([]) as ended:
            for _ in range(2):
                signal.raise_signal(signal.SIGINT)
            assert ended.is_set()
        assert not taken_back
        assert [signal.getsignal(each) for each in SIGNALS] == [signal.SIG_IGN] * 2
    finally:
        for number, handler in zip(SIGNALS, before, strict=True):
            signal.signal(number, handler)


@pytest.mark.parametrize(
    ("module", "ready", "arguments"),
    [
        ("camera", "is shown on", ["--ros-args", "-p", "loop:=true"]),
        ("node", "active, waiting", []),
    ],
)
def test_many_signals_end_a_process_like_one(tmp_path, module, ready, arguments):
    """They come until it has ended, into every part of its end; several processes, one graph."""
    with graph() as nodes:
        nodes.node(Node, "watcher")
        logs = [tmp_path / f"log_{number}" for number in range(4)]
        processes = [nodes.process(f"fer_ros.ros.{module}", log, *arguments) for log in logs]
        nodes.until(
            lambda: all(ready in log.read_text() for log in logs), "all are up", 4 * LIMIT_S
        )

        def have_ended() -> bool:
            for process in processes:
                process.send_signal(signal.SIGINT)
            return all(process.poll() is not None for process in processes)

        nodes.until(have_ended, "all have ended")
    assert [process.returncode for process in processes] == [0] * len(processes)
    assert not [log for log in logs if "Traceback" in log.read_text()]


@pytest.mark.parametrize(
    ("source", "code", "says"),
    [
        ("no/such.png", 1, "no/such.png: no such file or folder"),
        ("sample", None, "sample is shown on "),
    ],
)
def test_a_process_from_outside(tmp_path, source, code, says):
    with graph() as nodes:
        nodes.node(Node, "watcher")
        with NodeProcess("camera", tmp_path, source=source, loop=True) as process:
            nodes.until(lambda: says in process.last_words(), says, 4 * LIMIT_S)
            nodes.until(lambda: process.exit_code() == code, "its end, or none")
        assert process.exit_code() == (code or 0)
    assert says in (tmp_path / "camera.log").read_text()


def test_a_process_that_begins_after_ctrl_c_ends_soon(tmp_path):
    """It inherits that signals are ignored, and hears none before its first line."""
    before = {each: signal.getsignal(each) for each in SIGNALS}
    try:
        with ros([]):
            signal.raise_signal(signal.SIGINT)
            with NodeProcess("node", tmp_path) as process:
                pass
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
    assert process.exit_code() == -signal.SIGINT
    assert (tmp_path / "node.log").read_text() == ""
