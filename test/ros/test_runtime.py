"""How the process of a node ends."""

import signal
import subprocess
import sys

import pytest
import rclpy
from rclpy.node import Node
from ros_tools import LIMIT_S, graph

from fer_ros.ros.runtime import NodeProcess, killed_by_signals, rclpy_context, spin_until
from fer_ros.ros.tools.isolated_domain import find_free_domain_id

SIGNALS = [signal.SIGINT, signal.SIGTERM]


@pytest.fixture(autouse=True)
def own_domain(monkeypatch):
    monkeypatch.setenv("ROS_DOMAIN_ID", str(find_free_domain_id()))


def test_without_a_signal_the_event_is_not_set():
    before = [signal.getsignal(number) for number in SIGNALS]
    with rclpy_context([]) as ended:
        assert rclpy.ok()
        assert not ended.is_set()
    assert not rclpy.ok()
    assert [signal.getsignal(number) for number in SIGNALS] == before


@pytest.mark.parametrize("number", SIGNALS)
def test_the_first_signal_sets_the_event_and_others_are_ignored(number):
    before = {number: signal.getsignal(number) for number in SIGNALS}
    try:
        with rclpy_context([]) as ended:
            signal.raise_signal(number)
            assert ended.is_set()
            assert rclpy.ok()  # nodes can still say goodbye
        assert not rclpy.ok()
        for signal_number in SIGNALS:
            signal.raise_signal(signal_number)
    finally:
        for signal_number, handler in before.items():
            signal.signal(signal_number, handler)


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
def test_invalid_ros_arguments_exit_with_one_line(arguments):
    before = [signal.getsignal(number) for number in SIGNALS]
    with pytest.raises(SystemExit) as ended, rclpy_context(["--ros-args", *arguments]):
        pytest.fail("it runs")
    assert arguments[-1] in ended.value.code
    assert "\n" not in ended.value.code
    assert [signal.getsignal(number) for number in SIGNALS] == before


def test_spinning_ends_when_the_condition_holds():
    calls = []
    with rclpy_context([]):
        node = rclpy.create_node("subject")
        node.create_timer(0.001, lambda: calls.append(1))
        spin_until(node, lambda: len(calls) == 3)
        node.destroy_node()
    assert len(calls) == 3


def test_spinning_propagates_callback_exceptions():
    def fail():
        raise KeyError("unforeseen")

    with rclpy_context([]):
        node = rclpy.create_node("subject")
        node.create_timer(0.001, fail)
        with pytest.raises(KeyError, match="unforeseen"):
            spin_until(node, lambda: False)
        node.destroy_node()


@pytest.mark.parametrize(
    ("module", "given", "says"),
    [
        ("media_publisher", "no_value", "no_value"),
        ("emotion_node", "no_value", "no_value"),
        ("emotion_node", "cameras:=[]", "PARAMETER_NOT_SET; a value such as [] has no type"),
    ],
)
def test_a_process_with_wrong_arguments_prints_no_traceback(tmp_path, module, given, says):
    with graph() as nodes:
        log = tmp_path / "log"
        process = nodes.process("fer_ros.entry_points", log, module, "--ros-args", "-p", given)
        nodes.until(lambda: process.poll() is not None, "the process has ended", 2 * LIMIT_S)
    assert process.returncode == 1
    output = log.read_text()
    assert says in output.splitlines()[-1]
    assert "Traceback" not in output


def test_a_node_without_a_model_stays_unconfigured(tmp_path):
    arguments = ["--ros-args", "-p", "classifier.model:=unknown_model"]
    with graph() as nodes:
        log = tmp_path / "log"
        process = nodes.process("fer_ros.entry_points", log, "emotion_node", *arguments)
        nodes.node(Node, "observer")
        nodes.until(
            lambda: "configure and activate the node" in log.read_text(), "it waits", 4 * LIMIT_S
        )
        assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        nodes.until(lambda: process.poll() is not None, "the process has ended")
    assert process.returncode == 0
    assert "Traceback" not in log.read_text()
    assert "cannot be configured: unknown model 'unknown_model'; " in log.read_text()


def test_signals_are_handled_during_the_whole_shutdown(monkeypatch):
    """rclpy would take back handlers that it never installed: a signal then ends the process."""
    before = [signal.getsignal(number) for number in SIGNALS]
    taken_back = []
    monkeypatch.setattr(rclpy, "uninstall_signal_handlers", lambda: taken_back.append(True))
    try:
        with rclpy_context([]) as ended:
            for _ in range(2):
                signal.raise_signal(signal.SIGINT)
            assert ended.is_set()
        assert not taken_back
        assert [signal.getsignal(number) for number in SIGNALS] == [signal.SIG_IGN] * 2
    finally:
        for number, handler in zip(SIGNALS, before, strict=True):
            signal.signal(number, handler)


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_ends_the_loading_of_models_at_once(number):
    program = (
        "import signal, time\n"
        "from fer_ros.ros.runtime import killed_by_signals, rclpy_context\n"
        "with rclpy_context([]), killed_by_signals():\n"
        f"    signal.raise_signal({int(number)})\n"
        "    time.sleep(60)\n"
    )
    process = subprocess.run([sys.executable, "-c", program], capture_output=True, timeout=LIMIT_S)
    assert process.returncode == -number
    assert b"Traceback" not in process.stderr


def test_signals_are_handled_as_before_after_loading():
    before = [signal.getsignal(number) for number in SIGNALS]
    with killed_by_signals():
        assert [signal.getsignal(number) for number in SIGNALS] == [signal.SIG_DFL] * 2
    assert [signal.getsignal(number) for number in SIGNALS] == before


@pytest.mark.parametrize(
    ("module", "ready", "arguments"),
    [
        ("media_publisher", "publishing sample on", ["--ros-args", "-p", "loop:=true"]),
        ("emotion_node", "active, waiting", []),
    ],
)
def test_many_signals_end_a_process_like_one(tmp_path, module, ready, arguments):
    """They come until it has ended, into every part of its end; several processes, one graph."""
    with graph() as nodes:
        nodes.node(Node, "observer")
        logs = [tmp_path / f"log_{number}" for number in range(4)]
        processes = [nodes.process("fer_ros.entry_points", log, module, *arguments) for log in logs]
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
        ("sample", None, "publishing sample on "),
    ],
)
def test_a_process_from_outside(tmp_path, source, code, says):
    with graph() as nodes:
        nodes.node(Node, "observer")
        with NodeProcess("media_publisher", tmp_path, source=source, loop=True) as process:
            nodes.until(lambda: says in process.last_error_line(), says, 4 * LIMIT_S)
            nodes.until(lambda: process.exit_code() == code, "its end, or none")
        assert process.exit_code() == (code or 0)
    assert says in (tmp_path / "media_publisher.log").read_text()


def test_a_process_started_after_ctrl_c_ends(tmp_path):
    """It inherits that signals are ignored, and hears none before its first line."""
    before = {number: signal.getsignal(number) for number in SIGNALS}
    try:
        with rclpy_context([]):
            signal.raise_signal(signal.SIGINT)
            with NodeProcess("emotion_node", tmp_path) as process:
                pass
    finally:
        for signal_number, handler in before.items():
            signal.signal(signal_number, handler)
    assert process.exit_code() == -signal.SIGINT
    assert (tmp_path / "emotion_node.log").read_text() == ""
