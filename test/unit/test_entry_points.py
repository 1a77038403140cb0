"""Console scripts during their imports, as processes."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
import pytest

BIN = Path(sys.executable).parent
MODULE = [sys.executable, "-m", "fer_ros.entry_points"]
END_S = 2.0
FOREVER = "print('importing', flush=True)\nwhile True:\n    pass\n"


@pytest.fixture(autouse=True)
def suite_in_the_foreground() -> Iterator[None]:
    """A shell has its jobs in the background ignore SIGINT, and what they start inherits that."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@contextmanager
def importing(
    folder: Path, command: Sequence[str | Path], module: str
) -> Iterator[subprocess.Popen[str]]:
    """``command`` in the middle of its import of ``module``, which takes for ever."""
    (folder / f"{module}.py").write_text(FOREVER)
    process = subprocess.Popen(
        command,
        env=os.environ | {"PYTHONPATH": str(folder), "ROS_LOG_DIR": str(folder)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stdout
        try:
            assert "importing\n" in process.stdout
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize(
    ("command", "module"),
    [
        ([BIN / "emotion_node"], "rclpy"),
        ([BIN / "emotion_node"], "cv2"),
        ([BIN / "media_publisher"], "rclpy"),
        ([BIN / "media_publisher"], "cv2"),
        ([BIN / "fer"], "numpy"),
        ([BIN / "fer"], "cv2"),
        ([*MODULE, "emotion_node"], "rclpy"),
        ([*MODULE, "media_publisher"], "rclpy"),
        ([*MODULE, "demo"], "rclpy"),
    ],
)
def test_a_signal_during_imports_exits_silently(tmp_path, command, module, number):
    with importing(tmp_path, command, module) as process:
        process.send_signal(number)
        assert process.communicate(timeout=END_S) == ("", "")
    assert process.returncode == -number


def test_ctrl_c_ends_fer_cleanly(tmp_path):
    """Each command has its own way to end, and 130 is how all of them tell."""
    cv2.imwrite(str(tmp_path / "face.png"), np.zeros((120, 160, 3), np.uint8))
    command = [BIN / "fer", "analyze", tmp_path / "face.png"]
    with importing(tmp_path, command, "onnxruntime") as process:
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=END_S) == ("", "")
    assert process.returncode == 130


def test_background_fer_ignores_ctrl_c(tmp_path):
    """A shell has its jobs there ignore SIGINT."""
    command = ["sh", "-c", f'trap "" INT; exec "{BIN / "fer"}"']
    with importing(tmp_path, command, "cv2") as process:
        process.send_signal(signal.SIGINT)
        process.send_signal(signal.SIGTERM)
        assert process.communicate(timeout=END_S) == ("", "")
    assert process.returncode == -signal.SIGTERM
