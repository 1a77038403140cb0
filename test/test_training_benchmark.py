"""The page of benchmarks: real work on small budgets, and what the page says of given figures."""

import re
from dataclasses import replace
from pathlib import Path

import cv2
import pytest

from fer_ros.cli.bench import Cost, Start
from fer_ros.config import ClassifierConfig
from training import benchmark
from training.benchmark_page import Following, Network, Results, page, write

STAGES = {"detect": (10.0, 12.0), "total": (25.0, 31.5)}


def network(name, runtime="ONNX Runtime", one_ms=10.0, bare_ms=8.0, five=4.0) -> Network:
    batches_ms = {1: one_ms, 5: five * one_ms, 10: 5 * one_ms}
    return Network(name, runtime, True, 112, 0.5e9, batches_ms, bare_ms)


@pytest.fixture
def results() -> Results:
    return Results(
        model="ours",
        threads=2,
        load=0.31,
        frames=[Cost(640, 480, 1, STAGES), Cost(640, 480, 5, STAGES)],
        starts=[Start("ONNX Runtime on cpu", 0.94, 250.4)],
        node=[{"situation": "inactive", "images_per_s": 0, "core_percent": 0.24, "rss_mib": 301.2}],
        networks=[
            network("ours"),
            network("ours", "ONNX Runtime, int8", 5.0, None),
            network("ours", "PyTorch", 20.0, None),
            network("poster_v2", one_ms=85.0, five=4.8),
            network("efficientnet_b0", one_ms=9.0),
        ],
        roads_ms={
            "detector": 12.0,
            "faces 1": 22.0,
            "faces 5": 55.0,
            "int8, faces 1": 20.0,
            "int8, faces 5": 40.0,
        },
        followed=[Following(3, 21.26, 100, 2, 0.947, 0.72, 0.99)],
    )


def rows(text: str) -> list[list[str]]:
    lines = [line for line in text.splitlines() if line.startswith("|") and "---" not in line]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_the_page_has_the_figures(results):
    table = rows(page(results))
    assert "a load average of 0.3 before it began" in page(results)
    assert ["640x480", "5", "10.0 / 12.0", "25.0 / 31.5"] in table
    assert ["ONNX Runtime on cpu", "0.9", "250"] in table
    assert ["inactive", "0.0", "0.2", "301.2"] in table
    ours = "`ours`, ONNX Runtime", "yes", "112 px", "0.50", "100", "125", "200", "10.0", "8.0", "50"
    assert list(ours) in table
    assert ["3", "21.3", "100", "2", "0.95 / 0.72", "99%"] in table


def test_ratios_are_those_of_the_figures(results):
    ratios = {row[0]: row[1:] for row in rows(page(results)) if len(row) == 3}
    assert ratios["frame of one face : its bare networks"] == ["1.10", "at most 1.25"]
    assert ratios["frame of five faces : frame of one"] == ["2.50", "at most 2.2"]
    poster, efficient = "`poster_v2`, ONNX Runtime", "`efficientnet_b0`, ONNX Runtime"
    assert ratios[f"faces/s, 1 at once : those of {poster}"] == ["8.5", "at least 8"]
    assert ratios[f"faces/s, 5 at once : those of {poster}"] == ["10.2", "at least 8"]
    assert ratios[f"faces/s, 1 at once : those of {efficient}"] == ["0.9", "at least 1"]
    assert ratios["faces/s, 1 at once : those of `ours`, PyTorch"] == ["2.0", ""]
    assert ratios["int8, frame of five faces : frame of one"] == ["2.00", "at most 2.2"]
    assert ratios[f"faces/s in int8, 1 at once : those of {poster}"] == ["17.0", "at least 8"]
    assert not [what for what in ratios if "in int8" in what and "`ours`" in what]


def test_the_page_stands_beside_its_picture(results, tmp_path):
    write(results, tmp_path)
    text = (tmp_path / "BENCHMARKS.md").read_text()
    assert text == page(results)
    (picture,) = re.findall(r"!\[.*\]\((.+)\)", text)
    assert cv2.imread(str(tmp_path / picture)).std() > 5


def test_a_bare_runtime_without_figures_stays_empty(results):
    bare = [network("ours", bare_ms=8.0), network("ours", "ONNX Runtime, int8", bare_ms=None)]
    text = page(replace(results, networks=bare))
    assert "| `ours`, ONNX Runtime, int8 | yes | 112 px | 0.50 | 100 | 125 | 200 | 10.0 |  |" in (
        text
    )


@pytest.mark.parametrize("count", [1, 3])
def test_work_is_done_in_turn(count):
    done = []
    works = {name: lambda name=name: done.append(name) for name in "abc"[:count]}
    spent = benchmark.in_turn(works, 0.0)
    assert list(spent) == list(works)
    assert all(each >= 0 for each in spent.values())
    assert done == list(works) * (1 + benchmark._MIN_ROUNDS)


def test_following_is_compared_with_a_detector_that_never_rests(monkeypatch):
    monkeypatch.setattr(benchmark, "EVERY", (1, 3))
    always, third = benchmark.measure_following(ClassifierConfig(device="cpu", threads=1))
    told = (always.every, always.overlap, always.low_overlap, always.same)
    assert told == pytest.approx((1, 1.0, 1.0, 1.0))
    assert (third.every, third.ids) == (3, always.ids)
    assert 0.8 < third.overlap < 1
    assert third.same > 0.9


def test_the_whole_measurement(monkeypatch):
    """Real networks, one round; the rest of the page has tests of its own."""
    monkeypatch.setattr(benchmark, "measure_frames", lambda config: [])
    monkeypatch.setattr(benchmark, "measure_starts", lambda config: [])
    monkeypatch.setattr(benchmark, "measure_node", list)
    monkeypatch.setattr(benchmark, "measure_following", lambda config: [])
    monkeypatch.setattr(benchmark, "BATCHES", (1, 2))
    found = benchmark.measure("two_stream_small", others=("vgg13",), seconds=0.0)
    ours, int8, torchs, other = found.networks
    assert [each.runtime for each in found.networks] == [
        "ONNX Runtime",
        "ONNX Runtime, int8",
        "PyTorch",
        "ONNX Runtime",
    ]
    assert (ours.name, other.name, ours.points, other.points) == (
        "two_stream_small",
        "vgg13",
        True,
        False,
    )
    assert list(ours.batches_ms) == [1, 2]
    assert min(*ours.batches_ms.values(), ours.bare_ms, other.bare_ms) > 0
    assert torchs.bare_ms is int8.bare_ms is None
    frames = {f"{kind}faces {count}" for kind in ("", "int8, ") for count in (1, 5)}
    assert set(found.roads_ms) == {"detector", *frames}


def test_a_model_that_is_not_there_is_one_line(capsys):
    assert benchmark.main(["--model", "nobody"]) == 1
    assert capsys.readouterr().err.startswith("benchmark: unknown model 'nobody'")


def test_the_page_of_the_project_is_of_this_program(results):
    text = Path(benchmark.__file__).parents[1].joinpath("BENCHMARKS.md").read_text()
    mine, theirs = (re.findall(r"^## (.*)$", each, re.MULTILINE) for each in (page(results), text))
    assert mine == theirs
    assert theirs == [
        "From image to emotion",
        "Start",
        "The node",
        "Networks",
        "Ratios",
        "A detector that rests",
        "Other machines",
    ]
