"""Console scripts: SIGINT during the imports ends the process silently.

    python -m fer_ros.entry_points emotion_node --ros-args -p image_transport:=compressed

Python would otherwise print a KeyboardInterrupt traceback from the module that it is importing.
"""

import signal
import sys


def emotion_node() -> int:
    """Run the emotion node."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    from fer_ros.ros.node import main

    return main()


def media_publisher() -> int:
    """Run the node that publishes images, videos or a webcam."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    from fer_ros.ros.tools.media_publisher import main

    return main()


def demo() -> int:
    """Run the demonstration."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    from fer_ros.ros.tools.demo import main

    return main()


def fer() -> int:
    """Run the command line ``fer``; after the imports, Ctrl-C raises KeyboardInterrupt."""
    handler = signal.getsignal(signal.SIGINT)
    if handler != signal.SIG_IGN:  # a shell ignores SIGINT for its background jobs
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from fer_ros.cli import main

    signal.signal(signal.SIGINT, handler)
    return main()


if __name__ == "__main__":
    programs = {main.__name__: main for main in (emotion_node, media_publisher, demo, fer)}
    sys.exit(programs[sys.argv.pop(1)]())
