"""The life of a node's process: signals, spinning, exit codes."""

import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from types import FrameType

import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_LOOK_UP_S = 0.2  # how often spinning looks whether it is to end


def one_line(error: Exception) -> str:
    """The message of an error whose author may have needed several lines."""
    return " ".join(str(error).split())


@contextmanager
def ros(args: list[str] | None) -> Iterator[threading.Event]:
    """Has rclpy running; the event that it gives is set by Ctrl-C and by SIGTERM.

    rclpy's own handlers would tear the middleware down below nodes that still publish. Once there
    was a signal, others are ignored, to the end of the process: Ctrl-C in a shell that runs
    ``ros2 launch`` sends two, and the second one must not hit an interpreter that is going down.
    Exits with one line when the arguments are no ROS arguments.
    """
    ended = threading.Event()

    def end(*_: int | FrameType | None) -> None:
        for number in _SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        ended.set()

    before = {number: signal.signal(number, end) for number in _SIGNALS}

    def restore() -> None:
        if not ended.is_set():
            for number, handler in before.items():
                signal.signal(number, handler)

    with ExitStack() as undo:
        undo.callback(restore)
        try:
            rclpy.init(args=args, signal_handler_options=SignalHandlerOptions.NO)
        except RuntimeError as error:  # the base of rclpy's errors
            sys.exit(one_line(error))
        undo.callback(rclpy.try_shutdown)
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
