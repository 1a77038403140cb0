"""Process of a node: signals, spinning, and child processes with their exit codes."""

import json
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import FrameType

import rclpy
import rclpy.utilities
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions

from fer_ros.io.errors import format_os_error

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_POLL_INTERVAL_S = 0.2
_STOP_TIMEOUT_S = 10.0
_LOG_PREFIX = re.compile(r"^\[[A-Z]+\] \[[\d.]+\] \[[\w.]+\]: ")


@contextmanager
def rclpy_context(args: list[str] | None) -> Iterator[threading.Event]:
    """Initialize rclpy; the yielded event is set by SIGINT and SIGTERM.

    rclpy's own signal handlers would shut the middleware down while nodes still publish. After the
    first signal all others are ignored until the process ends: Ctrl-C in a shell that runs
    ``ros2 launch`` sends two, and the second must not hit an interpreter that is shutting down.
    Exits with one line when the ROS arguments are invalid.
    """
    stop_requested = threading.Event()
    signaled = False

    def on_signal(*_: int | FrameType | None) -> None:
        nonlocal signaled
        if not signaled:  # a signal in the middle of set() would deadlock
            signaled = True
            stop_requested.set()

    previous = {number: signal.signal(number, on_signal) for number in _SIGNALS}

    def restore() -> None:
        # a signal between two handlers would end the process with a traceback
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        for number, handler in previous.items():
            signal.signal(number, signal.SIG_IGN if signaled else handler)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)

    with ExitStack() as undo:
        undo.callback(restore)
        try:
            rclpy.init(args=args, signal_handler_options=SignalHandlerOptions.NO)
        except RuntimeError as error:  # the base class of rclpy's errors
            sys.exit(format_os_error(error))
        # not rclpy.try_shutdown: it uninstalls signal handlers that were never installed
        undo.callback(rclpy.utilities.try_shutdown)
        yield stop_requested


@contextmanager
def killed_by_signals() -> Iterator[None]:
    """Within this context SIGINT and SIGTERM end the process at once.

    For steps that take minutes and cannot be interrupted, such as building a TensorRT engine. Main
    thread only.
    """
    previous = {number: signal.signal(number, signal.SIG_DFL) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def spin_until(node: Node, is_done: Callable[[], bool]) -> None:
    """Spin the node until ``is_done()``. Exceptions of its callbacks propagate."""
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    try:
        while not is_done():
            executor.spin_once(timeout_sec=_POLL_INTERVAL_S)
    finally:
        executor.remove_node(node)
        executor.shutdown()


class NodeProcess:
    """A program of this package in a child process that ends with the context.

    ``program`` is one of ``fer_ros.entry_points``; its output goes to ``<program>.log`` in
    ``folder``.
    """

    def __init__(self, program: str, folder: Path, **parameters: str | bool) -> None:
        self._log_path = folder / f"{program}.log"
        command = [sys.executable, "-m", "fer_ros.entry_points", program, "--ros-args"]
        for name, value in parameters.items():
            command += ["-p", f"{name}:={json.dumps(value)}"]
        with self._log_path.open("w", encoding="utf-8") as log:
            # In its own session: Ctrl-C reaches the parent, which ends its children in order.
            self._process = subprocess.Popen(
                command, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
            )
        self.pid = self._process.pid

    def __enter__(self) -> "NodeProcess":
        return self

    def __exit__(self, *_: object) -> None:
        """Send SIGINT until the process ends, SIGKILL after a timeout.

        A process that has not installed its handlers yet may miss the first signal.
        """
        deadline_s = time.monotonic() + _STOP_TIMEOUT_S
        while self._process.poll() is None:
            is_late = time.monotonic() > deadline_s
            self._process.send_signal(signal.SIGKILL if is_late else signal.SIGINT)
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(_POLL_INTERVAL_S)

    def exit_code(self) -> int | None:
        """Exit code; None while the process runs."""
        return self._process.poll()

    def last_error_line(self) -> str:
        """Last error in its log, or else its last line, without the log prefix."""
        lines = self._log_path.read_text(encoding="utf-8", errors="replace").splitlines()
        errors = [line for line in lines if line.startswith("[ERROR]")]
        return _LOG_PREFIX.sub("", (errors or lines or ["no output"])[-1])
