"""Fixtures and settings that several tests share."""

import gc
import os
from importlib.util import find_spec
from pathlib import Path

# Before torch and ONNX Runtime start: tests share the machine with each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pytest
import skimage.data

from fer_ros.emotions import EMOTIONS
from fer_ros.ros.tools import isolated_domain
from fer_ros.types import FacePredictions

# Workers that look at the same moment would find the same domain free.
_WORKER = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
isolated_domain._DOMAIN_IDS = isolated_domain._DOMAIN_IDS[
    _WORKER :: int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
]


# Without ROS 2 these are not collected; pytest says so in its first lines.
NEEDS_ROS = [
    "ros",
    "evaluation/test_replay.py",
    "fuzz",
    "unit/test_entry_points.py",
    "unit/test_packaging.py",
    "unit/test_security.py",
]
HAS_ROS = find_spec("rclpy") is not None
collect_ignore = [] if HAS_ROS else NEEDS_ROS


def pytest_report_header() -> str | None:
    """Name what is not tested in an environment without ROS 2."""
    return None if HAS_ROS else f"no rclpy: not collected: {', '.join(NEEDS_ROS)}"


@pytest.fixture(scope="module", autouse=True)
def frozen_modules():
    """Exempt all imported modules from garbage collection, which visits each of their objects."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def cpu_without_int8():
    """The same model and precision on every machine that runs the tests, but in other processes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("fer_ros.inference.devices._CPU_INFO", Path("no such file"))
        yield


class FakeClassifier:
    """Fake network: keeps its crops and returns the given outputs.

    ``points_xy`` (68, 2) in crop pixels, ``probabilities`` (8,); the same for every face.
    """

    device = "cpu"

    def __init__(self) -> None:
        self.seen: list[np.ndarray] = []
        self.probabilities = np.full(len(EMOTIONS), 0.02, np.float32)
        self.probabilities[EMOTIONS.index("happiness")] = 0.86
        self.points_xy = frontal_points()

    def classify(self, crops_rgb: np.ndarray) -> FacePredictions:
        self.seen.append(crops_rgb)
        count = len(crops_rgb)
        return FacePredictions(
            np.tile(self.points_xy, (count, 1, 1)), np.tile(self.probabilities, (count, 1))
        )


def frontal_points() -> np.ndarray:
    """68 points (68, 2) of a frontal, symmetric face in crop pixels, as the template wants it."""
    x, y = np.full(68, 56.0), np.full(68, 60.0)
    turn = np.linspace(0, np.pi, 17)
    x[:17], y[:17] = 56 - 46 * np.cos(turn), 45 + 60 * np.sin(turn)
    x[17:27], y[17:27] = np.r_[np.linspace(22, 48, 5), np.linspace(64, 90, 5)], 30
    x[27:31], y[27:31] = 56, np.linspace(42, 60.5, 4)
    x[31:36], y[31:36] = np.linspace(47, 65, 5), 66
    eye = np.array([(-9, 0), (-4, -3), (4, -3), (9, 0), (4, 3), (-4, 3)])
    x[36:42], y[36:42] = (eye + np.array([38, 40])).T
    x[42:48], y[42:48] = (eye + np.array([74, 40])).T
    around = np.arange(12) * 2 * np.pi / 12
    x[48:60], y[48:60] = 56 - 15 * np.cos(around), 81.5 - 6 * np.sin(around)
    x[60:68], y[60:68] = 56 - 10 * np.cos(around[:8] * 1.5), 81.5 - 2 * np.sin(around[:8] * 1.5)
    return np.stack([x, y], axis=1).astype(np.float32)


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory):
    """Exported models stay among the tests, and are exported once for all of them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FER_ROS_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture
def fake_classifier() -> FakeClassifier:
    return FakeClassifier()


@pytest.fixture(scope="session")
def astronaut() -> np.ndarray:
    """The portrait (512, 512, 3) of astronaut Eileen Collins, RGB, public domain; read-only."""
    portrait = skimage.data.astronaut()
    portrait.setflags(write=False)
    return portrait
