"""Where the programs begin: a signal that comes while they import ends them without a word.

Python would answer Ctrl-C with a trace from the depths of whatever it imports just then. It still
does when the signal comes before it is here, while it starts itself.
"""

import signal


def emotion_node() -> int:
    """The program ``emotion_node``."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    from fer_ros.ros.node import main

    return main()


def camera() -> int:
    """The program ``camera``."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    from fer_ros.ros.camera import main

    return main()


def fer() -> int:
    """The program ``fer``: once it is imported, Ctrl-C is a KeyboardInterrupt as ever."""
    handler = signal.getsignal(signal.SIGINT)
    if handler != signal.SIG_IGN:  # which a shell gives to its jobs in the background
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from fer_ros.cli import main

    signal.signal(signal.SIGINT, handler)
    return main()
