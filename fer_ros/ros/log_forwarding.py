"""Forward the library's log messages to the log of the node, and so to ``/rosout``."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from rclpy.impl.rcutils_logger import RcutilsLogger
from rclpy.node import Node

from fer_ros.io.errors import single_line

_LIBRARY = "fer_ros"


class _NodeLogHandler(logging.Handler):
    def __init__(self, logger: RcutilsLogger) -> None:
        super().__init__(logging.INFO)
        self._logger = logger

    def emit(self, record: logging.LogRecord) -> None:
        text = single_line(record.getMessage())
        # One line each: rclpy refuses another severity from the same line of code.
        if record.levelno >= logging.ERROR:
            self._logger.error(text)
        elif record.levelno >= logging.WARNING:
            self._logger.warning(text)
        else:
            self._logger.info(text)


@contextmanager
def forwarded_library_logs(node: Node) -> Iterator[None]:
    """Within this context the node logs what the library logs, from level INFO."""
    logger, handler = logging.getLogger(_LIBRARY), _NodeLogHandler(node.get_logger())
    previous = logger.level, logger.propagate
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(previous[0])
        logger.propagate = previous[1]
