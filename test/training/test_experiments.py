"""Experiments and their table."""

import csv
import re

import numpy as np
import pytest
import torch
import yaml
from dataset_tools import write_dataset
from pretrain_tools import MAE, TINY
from safetensors.torch import save_file

from fer_ros.emotions import FERPLUS_VOTES
from fer_ros.models.backbones.registry import BACKBONES
from fer_ros.models.mobilefacenet import MobileFaceNet
from training import experiment_graph, experiments


def test_every_experiment_has_its_file():
    for name in {*experiments.EXPERIMENTS, *experiments.ABLATIONS}:
        assert experiment_graph.read_experiment(name).network.architecture


def test_the_table_without_results_is_its_header():
    assert experiments.table([], "1 epochs").count("\n") == 4


@pytest.fixture
def datasets(tmp_path):
    votes = np.zeros((4, len(FERPLUS_VOTES)), np.int8)
    votes[:, 0] = 10
    for split in ("train", "valid", "test"):
        write_dataset(tmp_path / f"ferplus_{split}", votes=votes)
    return tmp_path


@pytest.fixture
def tiny(tmp_path, monkeypatch):
    """Two small experiments in place of the real ones; the second lacks its weights."""
    small = {"depth": 1, "embed_dim": 24, "num_heads": 2}
    network = {"architecture": "vit_base", "config": small}
    good = {"network": network, "batch_size": 4}
    (tmp_path / "good.yaml").write_text(yaml.safe_dump(good))
    bad = {"network": {**network, "image_weights": "no.pth"}}
    (tmp_path / "bad.yaml").write_text(yaml.safe_dump(bad))
    monkeypatch.setattr(experiment_graph, "CONFIGS", tmp_path)
    monkeypatch.setattr(experiments, "EXPERIMENTS", {"bad": 38.65, "good": None})
    monkeypatch.setattr(experiments, "ABLATIONS", ("good",))


def run(*arguments) -> int:
    return experiments.main([*map(str, arguments)])


@pytest.mark.usefixtures("tiny")
def test_failed_experiments_are_reported_and_the_others_run(datasets, tmp_path, capsys):
    out = tmp_path / "out"
    assert run(datasets, out, "--epochs", 1) == 1
    rows = (out / "table.md").read_text().splitlines()
    assert rows[0] == "Budget of each: 1 epochs."
    assert "not run: no.pth: cannot be read" in rows[-2]
    assert rows[-2].endswith("| 38.65% |")
    assert rows[-1].startswith("| `good` | ")
    assert re.search(r" \| 1 \| [\d.]+% \| [\d.]+% \| - \|$", rows[-1])
    assert capsys.readouterr().err.count("experiments: bad: no.pth") == 1


@pytest.mark.usefixtures("tiny")
def test_an_error_of_pytorch_is_one_line(datasets, tmp_path, monkeypatch):
    def exhausted(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory.\nTried to allocate 20 GiB")

    monkeypatch.setattr(experiments, "train", exhausted)
    assert run(datasets, tmp_path / "out", "good") == 1
    (row,) = [
        line for line in (tmp_path / "out/table.md").read_text().splitlines() if "good" in line
    ]
    assert "not run: CUDA out of memory. Tried to allocate 20 GiB | - |" in row


@pytest.mark.usefixtures("tiny")
def test_single_experiments_and_unknown_ones(datasets, tmp_path, capsys):
    assert run(datasets, tmp_path / "out", "--epochs", 1, "good") == 0
    with pytest.raises(SystemExit):
        run(datasets, tmp_path / "out", "better")
    assert "unknown experiment 'better'; known: bad, good; or: ablations" in capsys.readouterr().err


@pytest.mark.usefixtures("tiny")
def test_several_seeds_are_different_runs_and_one_row(datasets, tmp_path):
    out = tmp_path / "out"
    assert run(datasets, out, "ablations", "--epochs", 1, "--seeds", 2) == 0
    losses = [
        next(csv.DictReader((out / "good" / f"seed_{seed}" / "metrics.csv").open()))["train_loss"]
        for seed in (0, 1)
    ]
    assert losses[0] != losses[1]
    rows = (out / "table.md").read_text().splitlines()
    assert re.search(r"^\| `good` .*\| 1 \| [\d.]+ ± [\d.]+% \| [\d.]+ ± [\d.]+% \|", rows[-1])


def test_one_value_has_no_deviation():
    assert experiments.format_mean((0.5,)) == "50.0%"
    assert experiments.format_mean((0.5, 0.6)) == "55.0 ± 7.1%"


@pytest.fixture
def celeba(tmp_path, monkeypatch):
    """An experiment that goes on from a trunk of self-supervision, with a trunk of one block."""
    monkeypatch.setitem(BACKBONES, "tiny", TINY)
    save_file(MobileFaceNet().state_dict(), tmp_path / "landmarks.safetensors")
    before = {"method": "mae", "backbone": "tiny", "probe_interval": 0, "mae": MAE}
    (tmp_path / "pretraining").mkdir()
    (tmp_path / "pretraining" / "pretrain_tiny.yaml").write_text(yaml.safe_dump(before))
    network = {
        "architecture": "two_stream",
        "config": {"image": "tiny"},
        "landmarks": str(tmp_path / "landmarks.safetensors"),
        "image_weights": "runs/pretrain_tiny/backbone.safetensors",
    }
    (tmp_path / "after.yaml").write_text(yaml.safe_dump({"network": network}))
    monkeypatch.setattr(experiment_graph, "CONFIGS", tmp_path)
    monkeypatch.setattr(experiments, "EXPERIMENTS", {"after": None})


@pytest.mark.usefixtures("celeba")
def test_dependencies_are_trained_first(datasets, tmp_path):
    out = tmp_path / "out"
    budget = ("--epochs", 1, "--batch-size", 2, "--max-samples", 3)
    assert run(datasets, out, *budget) == 0
    assert (out / "pretrain_tiny" / "backbone.safetensors").exists()
    settings = yaml.safe_load((out / "after" / "seed_0" / "run.yaml").read_text())
    assert settings["network"]["image_weights"] == str(
        out / "pretrain_tiny" / "backbone.safetensors"
    )


@pytest.fixture
def three(tmp_path, monkeypatch):
    """``last`` starts from ``middle``, which starts from ``first``."""
    small = {"architecture": "vit_base", "config": {"depth": 1, "embed_dim": 24, "num_heads": 2}}

    def write(name: str, before: str) -> None:
        weights = before and f"runs/{before}/model/{before}/weights.safetensors"
        network = {**small, "image_weights": weights}
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump({"network": network}))

    for name, before in (("first", ""), ("middle", "first"), ("last", "middle")):
        write(name, before)
    monkeypatch.setattr(experiment_graph, "CONFIGS", tmp_path)
    monkeypatch.setattr(experiments, "EXPERIMENTS", {"last": None})
    return write


@pytest.mark.usefixtures("three")
def test_dependencies_may_have_dependencies(datasets, tmp_path, monkeypatch):
    trained = []
    monkeypatch.setattr(
        experiments,
        "train",
        lambda config, data, out: trained.append((out, config.epochs, config.network)),
    )
    monkeypatch.setattr(experiments, "best_epoch", lambda out: (1, 0.5, 0.5))
    out = tmp_path / "out"
    assert run(datasets, out, "--epochs", 1) == 0
    model = "{0}/model/{0}/weights.safetensors"
    assert [(folder, epochs, each.image_weights) for folder, epochs, each in trained] == [
        (out / "first", 1, ""),
        (out / "middle", 1, str(out / model.format("first"))),
        (out / "last" / "seed_0", 1, str(out / model.format("middle"))),
    ]


@pytest.mark.parametrize(
    ("name", "before", "words"),
    [
        ("last", "last", "last.yaml: starts from itself (last from last)"),
        ("first", "last", "last.yaml: starts from itself (last from middle from first from last)"),
        ("first", "middle", "middle.yaml: starts from itself (last from middle from first from"),
    ],
)
def test_cycles_are_reported(datasets, tmp_path, capsys, three, name, before, words):
    three(name, before)
    assert run(datasets, tmp_path / "out") == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert words in line
