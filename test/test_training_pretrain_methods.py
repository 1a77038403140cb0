"""What is learned without labels: shapes, masks, the teacher, the spread of features."""

import copy

import pytest
import torch
from pretrain_tools import TINY, TINY_14, dino, inputs, mae

from fer_ros.model.image_stream import IMAGE_STREAMS
from training.augment import Draws
from training.dino import DinoConfig, block_masks
from training.knn import vote
from training.mae import MaeConfig
from training.method import feature_std, make_stream

MAKERS = {"dino": dino, "mae": mae}


@pytest.fixture(autouse=True)
def tiny_streams(monkeypatch):
    monkeypatch.setitem(IMAGE_STREAMS, "tiny", TINY)
    monkeypatch.setitem(IMAGE_STREAMS, "tiny14", TINY_14)


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
@pytest.mark.parametrize(("stream", "change"), [("tiny", 0), ("tiny14", 56)])
def test_the_loss_falls(make, stream, change):
    method = make(stream, small_px=change) if change and make is dino else make(stream)
    if make is dino:  # the targets stay
        method.pictures.center_momentum = method.patches.center.momentum = 1.0
    views, numbers = inputs(method)
    optimizer = torch.optim.AdamW([p for p in method.parameters() if p.requires_grad], lr=3e-3)
    losses = []
    for _ in range(8):
        found = method(views, numbers, 0, 8)
        assert all(value.ndim == 0 for value in found.values())
        optimizer.zero_grad()
        found["loss"].backward()
        losses.append(found["loss"].item())
        optimizer.step()
    assert losses[-1] < losses[0]
    assert method.features(torch.rand(3, 1, 112, 112)).shape == (3, 24)


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_all_that_is_trained_gets_a_gradient(make):
    """Several processes would wait for what gets none."""
    method = make()
    method(*inputs(method), 0, 1)["loss"].backward()
    trained = {name: value for name, value in method.named_parameters() if value.requires_grad}
    assert trained
    assert [name for name, value in trained.items() if value.grad is None] == []


def test_the_teacher_moves_with_the_student_only():
    method = dino(momentum=0.9)
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
    method = dino(first_temperature=0.02, temperature=0.06, temperature_warmup=0.5)
    found = [method._temperature(step, 8) for step in (0, 2, 4, 8)]
    assert found == pytest.approx([0.02, 0.04, 0.06, 0.06])
    assert dino(temperature_warmup=0.0)._temperature(0, 8) == 0.05


def test_a_masked_patch_is_hidden_from_the_student():
    method = dino().eval()
    views, _ = inputs(method)
    pictures = method.large(views[0])
    masks = torch.zeros(len(pictures), 14, 14, dtype=torch.bool)
    masks[:, 3, 4] = True
    other = pictures.clone()
    other[:, :, 24:32, 32:40] = 1.0  # the same patch in pixels
    with torch.no_grad():
        hidden = [method.student(each, masks, hide=True) for each in (pictures, other)]
        shown = [method.student(each, masks) for each in (pictures, other)]
    torch.testing.assert_close(hidden[0].patches, hidden[1].patches)
    assert not torch.allclose(shown[0].patches, shown[1].patches)
    assert shown[0].patches.shape == (len(pictures), 16)


def test_only_masked_patches_count_in_the_loss_of_patches():
    method = dino(masked_pictures=0.0)  # of one view: there is always one
    said: dict[str, torch.Tensor] = {}

    def keep(module, arguments, output) -> None:
        said["teacher"], said["student"], said["masks"] = arguments[:3]
        said["loss"] = output

    method.patches.register_forward_hook(keep)
    found = method(*inputs(method), 0, 1)
    count = int(said["masks"].sum())
    assert 0 < count < 14 * 14
    assert said["masks"].flatten(1).any(dim=1).sum() == 1
    assert said["teacher"].shape == said["student"].shape == (count, 16)
    terms = -(said["teacher"] / 0.04).softmax(1) * (said["student"] / 0.1).log_softmax(1)
    torch.testing.assert_close(said["loss"], terms.sum(1).mean() / len(said["masks"]))
    assert found["ibot"] == said["loss"]


def test_weights_of_the_parts_of_the_loss():
    method = dino(ibot=2.0, koleo=0.5)
    found = method(*inputs(method), 0, 1)
    expected = found["dino"] + 2.0 * found["ibot"] + 0.5 * found["koleo"]
    torch.testing.assert_close(found["loss"].detach(), expected)


@pytest.mark.parametrize("count", [0, 1, 64])
def test_block_masks(count):
    config = DinoConfig(mask_from=0.2, mask_to=0.4)
    numbers = torch.rand(count, 14, generator=torch.Generator().manual_seed(0))
    masks = block_masks(Draws(numbers), 14, config)
    assert masks.shape == (count, 14, 14)
    shares = masks.float().mean(dim=(1, 2))
    if count:
        masked = shares > 0
        assert masked.any()
        assert shares[masked].max() <= 0.45
    if count > 1:
        assert 0.3 < masked.float().mean() < 0.7
        assert 0.15 < shares[masked].mean() < 0.4


def test_the_encoder_sees_a_quarter_and_the_rest_judges():
    method = mae(masked=0.75).eval()
    views, numbers = inputs(method)
    order = numbers.argsort(dim=1)
    lengths: list[int] = []
    drawn: list[torch.Tensor] = []
    block, draw = method.encoder.vit.blocks[0], method.draw
    block.register_forward_hook(lambda _, given, found: lengths.append(given[0].shape[1]))
    draw.register_forward_hook(lambda _, given, found: drawn.append(found.detach()))
    faces = [views[0], other_patch(views[0], order[:, 0]), other_patch(views[0], order[:, -1])]
    plain, shown, hidden = (method([each], numbers, 0, 1)["loss"] for each in faces)
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


def test_drawing_each_patch_as_it_is_costs_nothing(monkeypatch):
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
def test_a_collapse_shows(features, low, high):
    assert low <= feature_std(features).item() <= high


def test_neighbours_vote():
    bank = torch.nn.functional.normalize(torch.tensor([[1.0, 0.1], [1, 0.2], [0, 1]]), dim=1)
    labels = torch.tensor([1, 1, 2])
    assert vote(torch.zeros(0, 2), bank, labels).tolist() == []
    assert vote(torch.eye(2), bank, labels).tolist() == [1, 2]


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: make_stream("vits9"), "stream: expected one of .*vits8.*, got 'vits9'"),
        (lambda: make_stream("efficientnet_lite0"), "stream: expected one of"),
        (lambda: make_stream("tiny", weights="no.safetensors"), "no.safetensors: cannot be read"),
        (lambda: dino(small_px=50), "small_px: expected a multiple of the patches of 8 px, got 50"),
        (lambda: DinoConfig(small_from=0.6), "small_from: expected at most small_to, got 0.6"),
        (lambda: DinoConfig(mask_from=0.6), "mask_from: expected at most mask_to, got 0.6"),
        (lambda: MaeConfig(decoder_heads=7), "decoder_width: expected a multiple of 4 and of 7"),
    ],
)
def test_what_is_wrong_is_one_line(make, words):
    with pytest.raises(ValueError, match=words) as caught:
        make()
    assert "\n" not in str(caught.value)
