"""Ids of faces in scripted scenes."""

import numpy as np
import pytest

from fer_ros.config import TrackerConfig
from fer_ros.evaluation.tracking_benchmark import (
    TrackingScore,
    crossing_scene,
    gap_scene,
    kept_over_gap,
    score,
)
from fer_ros.tracker import Tracker


@pytest.mark.parametrize(
    ("gap_s", "stops"), [(0.5, False), (1.0, False), (1.9, False), (1.0, True), (1.9, True)]
)
def test_a_face_keeps_its_id_over_gaps_up_to_its_age(gap_s, stops):
    """At 3 px of jitter on 60 px, where it stands and where it stops in the gap."""
    random = np.random.default_rng(1)
    config = TrackerConfig(max_age_s=2.0)
    scenes = [gap_scene(random, gap_s, stops) for _ in range(15)]
    assert np.mean([kept_over_gap(Tracker(config), scene) for scene in scenes]) >= 0.98


def test_faces_that_cross_in_random_scenes():
    random, total = np.random.default_rng(2), TrackingScore()
    for _ in range(10):
        score(crossing_scene(random), Tracker(TrackerConfig()), total)
    assert total.idf1 > 0.95
