"""Demonstration over DDS: a media publisher process, an emotion node process, and a monitor.

    python -m fer_ros.ros.tools.demo --out out/demo [--camera 0|video.mp4|folder/]

Writes ``annotated.png``, ``emotions.jsonl`` and the logs of both processes into the folder.
"""

import argparse
import math
import re
import sys
import threading
import time
from contextlib import ExitStack
from pathlib import Path

from rclpy.executors import SingleThreadedExecutor

from fer_ros.io.png_file import write_png
from fer_ros.ros.runtime import NodeProcess, rclpy_context
from fer_ros.ros.tools.demo_monitor import DemoMonitor
from fer_ros.ros.tools.isolated_domain import isolated_domain

_POLL_INTERVAL_S = 0.1
_STARTUP_TIMEOUT_S = 90.0  # imports and model loading on a slow machine
_PROCESSING_TIMEOUT_S = 10.0  # after the last image
_WEBCAM_DURATION_S = 30.0
_IDLE_S = 0.5  # without an image, after the publisher has finished


class DemoError(Exception):
    """The demonstration failed; the message is one line."""


def main(args: list[str] | None = None) -> int:
    """Run the demo; return 0 when emotions arrived, 1 on failure, 130 after Ctrl-C."""
    options = _parse(args)
    out = Path(options.out)
    try:
        out.mkdir(parents=True, exist_ok=True)
        with isolated_domain(), rclpy_context([]) as stop_requested:
            return _run(options.camera, out, stop_requested)
    except (DemoError, OSError) as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1


def _parse(args: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="fer_ros.ros.tools.demo", description="Run the emotion node on a camera or sample."
    )
    parser.add_argument("--out", metavar="FOLDER", default="out/demo", help="default: %(default)s")
    parser.add_argument(
        "--camera",
        default="sample",
        help="webcam number, image, video or folder; default: synthetic images",
    )
    return parser.parse_args(args)


def _run(source: str, out: Path, stop_requested: threading.Event) -> int:
    results, sheet = out / "emotions.jsonl", out / "annotated.png"
    for path in (results, sheet):
        path.unlink(missing_ok=True)
    monitor = DemoMonitor()
    with ExitStack() as stack:
        stack.callback(monitor.destroy_node)
        settings: dict[str, str | bool] = {
            "results_log_path": str(results),
            "publish_images": True,
            "deterministic_ids": True,
        }
        emotion_node = stack.enter_context(NodeProcess("emotion_node", out, **settings))
        publisher = stack.enter_context(
            NodeProcess("media_publisher", out, source=source, wait_for_subscriber=True)
        )
        limit_s = _WEBCAM_DURATION_S if source.isdigit() else math.inf
        _spin_until_finished(monitor, publisher, emotion_node, stop_requested, limit_s)
    if stop_requested.is_set():
        return 130
    if not int(monitor.diagnostics.get("processed", 0)):
        raise DemoError(f"no results: none of the images of {source} was processed")
    write_png(sheet, monitor.contact_sheet.render())
    print(_summary(monitor.diagnostics, publisher), sheet, results, sep="\n")
    if not monitor.num_readable_faces:
        raise DemoError(f"no results: no face in the images of {source} is readable")
    if publisher.exit_code() == 1:
        raise DemoError(publisher.last_error_line())
    return 0


def _spin_until_finished(
    monitor: DemoMonitor,
    publisher: NodeProcess,
    emotion_node: NodeProcess,
    stop_requested: threading.Event,
    limit_s: float,
) -> None:
    """Spin until the last image of the publisher is processed, or for ``limit_s`` of images.

    Raises DemoError when one of the processes fails.
    """
    executor = SingleThreadedExecutor()
    executor.add_node(monitor)
    deadline_s = time.monotonic() + _STARTUP_TIMEOUT_S
    has_started = has_published_all = False
    while not stop_requested.is_set() and time.monotonic() < deadline_s:
        executor.spin_once(timeout_sec=_POLL_INTERVAL_S)
        if emotion_node.exit_code() is not None:
            raise DemoError(f"the emotion node ended: {emotion_node.last_error_line()}")
        if monitor.error:
            raise DemoError(monitor.error)
        if publisher.exit_code() and not _num_published(publisher):
            raise DemoError(f"the media publisher failed: {publisher.last_error_line()}")
        if not has_started and monitor.num_messages:
            has_started, deadline_s = True, time.monotonic() + limit_s
        if not has_published_all and publisher.exit_code() is not None:
            has_published_all, deadline_s = True, time.monotonic() + _PROCESSING_TIMEOUT_S
        if has_published_all and _is_idle(monitor.diagnostics):
            return


def _is_idle(diagnostics: dict[str, str]) -> bool:
    """Whether all received images are done and no new one has arrived for a moment."""
    if float(diagnostics.get("last_image_age_s") or 0) < _IDLE_S:
        return False
    done = sum(int(diagnostics[key]) for key in ("processed", "dropped", "failed"))
    return done == int(diagnostics["received"])


def _num_published(publisher: NodeProcess) -> int:
    """Number of images by its last message; 0 while it runs, or when it failed."""
    count = re.search(r"(\d+) images published", publisher.last_error_line())
    return int(count[1]) if count else 0


def _summary(diagnostics: dict[str, str], publisher: NodeProcess) -> str:
    """Frame counts and latencies as text."""
    received = int(diagnostics["received"])
    published = _num_published(publisher) or received
    lines = [
        f"frames: {published} published, {diagnostics['processed']} processed, "
        f"{diagnostics['dropped']} dropped for newer ones, {diagnostics['failed']} failed, "
        f"{published - received} lost in transport",
        f"{'milliseconds':<12} {'p50':>7} {'p95':>7}   "
        f"{diagnostics['model']} on {diagnostics['device']}",
    ]
    for key, value in diagnostics.items():
        if key.startswith("latency_ms.") and key.endswith(".p50"):
            stage = key.split(".")[1]
            percentile_95 = diagnostics[f"latency_ms.{stage}.p95"]
            lines.append(f"{stage:<12} {float(value):7.1f} {float(percentile_95):7.1f}")
    return "\n".join(["", *lines, ""])


if __name__ == "__main__":
    sys.exit(main())
