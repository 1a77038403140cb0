"""A short soak, and what its verdict says about samples that are made up."""

import csv
import subprocess
import sys
from dataclasses import replace
from math import nan

import numpy as np
import pytest

from fer_ros.ros.soak import MOST_FACES, Crowd, Sample, verdict
from fer_ros.sample import sample_frames

SECONDS = 40
CALM = Sample(0.0, 300.0, 20, 15, 8, 2, 100.0, 150.0)


def samples(**growth: float) -> list[Sample]:
    """A calm run in which some figures grow by so much per second."""
    return [
        replace(CALM, at_s=k, **{key: getattr(CALM, key) + k * by for key, by in growth.items()})
        for k in range(SECONDS)
    ]


@pytest.mark.parametrize(
    ("run", "failing"),
    [
        ([], "0 samples are too few"),
        (samples()[:9], "9 samples are too few"),
        (samples(), None),
        (samples(rss_mb=0.5, latency_p95_ms=0.5), None),
        (samples(rss_mb=1.0), "memory: 306 MB, at the end 338 MB: +32.0 MB"),
        (samples(threads=0.25), "threads: 21, at the end 29"),
        (samples(files=1), "files: 19, at the end 51"),
        (samples(publishers=1), "publishers: 12, at the end 44"),
        (samples(latency_p95_ms=1.0), "latency p95: 152 ms, at the end 188 ms: 1.24 times"),
        ([replace(CALM, latency_p95_ms=nan)] * SECONDS, "no image was answered"),
    ],
)
def test_verdict(run, failing):
    failed = [words for is_fine, words in verdict(run) if not is_fine]
    assert len(failed) == (failing is not None)
    assert all(words.startswith(failing) or failing in words for words in failed)


def test_nobody_is_in_the_room_at_first_and_in_the_end():
    room_rgb = next(sample_frames()).image_rgb
    crowd = Crowd(duration_s=20.0)
    for at_s in (0.0, 2.9, 18.1, 19.9):
        np.testing.assert_array_equal(crowd.image_at(at_s), room_rgb)
    busy = [(crowd.image_at(at_s) != room_rgb).any() for at_s in np.linspace(5, 15, 11)]
    assert all(busy)


def test_the_same_crowd_for_the_same_seed_and_others_for_another():
    first, again, other = Crowd(20.0), Crowd(20.0), Crowd(20.0, seed=1)
    np.testing.assert_array_equal(first.image_at(10.0), again.image_at(10.0))
    assert (first.image_at(10.0) != other.image_at(10.0)).any()


def test_a_short_run_leaves_its_figures(tmp_path):
    """Whether answers became slower is not asked: others use this machine too."""
    command = [sys.executable, "-m", "fer_ros.ros.soak", "--minutes", "0.25", "--out", tmp_path]
    done = subprocess.run(command, capture_output=True, text=True)
    said = done.stdout.splitlines()
    assert [line.split()[1].rstrip(":") for line in said] == [
        "memory",
        "threads",
        "files",
        "publishers",
        "latency",
    ]
    assert [line for line in said[:3] if not line.startswith("ok ")] == []
    with (tmp_path / "soak.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [float(row["at_s"]) for row in rows] == list(range(1, 16))
    assert 1 <= max(int(row["faces"]) for row in rows) <= MOST_FACES
    assert (tmp_path / "soak.png").stat().st_size > 10_000
    assert "Traceback" not in (tmp_path / "node.log").read_text()
