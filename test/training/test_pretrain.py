"""From a YAML file and faces without labels to a trunk that an image stream starts from."""

from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from dataset_tools import write_dataset
from pretrain_tools import DINO, MAE, PLAIN, TINY, TINY_14, write_datasets
from run_tools import (
    check_rejected,
    figures,
    run,
    run_and_kill,
    run_in_two_forks,
    skip_plots,
    write_experiment,
)
from safetensors.torch import load_file, save_file
from tree import ROOT

from fer_ros.config import from_dict
from fer_ros.inference.model_store import InputSpec
from fer_ros.models.backbones.pretrained import load_backbone
from fer_ros.models.backbones.registry import BACKBONES
from fer_ros.models.mobilefacenet import MobileFaceNet
from fer_ros.models.wrapper import FaceInput
from training import pretrain as training
from training.config import NetworkConfig, read_config
from training.datasets.shards import FaceDataset
from training.engine.distributed import DistributedContext
from training.models.factory import build
from training.pretrain import PretrainingTask, load_training_crops, make_method
from training.ssl.base import make_pretraining_backbone
from training.ssl.config import PretrainConfig

SMALL = {
    "backbone": "tiny",
    "epochs": 2,
    "batch_size": 6,
    "probe_interval": 1,
    "dino": DINO,
    "mae": MAE,
}
CPU = DistributedContext(0, 1, torch.device("cpu"))


@pytest.fixture(autouse=True)
def tiny_streams(monkeypatch):
    monkeypatch.setitem(BACKBONES, "tiny", TINY)
    monkeypatch.setitem(BACKBONES, "tiny14", TINY_14)


@pytest.fixture(scope="module")
def datasets(tmp_path_factory) -> Path:
    return write_datasets(tmp_path_factory.mktemp("datasets"))


def settings(**values: object) -> PretrainConfig:
    return from_dict(PretrainConfig, {**SMALL, **values})


@pytest.mark.parametrize("method", ["dino", "mae"])
def test_a_run_writes_a_trunk_for_a_two_stream(tmp_path, datasets, method):
    out = tmp_path / "out"
    path = write_experiment(tmp_path, {**SMALL, "method": method, "activation_checkpointing": True})
    run(training, path, datasets, out)
    files = {path.name for path in out.iterdir()}
    assert {"run.yaml", "metrics.csv", "curves.png", "last.pt", "backbone.safetensors"} <= files
    assert not [name for name in files if "partial" in name]
    ran = yaml.safe_load((out / "run.yaml").read_text())
    assert ran["method"] == method
    assert {"revision", "versions", "seed"} <= set(ran)
    assert len(ran["data_sha256"]["train"]) == 64
    rows = figures(out)
    assert len(rows) == 2
    assert all(0 < row["train_feature_std"] <= 1 and 0 <= row["knn_accuracy"] <= 1 for row in rows)

    landmarks = tmp_path / "landmarks.safetensors"
    save_file(MobileFaceNet().state_dict(), landmarks)
    trunk = out / "backbone.safetensors"
    config = {"image": "tiny"}
    network = build(NetworkConfig("two_stream_small", config, str(landmarks), str(trunk)))
    kept = load_file(trunk)
    assert kept
    for name, value in network.net.image.trunk.state_dict().items():
        torch.testing.assert_close(value, kept[name], rtol=0, atol=0)


def test_the_trunk_of_vits8_loads(tmp_path):
    """With all of its size and names."""
    stream = make_pretraining_backbone("vits8")
    save_file(stream.to_published_state_dict(), tmp_path / "backbone.safetensors")
    load_backbone(BACKBONES["vits8"](), tmp_path / "backbone.safetensors")


@torch.no_grad()
@pytest.mark.parametrize("name", ["tiny", "tiny14"])
@pytest.mark.parametrize("method", ["dino", "mae"])
def test_the_loaded_trunk_has_the_output_of_the_trained_one(tmp_path, datasets, name, method):
    """Although streams of DINOv2 take published weights, of images that are normalized so."""
    config = settings(backbone=name, method=method, dino={**DINO, "local_crop_size_px": 56})
    state = PretrainingTask(config, load_training_crops(datasets, config.datasets, []), None, CPU)
    torch.nn.init.normal_(state.method.trunk.patch_embed.proj.bias)
    before = {key: value.clone() for key, value in state.method.state_dict().items()}
    state.save(state.network, tmp_path)
    assert all(torch.equal(value, before[key]) for key, value in state.method.state_dict().items())
    stream = BACKBONES[name]().eval()
    load_backbone(stream, tmp_path / "backbone.safetensors")
    crops = torch.rand(2, 1, 112, 112)
    images = FaceInput(InputSpec(size_px=stream.side_px))(crops)
    tokens = stream.trunk.forward_features(images)
    features = tokens[:, 0] if method == "dino" else tokens[:, 1:].mean(dim=1)
    torch.testing.assert_close(features, state.method.eval().features(crops), rtol=1e-4, atol=1e-5)
    assert stream.tokens(images)[-1].shape == (2, 24, 14, 14)


VARIANTS = [{}, {"method": "mae"}, {"bf16": True, "max_samples": 6}]


@pytest.mark.parametrize("change", VARIANTS, ids=str)
def test_a_killed_run_resumes_to_the_same_results(tmp_path, datasets, monkeypatch, change):
    if change:
        skip_plots(monkeypatch)
    path = write_experiment(tmp_path, {**SMALL, **change})
    run(training, path, datasets, tmp_path / "whole")
    run_and_kill(monkeypatch, training, path, datasets, tmp_path / "killed")
    assert len(figures(tmp_path / "killed")) == 1
    run(training, path, datasets, tmp_path / "killed")
    assert figures(tmp_path / "killed") == figures(tmp_path / "whole")
    ends = [load_file(tmp_path / name / "backbone.safetensors") for name in ("killed", "whole")]
    assert all(torch.equal(value, ends[1][name]) for name, value in ends[0].items())


def test_training_can_start_from_a_trunk(tmp_path):
    given = make_pretraining_backbone("tiny").to_published_state_dict()
    save_file(given, tmp_path / "backbone.safetensors")
    for method in ("dino", "mae"):
        weights = str(tmp_path / "backbone.safetensors")
        started, _ = make_method(settings(method=method, weights=weights))
        for name, value in started.trunk.state_dict().items():
            torch.testing.assert_close(value, given[name], rtol=0, atol=0)


def test_two_processes_train_like_one(tmp_path, datasets, monkeypatch):
    """KoLeo, noise and the center of patches apart, which see a part of the batch."""
    still = {**DINO, "koleo": 0.0, "ibot": 0.0}
    experiment = {**SMALL, "dino": still, "views": PLAIN, "drop_path": 0.0, "probe_interval": 0}
    skip_plots(monkeypatch)
    path = write_experiment(tmp_path, experiment)
    run(training, path, datasets, tmp_path / "one")
    run_in_two_forks(training, path, datasets, tmp_path / "two")
    one, two = ([row["train_loss"] for row in figures(tmp_path / name)] for name in ("one", "two"))
    np.testing.assert_allclose(two, one, rtol=1e-4)


def test_a_nan_loss_keeps_the_last_checkpoint(tmp_path, datasets, monkeypatch):
    path, out = write_experiment(tmp_path, {**SMALL, "method": "mae"}), tmp_path / "out"
    nan = torch.tensor(float("nan"), requires_grad=True)
    monkeypatch.setattr(training.Mae, "forward", lambda *_: {"loss": nan})
    with pytest.raises(SystemExit, match="the loss is not finite") as ended:
        run(training, path, datasets, out)
    assert "\n" not in str(ended.value.code)
    assert not [file for file in out.iterdir() if file.suffix in {".pt", ".safetensors"}]


def test_learning_rates_follow_the_schedule():
    config = settings(epochs=10, optimizer={"lr": 1.0, "warmup": 0.2})
    state = PretrainingTask(config, torch.zeros(60, 144, 144, dtype=torch.uint8), None, CPU)
    steps = []
    for step in (0, 19, 60, 99):
        state.schedule.step_update(step)
        steps.append(
            [(group["lr"], group["weight_decay"]) for group in state.optimizer.param_groups]
        )
    rates = [groups[0][0] for groups in steps]
    assert rates == pytest.approx([0.05, 1.0, 0.5, 0.0], abs=0.02)
    assert [groups[0][1] for groups in steps] == pytest.approx([0.04, 0.054, 0.146, 0.2], abs=1e-3)
    assert [groups[1][1] for groups in steps] == [0.0] * 4


def test_the_probe_uses_at_most_the_training_images(tmp_path, datasets, monkeypatch):
    requested = []

    def count(_method, known, queries, _device):
        requested.append((len(known), len(queries)))
        return 0.5

    monkeypatch.setattr(training, "knn_accuracy", count)
    skip_plots(monkeypatch)
    small = {**SMALL, "epochs": 1, "method": "mae", "batch_size": 2}
    for images in (0, 4):
        path = write_experiment(tmp_path, {**small, "max_samples": images})
        run(training, path, datasets, tmp_path / str(images))
    assert requested == [(12, 6), (4, 4)]


def test_probe_test_images_are_not_trained_on(tmp_path):
    """Neither held-out datasets nor images that stand in them too."""
    padded_crop = np.arange(4, dtype=np.uint8)[:, None, None].repeat(144, 1).repeat(144, 2)
    folder = write_dataset(tmp_path / "set_train", padded_crop=padded_crop)
    hashes = FaceDataset.open(folder).column("pixel_hash")[1:2]
    write_dataset(tmp_path / "set_valid", pixel_hash=hashes, padded_crop=padded_crop[:1])
    assert load_training_crops(tmp_path, [], []).shape == (0, 144, 144)
    crops = load_training_crops(tmp_path, ["set_train"], ["set_valid", "not_there"])
    assert crops[:, 0, 0].tolist() == [0, 2, 3]
    twice = load_training_crops(tmp_path, ["set_train", "set_valid"], [])
    assert twice[:, 0, 0].tolist() == [0, 1, 2, 3, 0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected a mapping"),
        ("a: [", "not a YAML file"),
        ("epoch: 3", "did you mean 'epochs'"),
        ("method: simclr", "method: expected dino or mae, found 'simclr'"),
        ("{backbone: efficientnet_lite0, batch_size: 6}", "backbone: expected one of .*vits8"),
        ("datasets: [ferplus_test]", "datasets: expected names beside .* found 'ferplus_test'"),
        ("datasets: [celeba_train]", "celeba_train/dataset.yaml: no such file"),
        ("views: {rotate_deg: 90}", r"views\.rotate_deg: expected 0\.0 to 15\.0, found 90"),
        (
            "{backbone: tiny, batch_size: 6, dino: {local_crop_size_px: 50}}",
            r"dino\.local_crop_size_px: expected a multiple",
        ),
        ("{backbone: tiny, batch_size: 6, weights: no.pth}", "no.pth: cannot be read"),
        ("backbone: tiny", "expected at least a batch of 512 samples, found 12"),
    ],
)
def test_errors_are_reported_in_one_line(tmp_path, datasets, text, message):
    path, out = write_experiment(tmp_path, text), tmp_path / "out"
    check_rejected(message, training, path, datasets, out)
    assert not (tmp_path / "out").exists()


def test_another_experiment_does_not_resume_this_run(tmp_path, datasets, monkeypatch):
    skip_plots(monkeypatch)
    out = tmp_path / "out"
    small = {**SMALL, "epochs": 1, "method": "mae", "probe_interval": 0}
    run(training, write_experiment(tmp_path, small), datasets, out)
    assert np.isnan(figures(out)[0]["knn_accuracy"])
    other = write_experiment(tmp_path, {**small, "mae": {**MAE, "mask_ratio": 0.5}})
    with pytest.raises(SystemExit, match=r"another experiment: mae\.mask_ratio was 0\.75, is 0\.5"):
        run(training, other, datasets, out)


@pytest.mark.parametrize("name", ["dino", "mae"])
def test_the_shipped_experiments_are_valid(name):
    config = read_config(
        ROOT / "training" / "configs" / "pretraining" / f"{name}_vits8.yaml", PretrainConfig
    )
    assert config.method == name
    assert config.probe.names_held_out() == ["ferplus_valid", "ferplus_test"]
    method, stream = make_method(config)
    assert stream.backbone_name == "vit_small_patch8_224"
    assert len(method.view_specs) == (8 if name == "dino" else 1)
