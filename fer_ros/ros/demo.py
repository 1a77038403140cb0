"""The whole road at once: a camera process, an emotion process, and this one, which watches.

    python -m fer_ros.ros.demo --out out/demo [--camera 0|video.mp4|folder/]

Leaves ``annotated.png`` and ``emotions.jsonl`` in the folder, and the logs of the two processes.
"""

import signal

if __name__ == "__main__":  # while it imports, Ctrl-C ends it without a trace, as in start.py
    signal.signal(signal.SIGINT, signal.SIG_DFL)

import argparse
import math
import os
import re
import sys
import tempfile
import threading
import time
from contextlib import ExitStack
from pathlib import Path

import cv2
from rclpy.executors import SingleThreadedExecutor

from fer_ros.ros.local import free_domain, transport
from fer_ros.ros.process import NodeProcess, ros
from fer_ros.ros.watcher import Watcher

_LOOK_S = 0.1
_START_S = 90.0  # importing and loading on a slow machine
_CATCH_UP_S = 10.0  # after the camera's last image
_WEBCAM_S = 30.0
_QUIET_S = 0.5  # without an image, a camera that has ended was the last


class DemoError(Exception):
    """The demonstration did not work; the message says why in one line."""


def main(args: list[str] | None = None) -> int:
    """0 when emotions arrived, 1 with the reason when none did, 130 after Ctrl-C."""
    options = _parse(args)
    out = Path(options.out)
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory() as folder:
            os.environ.update(transport(Path(folder)), ROS_DOMAIN_ID=str(free_domain()))
            with ros([]) as ended:
                return _show(options.camera, out, ended)
    except (DemoError, OSError) as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1


def _parse(args: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="fer_ros.ros.demo", description="Watch the nodes work.")
    parser.add_argument("--out", metavar="FOLDER", default="out/demo", help="default: %(default)s")
    parser.add_argument(
        "--camera",
        default="sample",
        help="webcam number, picture, video or folder; default: made-up frames",
    )
    return parser.parse_args(args)


def _show(source: str, out: Path, ended: threading.Event) -> int:
    results, sheet = out / "emotions.jsonl", out / "annotated.png"
    for path in (results, sheet):
        path.unlink(missing_ok=True)
    watcher = Watcher()
    with ExitStack() as stack:
        stack.callback(watcher.destroy_node)
        emotion_node = stack.enter_context(
            NodeProcess("node", out, log_path=str(results), privacy=False, deterministic_ids=True)
        )
        camera = stack.enter_context(
            NodeProcess("camera", out, source=source, wait_for_subscriber=True)
        )
        limit_s = _WEBCAM_S if source.isdigit() else math.inf
        _watch(watcher, camera, emotion_node, ended, limit_s)
    if ended.is_set():
        return 130
    if not int(watcher.figures.get("processed", 0)):
        raise DemoError(f"no emotion arrived: none of the images of {source} was processed")
    if not cv2.imwrite(str(sheet), cv2.cvtColor(watcher.album.sheet(), cv2.COLOR_RGB2BGR)):
        raise DemoError(f"{sheet}: cannot be written")
    print(_summary(watcher.figures, camera), sheet, results, sep="\n")
    if not watcher.read:
        raise DemoError(f"no emotion arrived: no face in the images of {source} can be read")
    return 0


def _watch(
    watcher: Watcher,
    camera: NodeProcess,
    emotion_node: NodeProcess,
    ended: threading.Event,
    limit_s: float,
) -> None:
    """Until the camera has ended and its last image is done, or for ``limit_s`` seconds of images.

    Raises DemoError when one of the two cannot work.
    """
    executor = SingleThreadedExecutor()
    executor.add_node(watcher)
    last_s = time.monotonic() + _START_S
    started = filmed = False
    while not ended.is_set() and time.monotonic() < last_s:
        executor.spin_once(timeout_sec=_LOOK_S)
        if emotion_node.exit_code() is not None:
            raise DemoError(f"the emotion node ended: {emotion_node.last_words()}")
        if watcher.trouble:
            raise DemoError(watcher.trouble)
        if camera.exit_code():
            raise DemoError(f"the camera ended: {camera.last_words()}")
        if not started and watcher.messages:
            started, last_s = True, time.monotonic() + limit_s
        if not filmed and camera.exit_code() == 0:
            filmed, last_s = True, time.monotonic() + _CATCH_UP_S
        if filmed and _is_idle(watcher.figures):
            return


def _is_idle(figures: dict[str, str]) -> bool:
    """All images that came in are done, and no new one came for a moment."""
    if float(figures.get("last_image_age_s") or 0) < _QUIET_S:
        return False
    done = sum(int(figures[key]) for key in ("processed", "dropped", "failed"))
    return done == int(figures["received"])


def _summary(figures: dict[str, str], camera: NodeProcess) -> str:
    """What became of the frames, and where the time went."""
    received = int(figures["received"])
    found = re.search(r"(\d+) images published", camera.last_words())
    published = int(found[1]) if found else received
    lines = [
        f"frames: {published} published, {figures['processed']} processed, "
        f"{figures['dropped']} dropped for newer ones, {figures['failed']} unusable, "
        f"{published - received} lost on the way",
        f"{'milliseconds':<12} {'p50':>7} {'p95':>7}   {figures['model']} on {figures['device']}",
    ]
    for key, value in figures.items():
        if key.startswith("latency_ms.") and key.endswith(".p50"):
            stage = key.split(".")[1]
            high = figures[f"latency_ms.{stage}.p95"]
            lines.append(f"{stage:<12} {float(value):7.1f} {float(high):7.1f}")
    return "\n".join(["", *lines, ""])


if __name__ == "__main__":
    sys.exit(main())
