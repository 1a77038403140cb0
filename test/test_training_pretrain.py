"""From a YAML file and faces without labels to a trunk that an image stream starts from."""

from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from pack_tools import write_pack
from pretrain_tools import DINO, MAE, PLAIN, TINY, TINY_14, write_packs
from run_tools import figures, run, run_and_kill, run_in_two_processes, write_experiment
from safetensors.torch import load_file, save_file
from tree import ROOT

from fer_ros.config import from_dict
from fer_ros.model.image_stream import IMAGE_STREAMS
from fer_ros.model.mobilefacenet import MobileFaceNet
from fer_ros.model.network import FaceInput
from fer_ros.model.published import load_trunk
from fer_ros.weights import InputSpec
from training import pretrain as training
from training.method import make_stream
from training.networks import build
from training.packs import Pack
from training.pretrain import load_pictures, make_method, set_rates
from training.pretrain_settings import PretrainConfig
from training.processes import World
from training.settings import NetworkConfig, read_settings

SMALL = {"stream": "tiny", "epochs": 2, "batch": 6, "probe_every": 1, "dino": DINO, "mae": MAE}
CPU = World(0, 1, torch.device("cpu"))


@pytest.fixture(autouse=True)
def tiny_streams(monkeypatch):
    monkeypatch.setitem(IMAGE_STREAMS, "tiny", TINY)
    monkeypatch.setitem(IMAGE_STREAMS, "tiny14", TINY_14)


@pytest.fixture(scope="module")
def packs(tmp_path_factory) -> Path:
    return write_packs(tmp_path_factory.mktemp("packs"))


def settings(**values: object) -> PretrainConfig:
    return from_dict(PretrainConfig, {**SMALL, **values})


@pytest.mark.parametrize("method", ["dino", "mae"])
def test_a_run_leaves_a_trunk_that_a_two_stream_starts_from(tmp_path, packs, monkeypatch, method):
    out = tmp_path / "out"
    path = write_experiment(tmp_path, {**SMALL, "method": method, "recompute": True})
    run(monkeypatch, training, path, packs, out)
    files = {path.name for path in out.iterdir()}
    assert {"run.yaml", "metrics.csv", "curves.png", "last.pt", "trunk.safetensors"} <= files
    assert not [name for name in files if "partial" in name]
    ran = yaml.safe_load((out / "run.yaml").read_text())
    assert ran["method"] == method
    assert {"revision", "versions", "seed"} <= set(ran)
    assert len(ran["data_sha256"]["pictures"]) == 64
    rows = figures(out)
    assert len(rows) == 2
    assert all(0 < row["feature_std"] <= 1 and 0 <= row["knn_accuracy"] <= 1 for row in rows)

    landmarks = tmp_path / "landmarks.safetensors"
    save_file(MobileFaceNet().state_dict(), landmarks)
    trunk = out / "trunk.safetensors"
    config = {"image": "tiny"}
    network = build(NetworkConfig("two_stream_small", config, str(landmarks), str(trunk)))
    kept = load_file(trunk)
    assert kept
    for name, value in network.core.image.trunk.state_dict().items():
        torch.testing.assert_close(value, kept[name], rtol=0, atol=0)


def test_the_trunk_of_vits8_loads(tmp_path):
    """With all of its size and names."""
    stream = make_stream("vits8")
    save_file(stream.publish(), tmp_path / "trunk.safetensors")
    load_trunk(IMAGE_STREAMS["vits8"](), tmp_path / "trunk.safetensors")


@torch.no_grad()
@pytest.mark.parametrize("name", ["tiny", "tiny14"])
@pytest.mark.parametrize("method", ["dino", "mae"])
def test_the_loaded_trunk_says_what_the_learned_one_said(tmp_path, packs, name, method):
    """Although streams of DINOv2 take published weights, of pictures that are normalised so."""
    config = settings(stream=name, method=method, dino={**DINO, "small_px": 56})
    state = training.Run(config, load_pictures(packs, config.packs, []), CPU)
    torch.nn.init.normal_(state.method.trunk.patch_embed.proj.bias)
    before = {key: value.clone() for key, value in state.method.state_dict().items()}
    training.keep_trunk(state, tmp_path / "trunk.safetensors")
    assert all(torch.equal(value, before[key]) for key, value in state.method.state_dict().items())
    stream = IMAGE_STREAMS[name]().eval()
    load_trunk(stream, tmp_path / "trunk.safetensors")
    crops = torch.rand(2, 1, 112, 112)
    pictures = FaceInput(InputSpec(size_px=stream.side_px))(crops)
    tokens = stream.trunk.forward_features(pictures)
    found = tokens[:, 0] if method == "dino" else tokens[:, 1:].mean(dim=1)
    torch.testing.assert_close(found, state.method.eval().features(crops), rtol=1e-4, atol=1e-5)
    assert stream.tokens(pictures)[-1].shape == (2, 24, 14, 14)


@pytest.mark.parametrize("change", [{}, {"method": "mae"}, {"bf16": True}], ids=str)
def test_a_run_that_was_killed_goes_on_to_the_same_numbers(tmp_path, packs, monkeypatch, change):
    path = write_experiment(tmp_path, {**SMALL, **change})
    run(monkeypatch, training, path, packs, tmp_path / "whole")
    run_and_kill(monkeypatch, training, path, packs, tmp_path / "killed")
    assert len(figures(tmp_path / "killed")) == 1
    run(monkeypatch, training, path, packs, tmp_path / "killed")
    assert figures(tmp_path / "killed") == figures(tmp_path / "whole")
    ends = [load_file(tmp_path / name / "trunk.safetensors") for name in ("killed", "whole")]
    assert all(torch.equal(value, ends[1][name]) for name, value in ends[0].items())


def test_a_trunk_can_be_gone_on_from(tmp_path):
    given = make_stream("tiny").publish()
    save_file(given, tmp_path / "trunk.safetensors")
    for method in ("dino", "mae"):
        weights = str(tmp_path / "trunk.safetensors")
        started, _ = make_method(settings(method=method, weights=weights))
        for name, value in started.trunk.state_dict().items():
            torch.testing.assert_close(value, given[name], rtol=0, atol=0)


TWO = """
import sys
from training import pretrain
from fer_ros.model.image_stream import IMAGE_STREAMS
from pretrain_tools import TINY
IMAGE_STREAMS["tiny"] = TINY
pretrain.main()
"""


def test_two_processes_learn_what_one_does(tmp_path, packs, monkeypatch):
    """KoLeo, noise and the centre of patches apart, which see a part of the batch."""
    still = {**DINO, "koleo": 0.0, "ibot": 0.0}
    experiment = {**SMALL, "dino": still, "views": PLAIN, "drop_path": 0.0, "probe_every": 0}
    path = write_experiment(tmp_path, experiment)
    run(monkeypatch, training, path, packs, tmp_path / "one")
    script = tmp_path / "two.py"
    script.write_text(TWO)
    run_in_two_processes(script, path, packs, tmp_path / "two")
    one, two = ([row["loss"] for row in figures(tmp_path / name)] for name in ("one", "two"))
    np.testing.assert_allclose(two, one, rtol=1e-4)


def test_a_loss_that_is_no_number_leaves_the_last_good_epoch(tmp_path, packs, monkeypatch):
    path, out = write_experiment(tmp_path, {**SMALL, "method": "mae"}), tmp_path / "out"
    nan = torch.tensor(float("nan"), requires_grad=True)
    monkeypatch.setattr(training.Mae, "forward", lambda *_: {"loss": nan})
    with pytest.raises(SystemExit, match="the loss is not a number") as ended:
        run(monkeypatch, training, path, packs, out)
    assert "\n" not in str(ended.value.code)
    assert not [file for file in out.iterdir() if file.suffix in {".pt", ".safetensors"}]


def test_rates_rise_and_fall():
    config = settings(epochs=10, optimizer={"lr": 1.0, "warmup": 0.2})
    state = training.Run(config, torch.zeros(60, 144, 144, dtype=torch.uint8), CPU)
    found = []
    for step in (0, 19, 60, 99):
        set_rates(state, step)
        found.append(
            [(group["lr"], group["weight_decay"]) for group in state.optimizer.param_groups]
        )
    rates = [groups[0][0] for groups in found]
    assert rates == pytest.approx([0.05, 1.0, 0.5, 0.0], abs=0.02)
    assert [groups[0][1] for groups in found] == pytest.approx([0.04, 0.054, 0.146, 0.2], abs=1e-3)
    assert [groups[1][1] for groups in found] == [0.0] * 4


def test_the_probe_reads_no_more_pictures_than_are_learned_from(tmp_path, packs, monkeypatch):
    asked = []

    def count(_method, known, wanted, _device):
        asked.append((len(known), len(wanted)))
        return 0.5

    monkeypatch.setattr(training, "accuracy", count)
    small = {**SMALL, "epochs": 1, "method": "mae", "batch": 2}
    for pictures in (0, 4):
        path = write_experiment(tmp_path, {**small, "pictures": pictures})
        run(monkeypatch, training, path, packs, tmp_path / str(pictures))
    assert asked == [(12, 6), (4, 4)]


def test_nothing_that_judges_is_learned_from(tmp_path):
    """Neither held-out packs nor pictures that stand in them too."""
    canvas = np.arange(4, dtype=np.uint8)[:, None, None].repeat(144, 1).repeat(144, 2)
    folder = write_pack(tmp_path / "set_train", canvas=canvas)
    hashes = Pack.open(folder).column("pixel_hash")[1:2]
    write_pack(tmp_path / "set_valid", pixel_hash=hashes, canvas=canvas[:1])
    assert load_pictures(tmp_path, [], []).shape == (0, 144, 144)
    found = load_pictures(tmp_path, ["set_train"], ["set_valid", "not_there"])
    assert found[:, 0, 0].tolist() == [0, 2, 3]
    twice = load_pictures(tmp_path, ["set_train", "set_valid"], [])
    assert twice[:, 0, 0].tolist() == [0, 1, 2, 3, 0]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "expected a mapping"),
        ("a: [", "not a YAML file"),
        ("epoch: 3", "did you mean 'epochs'"),
        ("method: simclr", "method: expected dino or mae, got 'simclr'"),
        ("{stream: efficientnet_lite0, batch: 6}", "stream: expected one of .*vits8"),
        ("packs: [ferplus_test]", "packs: expected names beside .* got 'ferplus_test'"),
        ("packs: [celeba_train]", "celeba_train/pack.yaml: no such file"),
        ("views: {rotate_deg: 90}", r"views\.rotate_deg: expected 0\.0 to 15\.0, got 90"),
        ("{stream: tiny, batch: 6, dino: {small_px: 50}}", r"dino\.small_px: expected a multiple"),
        ("{stream: tiny, batch: 6, weights: no.pth}", "no.pth: cannot be read"),
        ("stream: tiny", "expected at least a batch of 512, found 12 pictures"),
    ],
)
def test_what_is_wrong_is_one_line(tmp_path, packs, monkeypatch, text, words):
    with pytest.raises(SystemExit, match=words) as ended:
        run(monkeypatch, training, write_experiment(tmp_path, text), packs, tmp_path / "out")
    assert "\n" not in str(ended.value.code)
    assert not (tmp_path / "out").exists()


def test_another_experiment_does_not_go_on_with_this_run(tmp_path, packs, monkeypatch):
    out = tmp_path / "out"
    small = {**SMALL, "epochs": 1, "method": "mae", "probe_every": 0}
    run(monkeypatch, training, write_experiment(tmp_path, small), packs, out)
    assert np.isnan(figures(out)[0]["knn_accuracy"])
    other = write_experiment(tmp_path, {**small, "mae": {**MAE, "masked": 0.5}})
    with pytest.raises(SystemExit, match=r"another experiment: mae\.masked was 0\.75, is 0\.5"):
        run(monkeypatch, training, other, packs, out)


@pytest.mark.parametrize("name", ["dino", "mae"])
def test_the_shipped_experiments_can_be_read(name):
    config = read_settings(
        ROOT / "training" / "configs" / f"pretrain_{name}_vits8.yaml", PretrainConfig
    )
    assert config.method == name
    assert config.held_out == ["ferplus_valid", "ferplus_test"]
    method, stream = make_method(config)
    assert stream.trunk_name == "vit_small_patch8_224"
    assert len(method.shots) == (8 if name == "dino" else 1)
