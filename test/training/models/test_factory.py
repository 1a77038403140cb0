"""The weights that training starts from, and who learns how fast."""

import cv2
import pytest
import skimage.data
import timm
import torch
from safetensors.torch import save_file
from torch import nn

from fer_ros.inference.model_store import InputSpec, ModelError
from fer_ros.models import build_model
from fer_ros.models.checkpoint import WEIGHTS_FILE, load_model, save_model
from fer_ros.models.mobilefacenet import MobileFaceNet
from fer_ros.models.wrapper import FaceNetwork
from training.config import FineTuningOptimizerConfig, NetworkConfig
from training.engine.optimizer import make_cosine_schedule, make_optimizer, parameter_groups
from training.models.factory import backbone_blocks, build, resolve_architecture
from training.pretrained.efficientnet_lite0 import efficientnet_lite0

SPEC = InputSpec(size_px=64, mean=(0.4,) * 3)


@pytest.fixture(scope="module")
def landmarks(tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp("landmarks") / "landmarks.safetensors"
    save_file(MobileFaceNet().state_dict(), path)
    return str(path)


@torch.no_grad()
def test_imagenet_weights_classify_a_cat():
    network = timm.create_model("efficientnet_lite0").eval()
    network.load_state_dict(efficientnet_lite0())
    square = skimage.data.chelsea()[:, 75:375]
    image = torch.from_numpy(cv2.resize(square, (224, 224), interpolation=cv2.INTER_AREA))
    seen = network(image.permute(2, 0, 1)[None] / 127.5 - 1)[0]
    assert set(seen.topk(3).indices.tolist()) == {281, 282, 285}  # tabby, tiger, Egyptian cat


def test_the_image_stream_starts_from_imagenet(landmarks):
    core = build(NetworkConfig(landmarks=landmarks)).net
    published = efficientnet_lite0()
    name = "blocks.2.0.conv_dw.weight"
    assert torch.equal(core.image.trunk.state_dict()[name], published[name])


def test_published_weights_are_loaded_into_the_image_stream(tmp_path, landmarks):
    torch.manual_seed(1)
    published = timm.create_model("vit_small_patch8_224", img_size=112).state_dict()
    path = tmp_path / "vit.safetensors"
    save_file(published, path)
    config = NetworkConfig(config={"image": "vits8"}, landmarks=landmarks, image_weights=str(path))
    name = "blocks.3.mlp.fc1.weight"
    assert torch.equal(build(config).net.image.trunk.state_dict()[name], published[name])


def test_a_separately_trained_trunk_is_loaded_into_the_image_stream(tmp_path, landmarks):
    alone = build(NetworkConfig("image_classifier"))
    alone.net.image.trunk.stem.weight.data += 1.0
    folder = tmp_path / "alone"
    save_model(alone, folder, "image_classifier")
    path = str(folder / WEIGHTS_FILE)
    config = {"image": "face_resnet"}
    core = build(NetworkConfig(config=config, landmarks=landmarks, image_weights=path)).net
    torch.testing.assert_close(
        core.image.trunk.stem.weight, alone.net.image.trunk.stem.weight, atol=1e-3, rtol=1e-3
    )
    with pytest.raises(ModelError, match="not the weights of efficientnet_lite0"):
        build(NetworkConfig(landmarks=landmarks, image_weights=path))


@torch.no_grad()
def test_the_linear_layers_of_a_trunk_are_loaded_into_the_image_head(tmp_path, landmarks):
    folder = tmp_path / "alone"
    alone = build(NetworkConfig("image_classifier", {"blendshapes": True}))
    save_model(alone, folder, "image_classifier", blendshapes=True)
    path = str(folder / WEIGHTS_FILE)
    config = {"image": "face_resnet", "image_head": True, "blendshapes": True}
    network = build(NetworkConfig(config=config, landmarks=landmarks, image_weights=path)).eval()
    for value in network.net.fusion.head.parameters():
        nn.init.zeros_(value)
    crops = torch.rand(2, 1, 112, 112, generator=torch.manual_seed(0))
    expected, output = load_model(folder)(crops), network(crops)
    assert expected.logits.std() > 0.01
    torch.testing.assert_close(output.logits, expected.logits, atol=0.01, rtol=0.01)
    torch.testing.assert_close(output.blendshapes, expected.blendshapes, atol=0.01, rtol=0.01)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_the_image_stream_starts_from_the_mean_of_several_files(tmp_path, landmarks, count):
    paths, states = [], []
    for number in range(count):
        torch.manual_seed(number)
        net = build_model("image_classifier", image="mobilenet")
        states.append(net.state_dict())
        paths.append(str(tmp_path / f"{number}.safetensors"))
        save_file(states[-1], paths[-1])
    config = {"image": "mobilenet", "image_head": True}
    first, *others = paths
    net = build(
        NetworkConfig(config=config, landmarks=landmarks, image_weights=first, average_with=others)
    ).net
    for name in (next(iter(states[0])), "head.weight", "head.bias"):
        mean = sum(state[name] for state in states) / count
        own = net.state_dict()[name.replace("head.", "image_head.head.", 1)]
        torch.testing.assert_close(own, mean)


def test_a_mean_is_of_files_with_the_same_layers(tmp_path):
    paths = [str(tmp_path / name) for name in ("trunk.safetensors", "whole.safetensors")]
    net = build_model("image_classifier", image="mobilenet")
    save_file(net.image.trunk.state_dict(), paths[0])
    save_file(net.state_dict(), paths[1])
    config = NetworkConfig(
        "image_classifier", {"image": "mobilenet"}, image_weights=paths[0], average_with=paths[1:]
    )
    with pytest.raises(ValueError, match=r"average_with: .*whole.*expected .* \[\] as in .*trunk"):
        build(config)


def test_only_an_image_stream_has_a_mean(tmp_path):
    with pytest.raises(
        ValueError, match="expected image_weights as well, found none; set image_weights"
    ):
        NetworkConfig(average_with=["a.safetensors"])
    config = NetworkConfig("vgg13", image_weights="a.safetensors", average_with=["b.safetensors"])
    with pytest.raises(ValueError, match="average_with: vgg13 has no image stream; remove"):
        build(config)


def test_a_trunk_without_a_linear_layer_has_no_image_head(tmp_path, landmarks):
    path = tmp_path / "trunk.safetensors"
    save_file(build_model("image_classifier", image="mobilenet").image.trunk.state_dict(), path)
    config = {"image": "mobilenet", "image_head": True}
    with pytest.raises(ValueError, match="expected an image_classifier with this image stream"):
        build(NetworkConfig(config=config, landmarks=landmarks, image_weights=str(path)))


@pytest.mark.parametrize("frozen", [False, True])
def test_a_network_starts_from_a_model(tmp_path, frozen):
    architecture = "image_classifier" if frozen else "vgg13"
    folder = tmp_path / "first"
    manifest = save_model(FaceNetwork(build_model(architecture), SPEC), folder, architecture)
    config = resolve_architecture(NetworkConfig(model=str(folder), freeze_image=frozen))
    assert (config.architecture, config.config) == (manifest.architecture, manifest.config)
    network = build(config)
    assert network.spec == SPEC
    kept = load_model(folder).state_dict()
    assert all(torch.equal(value, kept[name]) for name, value in network.state_dict().items())
    assert frozen == any(not value.requires_grad for value in network.parameters())


@pytest.mark.parametrize("image", ["efficientnet_lite0", "face_resnet", "mobilenet", "vits8"])
@pytest.mark.parametrize("frozen", [False, True])
def test_every_trained_parameter_is_in_one_group(landmarks, image, frozen):
    network = build(
        NetworkConfig(config={"image": image}, landmarks=landmarks, freeze_image=frozen)
    )
    groups = parameter_groups(
        network, FineTuningOptimizerConfig(lr=1.0, layer_decay=0.5), backbone_blocks(network)
    )
    listed = [id(value) for group in groups for value in group["params"]]
    trained = [id(value) for value in network.parameters() if value.requires_grad]
    assert sorted(listed) == sorted(trained)
    rates = {id(value): group["lr"] for group in groups for value in group["params"]}
    trunk = [rates[id(value)] for value in network.net.image.trunk.parameters() if not frozen]
    assert trunk == sorted(trunk)
    assert not trunk or trunk[0] < trunk[-1] == FineTuningOptimizerConfig.backbone_lr_scale
    assert rates[id(network.net.fusion.head.weight)] == 1.0
    decays = {
        value.ndim > 1: group["weight_decay"] for group in groups for value in group["params"]
    }
    assert decays == {True: FineTuningOptimizerConfig.weight_decay, False: 0.0}


@pytest.mark.parametrize("sam_rho", [0.0, 0.05])
def test_learning_rates_keep_their_ratio(landmarks, sam_rho):
    config = FineTuningOptimizerConfig(lr=0.1, backbone_lr_scale=0.5, warmup=0.1, sam_rho=sam_rho)
    network = build(NetworkConfig(landmarks=landmarks))
    groups = parameter_groups(network, config, backbone_blocks(network))
    optimizer = make_optimizer(groups, config)
    schedule = make_cosine_schedule(optimizer, config, steps=100)
    seen = []
    for step in range(100):
        schedule.step_update(step)
        rates = {group["lr"] for group in optimizer.param_groups}
        seen.append(max(rates))
        assert min(rates) == pytest.approx(0.5 * max(rates))
    assert seen[0] == 0.0
    assert max(seen) == pytest.approx(0.1, rel=0.05)
    assert seen.index(max(seen)) == 10
    assert seen[-1] < 0.001


@pytest.mark.parametrize("steps", [1, 2])
def test_a_run_of_few_steps_has_a_valid_schedule(steps):
    config = FineTuningOptimizerConfig()
    optimizer = make_optimizer(parameter_groups(nn.Linear(2, 2), config, []), config)
    make_cosine_schedule(optimizer, config, steps).step_update(0)
    assert optimizer.param_groups[0]["lr"] > 0
