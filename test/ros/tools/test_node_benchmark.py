"""Benchmark of the whole node over DDS."""

import json
import sys
from types import SimpleNamespace

import pytest

from fer_ros.io.synthetic import tiled_faces
from fer_ros.ros.tools import node_benchmark
from fer_ros.ros.tools.node_benchmark import LoadMeasurement


def test_every_situation_is_measured(capsys, monkeypatch):
    """One node in a process of its own goes through all of them."""
    monkeypatch.setattr(node_benchmark, "tiled_faces", lambda count: tiled_faces(count, (320, 240)))
    assert node_benchmark.main(["--seconds", "1", "--json"]) == 0
    loads = {entry.pop("situation"): entry for entry in json.loads(capsys.readouterr().out)}
    assert list(loads) == [
        "1 face, full speed",
        "5 faces, full speed",
        "no face, 15 images/s",
        "active, no images",
        "inactive",
    ]
    assert all(load["rss_mib"] > 50 for load in loads.values())
    assert loads["1 face, full speed"]["core_percent"] > 0
    assert loads["1 face, full speed"]["images_per_s"] > 0
    assert loads["inactive"]["images_per_s"] == 0
    assert loads["inactive"]["core_percent"] < loads["1 face, full speed"]["core_percent"]


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_a_node_that_does_not_start_is_reported_in_one_line(capsys, monkeypatch, options):
    monkeypatch.setattr(sys, "executable", "/bin/false")
    assert node_benchmark.main(["--seconds", "0.1", *options]) == 1
    output = capsys.readouterr()
    assert output.out == ""
    says = "expected a subscription, but it ended with exit code 1: no output"
    assert output.err == f"node_benchmark: emotion node: {says}\n"


@pytest.mark.parametrize(
    ("fps", "published", "in_flight", "is_stalled", "elapsed_s", "is_due"),
    [
        (0.0, 0, 0, False, 0.0, True),
        (0.0, 1, 1, False, 9.0, True),
        (0.0, 2, 2, False, 9.0, False),
        (0.0, 2, 2, True, 9.0, True),
        (10.0, 0, 0, False, 0.0, False),
        (10.0, 0, 0, False, 0.05, True),
        (10.0, 1, 1, False, 0.05, False),
        (10.0, 1, 0, False, 0.15, True),
    ],
)
def test_when_an_image_is_due(fps, published, in_flight, is_stalled, elapsed_s, is_due):
    measurement = LoadMeasurement.__new__(LoadMeasurement)
    measurement._node = SimpleNamespace(in_flight=in_flight, is_stalled=lambda: is_stalled)
    assert measurement._is_due(published, elapsed_s, fps) == is_due
