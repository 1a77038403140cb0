"""A short soak test, and the evaluation of synthetic samples."""

import csv
import subprocess
import sys
from dataclasses import replace
from itertools import pairwise
from math import nan

import numpy as np
import pytest

from fer_ros.io.synthetic import synthetic_frames
from fer_ros.ros.tools import soak_test
from fer_ros.ros.tools.soak_test import MAX_FACES, Sample, SyntheticScene, evaluate_run

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
        (samples(rss_mib=0.5, latency_p95_ms=0.5), None),
        (samples(rss_mib=1.0), "memory: 306 MiB, at the end 338 MiB: +32.0 MiB"),
        (samples(threads=0.25), "threads: 21, at the end 29"),
        (samples(files=1), "files: 19, at the end 51"),
        (samples(publishers=1), "publishers: 12, at the end 44"),
        (samples(latency_p95_ms=1.0), "latency p95: 152 ms, at the end 188 ms: 1.24 times"),
        ([replace(CALM, latency_p95_ms=nan)] * SECONDS, "no results in the first"),
    ],
)
def test_evaluate_run(run, failing):
    failed = [words for is_fine, words in evaluate_run(run) if not is_fine]
    assert len(failed) == (failing is not None)
    assert all(words.startswith(failing) or failing in words for words in failed)


@pytest.mark.parametrize(
    ("growth", "code"), [({}, 0), ({"publishers": 1.0}, 1), ({"latency_p95_ms": 1.0}, 1)]
)
def test_the_exit_code_is_that_of_the_checks(tmp_path, monkeypatch, capsys, growth, code):
    monkeypatch.setattr(soak_test, "observe", lambda *_: samples(**growth))
    assert soak_test.main(["--out", str(tmp_path)]) == code
    assert capsys.readouterr().out.count("FAILED") == code


def test_the_scene_is_empty_at_its_start_and_end():
    room_rgb = next(synthetic_frames()).image_rgb
    crowd = SyntheticScene(duration_s=20.0)
    for at_s in (0.0, 2.9, 18.1, 19.9):
        np.testing.assert_array_equal(crowd.image_at(at_s), room_rgb)
    busy = [(crowd.image_at(at_s) != room_rgb).any() for at_s in np.linspace(5, 15, 11)]
    assert all(busy)


def test_scenes_depend_on_the_seed_only():
    first, again, other = SyntheticScene(20.0), SyntheticScene(20.0), SyntheticScene(20.0, seed=1)
    np.testing.assert_array_equal(first.image_at(10.0), again.image_at(10.0))
    assert (first.image_at(10.0) != other.image_at(10.0)).any()


def test_a_short_run_writes_its_results(tmp_path):
    """Latency is not checked: other processes use this machine too.

    Nor is the check of the topics: in parts of 1.5 s their numbers depend on the times of the
    samples. Instead they have to fall at times, as faces leave; with a leak they only grow.
    """
    command = [
        sys.executable,
        "-m",
        "fer_ros.ros.tools.soak_test",
        "--minutes",
        "0.25",
        "--out",
        tmp_path,
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    output = done.stdout.splitlines()
    assert [line.split()[1].rstrip(":") for line in output] == [
        "memory",
        "threads",
        "files",
        "publishers",
        "latency",
    ]
    assert [line for line in output[:3] if not line.startswith("ok ")] == []
    assert done.returncode == any(line.startswith("FAILED") for line in output)
    with (tmp_path / "soak.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [float(row["at_s"]) for row in rows] == list(range(1, 16))
    assert 1 <= max(int(row["faces"]) for row in rows) <= MAX_FACES
    topics = [int(row["publishers"]) for row in rows]
    assert any(after < before for before, after in pairwise(topics)), topics
    assert (tmp_path / "soak.png").stat().st_size > 10_000
    assert "Traceback" not in (tmp_path / "emotion_node.log").read_text()
