"""A student that learns to say of parts of a face what its teacher says of the whole.

DINO (Caron et al., 2021) with the masked patches of iBOT (Zhou et al., 2022) and KoLeo, as in
DINOv2 (Oquab et al., 2024, section 4): the teacher is a moving average of the student and sees the
large views only, without a mask. Outputs are centred, not balanced by Sinkhorn-Knopp.
"""

import copy
import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F  # noqa: N812
from lightly.loss import DINOLoss, IBOTPatchLoss, KoLeoLoss
from lightly.models.modules import DINOProjectionHead, MaskedVisionTransformerTIMM
from lightly.models.utils import update_momentum
from lightly.utils.scheduler import cosine_schedule
from timm.models import VisionTransformer
from torch import Tensor, nn

from fer_ros.config import Checked, setting
from fer_ros.model.network import FaceInput
from fer_ros.types import CROP_SIZE_PX
from fer_ros.weights import InputSpec
from training.augment import Draws
from training.method import Method, feature_std, grid_side
from training.multicrop import Shot

_LARGE = 2  # views that the teacher sees
_BLOCKS = 4  # of masked patches in a picture
_LONGEST = 10 / 3  # height of a block over its width, or the other way round (BEiT)
_MASK_NUMBERS = 2 + 3 * _BLOCKS


@dataclass(frozen=True)
class DinoConfig(Checked):
    """For some 10^4 to 10^6 faces; DINOv2 has 65,536 prototypes for 10^8 pictures."""

    prototypes: int = setting(4096, "outputs of the head", 2, 10**6)
    hidden: int = setting(1024, "width of the head", 1, 65536)
    bottleneck: int = setting(256, "width before the prototypes", 1, 65536)
    small_views: int = setting(6, "of each face, beside two large ones", 0, 64)
    small_px: int = setting(48, "side of a small view", 8, 1024)
    small_from: float = setting(0.2, "smallest share of the crop that it shows", 0.01, 1.0)
    small_to: float = setting(0.5, "largest share of the crop that it shows", 0.01, 1.0)
    student_temperature: float = setting(0.1, "of its softmax", 0.001, 10.0)
    first_temperature: float = setting(
        0.04, "of the teacher's softmax, in the beginning", 0.001, 10
    )
    temperature: float = setting(0.05, "of the teacher's softmax, later", 0.001, 10.0)
    temperature_warmup: float = setting(0.3, "share of the steps in which it rises", 0.0, 1.0)
    momentum: float = setting(0.99, "of the teacher; a cosine takes it to 1", 0.0, 1.0)
    freeze_epochs: int = setting(1, "in which the prototypes do not change", 0, 10000)
    ibot: float = setting(1.0, "weight of the loss of masked patches", 0.0, 100.0)
    masked_pictures: float = setting(0.5, "share of large views that are masked", 0.0, 1.0)
    mask_from: float = setting(0.1, "smallest share of patches that a mask hides", 0.0, 1.0)
    mask_to: float = setting(0.5, "largest share of patches that a mask hides", 0.0, 1.0)
    koleo: float = setting(0.1, "weight of the loss of features that lie close together", 0.0, 100)

    def __post_init__(self) -> None:
        super().__post_init__()
        for low, high in (("small_from", "small_to"), ("mask_from", "mask_to")):
            if getattr(self, low) > getattr(self, high):
                raise ValueError(f"{low}: expected at most {high}, got {getattr(self, low)}")


class Said(NamedTuple):
    """Features (B, dim) of pictures, and logits (B, K) and (M, K) of them and of masked patches."""

    features: Tensor
    picture: Tensor
    patches: Tensor


class Speaker(nn.Module):
    """A trunk and the head behind it: student or teacher."""

    def __init__(self, trunk: VisionTransformer, config: DinoConfig) -> None:
        super().__init__()
        self.encoder = MaskedVisionTransformerTIMM(
            trunk, weight_initialization="skip", pos_embed_initialization="skip"
        )
        self.head = DINOProjectionHead(
            trunk.embed_dim,
            config.hidden,
            config.bottleneck,
            config.prototypes,
            freeze_last_layer=config.freeze_epochs,
        )

    def forward(self, pictures: Tensor, masks: Tensor | None = None, hide: bool = False) -> Said:
        """``masks`` (B, grid, grid): the patches that are asked for; ``hide``: and not shown."""
        prefix = self.encoder.vit.num_prefix_tokens
        if masks is None:
            masks = torch.zeros(len(pictures), 0, 0, dtype=torch.bool, device=pictures.device)
        wanted = masks.flatten(1)
        tokens = self.encoder(pictures, mask=F.pad(wanted, (prefix, 0)) if hide else None)
        features = tokens[:, 0]
        patches = tokens[:, prefix : prefix + wanted.shape[1]][wanted]
        logits = self.head(torch.cat([features, patches]))
        return Said(features, logits[: len(features)], logits[len(features) :])


class Dino(Method):
    """Student, teacher and what they disagree about."""

    def __init__(
        self, trunk: VisionTransformer, side_px: int, area: float, config: DinoConfig
    ) -> None:
        """``area``: smallest share of the crop in large views. ValueError: sizes do not fit."""
        super().__init__()
        patch_px = trunk.patch_embed.patch_size[0]
        if config.small_px % patch_px:
            raise ValueError(
                f"dino.small_px: expected a multiple of the patches of {patch_px} px, "
                f"got {config.small_px}"
            )
        self.config, self.grid = config, grid_side(trunk)
        small = Shot(config.small_px, config.small_from, config.small_to)
        self.shots = [Shot(CROP_SIZE_PX, area, 1.0)] * _LARGE + [small] * config.small_views
        self.numbers = _LARGE * _MASK_NUMBERS
        self.large = FaceInput(InputSpec(size_px=side_px))
        self.small = FaceInput(InputSpec(size_px=config.small_px))
        self.student = Speaker(trunk, config)
        self.teacher = Speaker(copy.deepcopy(trunk), config).requires_grad_(False).eval()
        self.teacher.load_state_dict(self.student.state_dict())
        self.pictures = DINOLoss(config.prototypes, student_temp=config.student_temperature)
        self.patches = IBOTPatchLoss(config.prototypes, student_temp=config.student_temperature)
        self.apart = KoLeoLoss()

    @property
    def trunk(self) -> VisionTransformer:
        """The teacher's: it is the better one (Caron et al., 2021, section 5.2)."""
        return self.teacher.encoder.vit

    def encoders(self) -> list[MaskedVisionTransformerTIMM]:
        """The student's and the teacher's."""
        return [self.student.encoder, self.teacher.encoder]

    def train(self, mode: bool = True) -> "Dino":
        """The teacher leaves nothing out."""
        super().train(mode)
        self.teacher.eval()
        return self

    def forward(
        self, views: list[Tensor], numbers: Tensor, step: int, steps: int
    ) -> dict[str, Tensor]:
        """``loss`` and its parts; KoLeo compares the pictures of this process only."""
        large = self.large(torch.cat(views[:_LARGE]))
        parts = numbers.chunk(_LARGE, dim=1)
        masks = block_masks(Draws(torch.cat(parts)), self.grid, self.config).to(large.device)
        with torch.no_grad():
            taught = self.teacher(large, masks)
        said = self.student(large, masks, hide=True)
        answers = list(said.picture.float().chunk(_LARGE))
        if self.config.small_views:
            small = self.student(self.small(torch.cat(views[_LARGE:])))
            answers += small.picture.float().chunk(self.config.small_views)
        with torch.autocast(large.device.type, enabled=False):
            return self._losses(taught, said, answers, masks, self._temperature(step, steps))

    def _losses(
        self, taught: Said, said: Said, answers: list[Tensor], masks: Tensor, temperature: float
    ) -> dict[str, Tensor]:
        truth = list(taught.picture.float().chunk(_LARGE))
        pictures = self.pictures(truth, answers, teacher_temp=temperature)
        patches = self.patches(
            taught.patches.float(), said.patches.float(), masks, teacher_temp=temperature
        )
        views = said.features.float().chunk(_LARGE)
        apart = torch.stack([self.apart(each) for each in views]).sum()
        return {
            "loss": pictures + self.config.ibot * patches + self.config.koleo * apart,
            "dino": pictures.detach(),
            "ibot": patches.detach(),
            "koleo": apart.detach(),
            "feature_std": feature_std(taught.features.chunk(_LARGE)[0]),
        }

    def _temperature(self, step: int, steps: int) -> float:
        rising = self.config.temperature_warmup * steps
        share = min(1.0, step / rising) if rising else 1.0
        first = self.config.first_temperature
        return first + share * (self.config.temperature - first)

    def features(self, crops: Tensor) -> Tensor:
        """The class token of the teacher."""
        return self.teacher.encoder.encode(self.large(crops))[:, 0]

    def after_backward(self, epoch: int) -> None:
        """In the beginning the prototypes stay as they are."""
        self.student.head.cancel_last_layer_gradients(epoch)

    def after_step(self, step: int, steps: int) -> None:
        """The teacher follows."""
        momentum = cosine_schedule(step, steps, self.config.momentum, 1.0)
        update_momentum(self.student, self.teacher, momentum)


def block_masks(draws: Draws, grid: int, config: DinoConfig) -> Tensor:
    """Which patches (B, grid, grid) are hidden: four blocks in some pictures, in one at least.

    Blocks may overlap, so that a mask hides a little less than was drawn.
    """
    happens = draws.happens(config.masked_pictures)
    happens[:1] |= ~happens.any()
    area = draws.uniform(config.mask_from, config.mask_to) * grid**2 / _BLOCKS
    masks = torch.zeros(len(happens), grid, grid, dtype=torch.bool)
    for _ in range(_BLOCKS):
        ratio = draws.uniform(-math.log(_LONGEST), math.log(_LONGEST)).exp()
        rows = _stretch(draws, (area * ratio).sqrt(), grid)
        columns = _stretch(draws, (area / ratio).sqrt(), grid)
        masks |= rows[:, :, None] & columns[:, None, :]
    return masks & happens[:, None, None]


def _stretch(draws: Draws, length: Tensor, grid: int) -> Tensor:
    """(B, grid): true for about ``length`` (B,) neighbours, one at least."""
    length = length.round().clamp(1, grid)
    start = (draws.uniform(0.0, 1.0) * (grid - length + 1)).floor()
    places = torch.arange(grid)
    return (places >= start[:, None]) & (places < (start + length)[:, None])
