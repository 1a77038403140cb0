"""The life of a node's process, from inside and from outside: signals, spinning, exit codes."""

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
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions

from fer_ros.errors import with_file

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_LOOK_UP_S = 0.2  # how often spinning looks whether it is to end
_STOP_S = 10.0
_LOG_PREFIX = re.compile(r"^\[[A-Z]+\] \[[\d.]+\] \[[\w.]+\]: ")


@contextmanager
def ros(args: list[str] | None) -> Iterator[threading.Event]:
    """Has rclpy running; the event that it gives is set by Ctrl-C and by SIGTERM.

    rclpy's own handlers would tear the middleware down below nodes that still publish. Once there
    was a signal, others are ignored, to the end of the process: Ctrl-C in a shell that runs
    ``ros2 launch`` sends two, and the second one must not hit an interpreter that is going down.
    Exits with one line when the arguments are no ROS arguments.
    """
    ended = threading.Event()
    asked = False

    def end(*_: int | FrameType | None) -> None:
        nonlocal asked
        if not asked:  # a signal in the middle of set() would wait for itself
            asked = True
            ended.set()

    before = {number: signal.signal(number, end) for number in _SIGNALS}

    def restore() -> None:
        # what comes while handlers change, Python would tell with a trace
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        for number, handler in before.items():
            signal.signal(number, signal.SIG_IGN if asked else handler)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)

    with ExitStack() as undo:
        undo.callback(restore)
        try:
            rclpy.init(args=args, signal_handler_options=SignalHandlerOptions.NO)
        except RuntimeError as error:  # the base of rclpy's errors
            sys.exit(with_file(error))
        # its handlers were not installed, and to uninstall them leaves none for a moment
        undo.callback(rclpy.try_shutdown, uninstall_handlers=False)
        yield ended


def spin(node: Node, is_over: Callable[[], bool]) -> None:
    """Serves the node until ``is_over``; raises what its callbacks raise."""
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    try:
        while not is_over():
            executor.spin_once(timeout_sec=_LOOK_UP_S)
    finally:
        executor.remove_node(node)
        executor.shutdown()


def status_of(pid: int) -> dict[str, str]:
    """What Linux says of a process, such as ``VmRSS`` (proc(5))."""
    lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
    return dict(line.split(":", 1) for line in lines)


class NodeProcess:
    """A node of ``fer_ros.ros.<module>`` in a process of its own, until the context ends.

    Its output goes to ``<module>.log`` in ``folder``.
    """

    def __init__(self, module: str, folder: Path, **parameters: str | bool) -> None:
        self._log = folder / f"{module}.log"
        command = [sys.executable, "-m", f"fer_ros.ros.{module}", "--ros-args"]
        for name, value in parameters.items():
            command += ["-p", f"{name}:={json.dumps(value)}"]
        with self._log.open("w", encoding="utf-8") as log:
            # In a session of its own: Ctrl-C comes to us, and we end our children in order.
            self._process = subprocess.Popen(
                command, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
            )
        self.pid = self._process.pid

    def __enter__(self) -> "NodeProcess":
        return self

    def __exit__(self, *_: object) -> None:
        """Asks it to end, again where it was too young to hear it, and makes it end at last."""
        last_s = time.monotonic() + _STOP_S
        while self._process.poll() is None:
            number = signal.SIGINT if time.monotonic() < last_s else signal.SIGKILL
            self._process.send_signal(number)
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(_LOOK_UP_S)

    def exit_code(self) -> int | None:
        """None while it runs."""
        return self._process.poll()

    def last_words(self) -> str:
        """The last error in its log, else the last line."""
        lines = self._log.read_text(encoding="utf-8", errors="replace").splitlines()
        said = [line for line in lines if line.startswith("[ERROR]")] or lines or ["without a word"]
        return _LOG_PREFIX.sub("", said[-1])
