"""Self-supervised methods: shapes, masks, teacher and spread of features."""

import copy

import pytest
import torch
from cuda_tools import ReadsOfDevice
from lightly.loss import IBOTPatchLoss
from pretrain_tools import TINY, TINY_14, dino, inputs, mae

from fer_ros.models.backbones.registry import BACKBONES
from training.augment import RandomDraws
from training.ssl.base import feature_std, make_pretraining_backbone
from training.ssl.dino import DinoConfig, MaskedPatches, MaskedPatchLoss, block_masks
from training.ssl.knn import knn_classify
from training.ssl.mae import MaeConfig

MAKERS = {"dino": dino, "mae": mae}


@pytest.fixture(autouse=True)
def tiny_streams(monkeypatch):
    monkeypatch.setitem(BACKBONES, "tiny", TINY)
    monkeypatch.setitem(BACKBONES, "tiny14", TINY_14)


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
@pytest.mark.parametrize(("stream", "change"), [("tiny", 0), ("tiny14", 56)])
def test_the_loss_falls(make, stream, change):
    method = make(stream, local_crop_size_px=change) if change and make is dino else make(stream)
    if make is dino:  # the targets stay
        method.dino_loss.center_momentum = method.ibot_loss.center.momentum = 1.0
    views, numbers = inputs(method)
    optimizer = torch.optim.AdamW([p for p in method.parameters() if p.requires_grad], lr=3e-3)
    losses = []
    for _ in range(8):
        metrics = method(views, numbers, 0, 8)
        assert all(value.ndim == 0 for value in metrics.values())
        optimizer.zero_grad()
        metrics["loss"].backward()
        losses.append(metrics["loss"].item())
        optimizer.step()
    assert losses[-1] < losses[0]
    assert method.features(torch.rand(3, 1, 112, 112)).shape == (3, 24)


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_every_trained_parameter_gets_a_gradient(make):
    """Several processes would wait for what gets none."""
    method = make()
    method(*inputs(method), 0, 1)["loss"].backward()
    trained = {name: value for name, value in method.named_parameters() if value.requires_grad}
    assert trained
    assert [name for name, value in trained.items() if value.grad is None] == []


def test_the_teacher_moves_with_the_student_only():
    method = dino(teacher_momentum=0.9)
    before = copy.deepcopy(method.teacher.state_dict())
    for name, value in method.student.state_dict().items():
        torch.testing.assert_close(value, before[name])
    optimizer = torch.optim.SGD([p for p in method.parameters() if p.requires_grad], lr=0.1)
    method.train()
    assert not method.teacher.training
    method(*inputs(method), 0, 10)["loss"].backward()
    optimizer.step()
    for name, value in method.teacher.state_dict().items():
        assert torch.equal(value, before[name])
    method.after_step(0, 10)
    for name, value in method.teacher.named_parameters():
        followed = 0.9 * before[name] + 0.1 * dict(method.student.named_parameters())[name]
        torch.testing.assert_close(value, followed.detach(), msg=name)
    last = copy.deepcopy(method.teacher.state_dict())
    method.after_step(10, 10)
    assert all(
        torch.equal(value, last[name]) for name, value in method.teacher.state_dict().items()
    )


def test_prototypes_stay_in_the_first_epoch():
    method = dino(freeze_epochs=1)
    method(*inputs(method), 0, 1)["loss"].backward()
    last = method.student.head.last_layer
    method.after_backward(1)
    assert last.weight_v.grad is not None
    method.after_backward(0)
    assert last.weight_v.grad is None


def test_the_temperature_of_the_teacher_rises_and_stays():
    method = dino(
        teacher_temperature_start=0.02, teacher_temperature=0.06, teacher_temperature_warmup=0.5
    )
    temperatures = [method._teacher_temperature(step, 8) for step in (0, 2, 4, 8)]
    assert temperatures == pytest.approx([0.02, 0.04, 0.06, 0.06])
    assert dino(teacher_temperature_warmup=0.0)._teacher_temperature(0, 8) == 0.05


def test_a_masked_patch_is_hidden_from_the_student():
    method = dino().eval()
    views, _ = inputs(method)
    images = method.global_input(views[0])
    masks = torch.zeros(len(images), 14, 14, dtype=torch.bool)
    masks[:, 3, 4] = True
    other = images.clone()
    other[:, :, 24:32, 32:40] = 1.0  # the same patch in pixels
    with torch.no_grad():
        patches = MaskedPatches.of(masks, masks.device)
        hidden = [method.student(batch, patches, hide=True) for batch in (images, other)]
        shown = [method.student(batch, patches) for batch in (images, other)]
    torch.testing.assert_close(hidden[0].patch_logits, hidden[1].patch_logits)
    assert not torch.allclose(shown[0].patch_logits, shown[1].patch_logits)
    assert shown[0].patch_logits.shape == (len(images), 16)


def test_only_masked_patches_count_in_the_loss_of_patches():
    method = dino(mask_probability=0.0)  # of one view: there is always one
    captured: dict[str, torch.Tensor] = {}

    def keep(module, arguments, output) -> None:
        captured["teacher"], captured["student"], patches = arguments[:3]
        captured["masks"] = patches.masks
        captured["loss"] = output

    method.ibot_loss.register_forward_hook(keep)
    metrics = method(*inputs(method), 0, 1)
    count = int(captured["masks"].sum())
    assert 0 < count < 14 * 14
    assert captured["masks"].flatten(1).any(dim=1).sum() == 1
    assert captured["teacher"].shape == captured["student"].shape == (count, 16)
    terms = -(captured["teacher"] / 0.04).softmax(1) * (captured["student"] / 0.1).log_softmax(1)
    torch.testing.assert_close(captured["loss"], terms.sum(1).mean() / len(captured["masks"]))
    assert metrics["ibot"] == captured["loss"]


def test_the_loss_of_patches_is_that_of_lightly():
    """Which indexes by the mask."""
    torch.manual_seed(0)
    masks = torch.rand(3, 4, 4) < 0.5
    masks[1] = False
    patches = MaskedPatches.of(masks, masks.device)
    ours, theirs = MaskedPatchLoss(8), IBOTPatchLoss(8)
    for _ in range(2):  # the second time with a center
        teacher, student = torch.randn(2, int(masks.sum()), 8)
        expected = theirs(teacher, student, masks, teacher_temp=0.05)
        torch.testing.assert_close(ours(teacher, student, patches, 0.05), expected)
    torch.testing.assert_close(ours.center.value, theirs.center.value)


def test_a_step_of_dino_waits_for_nothing_on_the_device():
    """But for the masks, whose indices are made on the CPU."""
    method = dino()
    views, numbers = inputs(method)
    with ReadsOfDevice() as reads:
        method(views, numbers, 0, 8)["loss"].backward()
    assert reads.names == ["aten.nonzero.default"]


def test_weights_of_the_parts_of_the_loss():
    method = dino(ibot=2.0, koleo=0.5)
    metrics = method(*inputs(method), 0, 1)
    expected = metrics["dino"] + 2.0 * metrics["ibot"] + 0.5 * metrics["koleo"]
    torch.testing.assert_close(metrics["loss"].detach(), expected)


@pytest.mark.parametrize("count", [0, 1, 64])
def test_block_masks(count):
    config = DinoConfig(min_mask_ratio=0.2, max_mask_ratio=0.4)
    draws = RandomDraws.generated(torch.Generator().manual_seed(0), count)
    masks = block_masks(draws, 14, config)
    assert masks.shape == (count, 14, 14)
    shares = masks.float().mean(dim=(1, 2))
    if count:
        masked = shares > 0
        assert masked.any()
        assert shares[masked].max() <= 0.45
    if count > 1:
        assert 0.3 < masked.float().mean() < 0.7
        assert 0.15 < shares[masked].mean() < 0.4


def test_the_encoder_gets_a_quarter_and_the_loss_the_rest():
    method = mae(mask_ratio=0.75).eval()
    views, numbers = inputs(method)
    order = numbers.argsort(dim=1)
    lengths: list[int] = []
    drawn: list[torch.Tensor] = []
    block, draw = method.encoder.vit.blocks[0], method.decoder_pred
    block.register_forward_hook(lambda _, given, output: lengths.append(given[0].shape[1]))
    draw.register_forward_hook(lambda _, given, output: drawn.append(output.detach()))
    faces = [views[0], other_patch(views[0], order[:, 0]), other_patch(views[0], order[:, -1])]
    plain, shown, hidden = (method([face], numbers, 0, 1)["loss"] for face in faces)
    assert lengths == [1 + 49] * 3
    assert not torch.allclose(drawn[1], drawn[0])
    torch.testing.assert_close(drawn[2], drawn[0])  # masked patches are not seen,
    assert hidden != plain  # but judge what was drawn
    assert shown != plain


def other_patch(faces: torch.Tensor, patches: torch.Tensor) -> torch.Tensor:
    """Faces (B, 1, 112, 112) whose patch of index ``patches`` (B,) is another one."""
    changed = faces.clone()
    for face, index in zip(changed, patches.tolist(), strict=True):
        row, column = 8 * (index // 14), 8 * (index % 14)
        face[:, row : row + 8, column : column + 8] = torch.rand(8, 8)
    return changed


def test_perfect_reconstruction_has_no_loss(monkeypatch):
    method = mae()
    views, numbers = inputs(method)
    pixels = method.input(views[0])[:, 0]
    patches = pixels.unflatten(1, (14, 8)).unflatten(3, (14, 8)).permute(0, 1, 3, 2, 4)
    patches = patches.flatten(3).flatten(1, 2)  # (B, 196, 64)
    truth = (patches - patches.mean(2, keepdim=True)) / (patches.var(2, keepdim=True) + 1e-6).sqrt()

    def perfect(tokens, kept, masked):
        return truth.gather(1, masked[..., None].expand(-1, -1, 64))

    monkeypatch.setattr(method, "_decode", perfect)
    assert method(views, numbers, 0, 1)["loss"].item() == pytest.approx(0, abs=1e-8)


@pytest.mark.parametrize(
    ("features", "low", "high"),
    [
        (torch.ones(1, 4), 0.0, 0.0),
        (torch.ones(8, 4) * torch.arange(1.0, 9.0)[:, None], 0.0, 1e-6),  # one direction
        (torch.randn(500, 64, generator=torch.Generator().manual_seed(0)), 0.95, 1.0),
    ],
)
def test_feature_std_detects_a_collapse(features, low, high):
    assert low <= feature_std(features).item() <= high


def test_knn_votes_are_weighted():
    bank = torch.nn.functional.normalize(torch.tensor([[1.0, 0.1], [1, 0.2], [0, 1]]), dim=1)
    labels = torch.tensor([1, 1, 2])
    assert knn_classify(torch.zeros(0, 2), bank, labels).tolist() == []
    assert knn_classify(torch.eye(2), bank, labels).tolist() == [1, 2]


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (
            lambda: make_pretraining_backbone("vits9"),
            "backbone: expected one of .*vits8.*, found 'vits9'",
        ),
        (lambda: make_pretraining_backbone("efficientnet_lite0"), "backbone: expected one of"),
        (
            lambda: make_pretraining_backbone("tiny", weights="no.safetensors"),
            "no.safetensors: cannot be read",
        ),
        (
            lambda: dino(local_crop_size_px=50),
            "local_crop_size_px: expected a multiple of the patch size of 8 px, found 50",
        ),
        (
            lambda: DinoConfig(local_crop_min_area=0.6),
            "local_crop_min_area: expected at most local_crop_max_area, found 0.6",
        ),
        (
            lambda: DinoConfig(min_mask_ratio=0.6),
            "min_mask_ratio: expected at most max_mask_ratio, found 0.6",
        ),
        (lambda: MaeConfig(decoder_heads=7), "decoder_width: expected a multiple of 4 and of 7"),
    ],
)
def test_errors_are_reported_in_one_line(make, words):
    with pytest.raises(ValueError, match=words) as caught:
        make()
    assert "\n" not in str(caught.value)
