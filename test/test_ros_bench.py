"""What the whole node costs, measured from outside over real DDS."""

import json
import sys
from types import SimpleNamespace

import pytest

from fer_ros.ros import bench
from fer_ros.sample import sample_crowd


def test_every_situation_has_its_figures(capsys, monkeypatch):
    """One node in a process of its own goes through all of them."""
    monkeypatch.setattr(bench, "sample_crowd", lambda count: sample_crowd(count, (320, 240)))
    assert bench.main(["--seconds", "1", "--json"]) == 0
    loads = {each.pop("situation"): each for each in json.loads(capsys.readouterr().out)}
    assert list(loads) == [
        "1 face, as fast as it goes",
        "5 faces, as fast as it goes",
        "no face, 15 images/s",
        "active, no images",
        "inactive",
    ]
    assert all(each["rss_mib"] > 50 for each in loads.values())
    assert loads["1 face, as fast as it goes"]["core_percent"] > 0
    assert loads["1 face, as fast as it goes"]["images_per_s"] > 0
    assert loads["inactive"]["images_per_s"] == 0
    assert loads["inactive"]["core_percent"] < loads["1 face, as fast as it goes"]["core_percent"]


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_a_node_that_does_not_start_is_one_line(capsys, monkeypatch, options):
    monkeypatch.setattr(sys, "executable", "/bin/false")
    assert bench.main(["--seconds", "0.1", *options]) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err == "bench: the emotion node: expected a subscription, waited in vain\n"


@pytest.mark.parametrize(
    ("fps", "sent", "on_way", "is_lost", "spent_s", "is_due"),
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
def test_when_an_image_is_due(fps, sent, on_way, is_lost, spent_s, is_due):
    run = bench.Run.__new__(bench.Run)
    run.bench = SimpleNamespace(sent=sent, on_way=on_way, is_lost=lambda: is_lost)
    assert run._is_due(0, spent_s, fps) == is_due
