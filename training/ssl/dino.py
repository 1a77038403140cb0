"""DINO (Caron et al., 2021) with the masked patches of iBOT (Zhou et al., 2022) and KoLeo.

As in DINOv2 (Oquab et al., 2024, section 4): the teacher is a moving average of the student and
gets the global views only, without a mask. Teacher outputs are centered, not balanced by
Sinkhorn-Knopp.
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

from fer_ros.config import ValidatedConfig, config_field
from fer_ros.inference.model_store import InputSpec
from fer_ros.models.wrapper import FaceInput
from fer_ros.types import CROP_SIZE_PX
from training.augment import RandomDraws
from training.ssl.base import SelfSupervisedMethod, feature_std, grid_side
from training.ssl.multicrop import ViewSpec

NUM_GLOBAL_CROPS = 2
_NUM_BLOCKS = 4  # of masked patches in an image
_MAX_ASPECT_RATIO = 10 / 3  # of a block (BEiT)
_MASK_DRAWS = 2 + 3 * _NUM_BLOCKS


@dataclass(frozen=True)
class DinoConfig(ValidatedConfig):
    """Defaults for 10^4 to 10^6 faces; DINOv2 has 65,536 prototypes for 10^8 images."""

    prototypes: int = config_field(4096, "outputs of the head", 2, 10**6)
    hidden: int = config_field(1024, "width of the head", 1, 65536)
    bottleneck: int = config_field(256, "width before the prototypes", 1, 65536)
    local_crops: int = config_field(
        6, "local views of each face, in addition to two global ones", 0, 64
    )
    local_crop_size_px: int = config_field(48, "side of a local view", 8, 1024)
    local_crop_min_area: float = config_field(0.2, "smallest fraction of the crop", 0.01, 1.0)
    local_crop_max_area: float = config_field(0.5, "largest fraction of the crop", 0.01, 1.0)
    student_temperature: float = config_field(
        0.1, "temperature of the student's softmax", 0.001, 10.0
    )
    teacher_temperature_start: float = config_field(
        0.04, "temperature of the teacher's softmax, at first", 0.001, 10
    )
    teacher_temperature: float = config_field(
        0.05, "temperature of the teacher's softmax, after the warmup", 0.001, 10.0
    )
    teacher_temperature_warmup: float = config_field(
        0.3, "fraction of the steps in which the teacher's temperature rises", 0.0, 1.0
    )
    teacher_momentum: float = config_field(
        0.99, "momentum of the teacher's weights, at first; a cosine takes it to 1", 0.0, 1.0
    )
    freeze_epochs: int = config_field(1, "epochs with fixed prototypes", 0, 10000)
    ibot: float = config_field(1.0, "weight of the loss of masked patches", 0.0, 100.0)
    mask_probability: float = config_field(
        0.5, "probability that a global view is masked", 0.0, 1.0
    )
    min_mask_ratio: float = config_field(0.1, "smallest fraction of masked patches", 0.0, 1.0)
    max_mask_ratio: float = config_field(0.5, "largest fraction of masked patches", 0.0, 1.0)
    koleo: float = config_field(0.1, "weight of the KoLeo loss", 0.0, 100)

    def __post_init__(self) -> None:
        super().__post_init__()
        for low, high in (
            ("local_crop_min_area", "local_crop_max_area"),
            ("min_mask_ratio", "max_mask_ratio"),
        ):
            if getattr(self, low) > getattr(self, high):
                raise ValueError(f"{low}: expected at most {high}, found {getattr(self, low)}")


class MaskedPatches(NamedTuple):
    """The masked patches of a batch, on its device.

    ``masks`` (B, grid, grid) bool; ``images`` and ``positions`` (M,): the image of each masked
    patch and its index in the grid; ``weights`` (M,): 1 / number of masked patches of its image.
    """

    masks: Tensor
    images: Tensor
    positions: Tensor
    weights: Tensor

    @classmethod
    def of(cls, masks: Tensor, device: torch.device) -> "MaskedPatches":
        """Index masks (B, grid, grid) on the CPU: indexing by them on a GPU waits for it."""
        images, positions = masks.flatten(1).nonzero(as_tuple=True)
        weights = 1.0 / masks.sum(dim=(1, 2))[images]
        return cls(
            *(part.to(device, non_blocking=True) for part in (masks, images, positions, weights))
        )


class MaskedPatchLoss(IBOTPatchLoss):
    """The loss of lightly, with the weights of the patches instead of their masks."""

    def forward(
        self,
        teacher_logits: Tensor,
        student_logits: Tensor,
        patches: MaskedPatches,
        temperature: float,
    ) -> Tensor:
        """Mean over images of the mean cross-entropy of their masked patches; logits (M, K)."""
        targets = F.softmax((teacher_logits - self.center.value) / temperature, dim=-1)
        log_probabilities = F.log_softmax(student_logits / self.student_temp, dim=-1)
        losses = -(targets * log_probabilities).sum(dim=-1)
        self.center.update(teacher_logits)
        return (losses * patches.weights).sum() / len(patches.masks)


class DinoOutput(NamedTuple):
    """Features (B, dim) and logits (B, K) of images, and logits (M, K) of masked patches."""

    features: Tensor
    image_logits: Tensor
    patch_logits: Tensor


class DinoNetwork(nn.Module):
    """Encoder and projection head of student or teacher."""

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

    def forward(
        self, images: Tensor, patches: MaskedPatches | None = None, hide: bool = False
    ) -> DinoOutput:
        """``patches`` to return logits of; ``hide``: and to mask."""
        prefix = self.encoder.vit.num_prefix_tokens
        if patches is None:
            tokens = self.encoder(images)
            return DinoOutput(tokens[:, 0], self.head(tokens[:, 0]), tokens.new_zeros(0, 0))
        mask = F.pad(patches.masks.flatten(1), (prefix, 0)) if hide else None
        tokens = self.encoder(images, mask=mask)
        features = tokens[:, 0]
        selected = tokens[patches.images, prefix + patches.positions]
        logits = self.head(torch.cat([features, selected]))
        return DinoOutput(features, logits[: len(features)], logits[len(features) :])


class Dino(SelfSupervisedMethod):
    """Student, teacher and the losses between them."""

    def __init__(
        self, trunk: VisionTransformer, side_px: int, area: float, config: DinoConfig
    ) -> None:
        """``area``: smallest fraction of the crop in global views.

        Raises ValueError when a local view does not consist of whole patches.
        """
        super().__init__()
        patch_px = trunk.patch_embed.patch_size[0]
        if config.local_crop_size_px % patch_px:
            raise ValueError(
                f"dino.local_crop_size_px: expected a multiple of the patch size of {patch_px} px, "
                f"found {config.local_crop_size_px}"
            )
        self.config, self.grid = config, grid_side(trunk)
        local = ViewSpec(
            config.local_crop_size_px, config.local_crop_min_area, config.local_crop_max_area
        )
        self.view_specs = [ViewSpec(CROP_SIZE_PX, area, 1.0)] * NUM_GLOBAL_CROPS
        self.view_specs += [local] * config.local_crops
        self.num_random_draws = NUM_GLOBAL_CROPS * _MASK_DRAWS
        self.global_input = FaceInput(InputSpec(size_px=side_px))
        self.local_input = FaceInput(InputSpec(size_px=config.local_crop_size_px))
        self.student = DinoNetwork(trunk, config)
        self.teacher = DinoNetwork(copy.deepcopy(trunk), config).requires_grad_(False).eval()
        self.teacher.load_state_dict(self.student.state_dict())
        self.dino_loss = DINOLoss(config.prototypes, student_temp=config.student_temperature)
        self.ibot_loss = MaskedPatchLoss(config.prototypes, student_temp=config.student_temperature)
        self.koleo_loss = KoLeoLoss()

    @property
    def trunk(self) -> VisionTransformer:
        """The teacher's encoder, which is the better one (Caron et al., 2021, section 5.2)."""
        return self.teacher.encoder.vit

    def encoders(self) -> list[MaskedVisionTransformerTIMM]:
        """Those of student and teacher."""
        return [self.student.encoder, self.teacher.encoder]

    def train(self, mode: bool = True) -> "Dino":
        """Set the mode of the student; the teacher stays in evaluation mode."""
        super().train(mode)
        self.teacher.eval()
        return self

    def forward(
        self, views: list[Tensor], numbers: Tensor, step: int, steps: int
    ) -> dict[str, Tensor]:
        """``loss`` and its parts. The KoLeo loss is over the images of this process."""
        images = self.global_input(torch.cat(views[:NUM_GLOBAL_CROPS]))
        draws = RandomDraws(iter(torch.cat(numbers.chunk(NUM_GLOBAL_CROPS, dim=1)).unbind(1)))
        masks = block_masks(draws, self.grid, self.config)
        patches = MaskedPatches.of(masks, images.device)
        with torch.no_grad():
            teacher_out = self.teacher(images, patches)
        student_out = self.student(images, patches, hide=True)
        student_logits = list(student_out.image_logits.float().chunk(NUM_GLOBAL_CROPS))
        if self.config.local_crops:
            local_out = self.student(self.local_input(torch.cat(views[NUM_GLOBAL_CROPS:])))
            student_logits += local_out.image_logits.float().chunk(self.config.local_crops)
        with torch.autocast(images.device.type, enabled=False):
            temperature = self._teacher_temperature(step, steps)
            return self._losses(teacher_out, student_out, student_logits, patches, temperature)

    def _losses(
        self,
        teacher_out: DinoOutput,
        student_out: DinoOutput,
        student_logits: list[Tensor],
        patches: MaskedPatches,
        temperature: float,
    ) -> dict[str, Tensor]:
        teacher_logits = list(teacher_out.image_logits.float().chunk(NUM_GLOBAL_CROPS))
        dino = self.dino_loss(teacher_logits, student_logits, teacher_temp=temperature)
        ibot = self.ibot_loss(
            teacher_out.patch_logits.float(),
            student_out.patch_logits.float(),
            patches,
            temperature,
        )
        features = student_out.features.float().chunk(NUM_GLOBAL_CROPS)
        koleo = torch.stack([self.koleo_loss(view) for view in features]).sum()
        return {
            "loss": dino + self.config.ibot * ibot + self.config.koleo * koleo,
            "dino": dino.detach(),
            "ibot": ibot.detach(),
            "koleo": koleo.detach(),
            "feature_std": feature_std(teacher_out.features.chunk(NUM_GLOBAL_CROPS)[0]),
        }

    def _teacher_temperature(self, step: int, steps: int) -> float:
        config = self.config
        warmup = config.teacher_temperature_warmup * steps
        progress = min(1.0, step / warmup) if warmup else 1.0
        start = config.teacher_temperature_start
        return start + progress * (config.teacher_temperature - start)

    def features(self, crops: Tensor) -> Tensor:
        """Class token of the teacher."""
        return self.teacher.encoder.encode(self.global_input(crops))[:, 0]

    def after_backward(self, epoch: int) -> None:
        """Keep the prototypes fixed in the first epochs."""
        self.student.head.cancel_last_layer_gradients(epoch)

    def after_step(self, step: int, steps: int) -> None:
        """Update the teacher."""
        momentum = cosine_schedule(step, steps, self.config.teacher_momentum, 1.0)
        update_momentum(self.student, self.teacher, momentum)


def block_masks(draws: RandomDraws, grid: int, config: DinoConfig) -> Tensor:
    """Masked patches (B, grid, grid): four blocks in some images, in at least one of the batch.

    Blocks may overlap: the masked fraction is a little smaller than the one drawn.
    """
    happens = draws.happens(config.mask_probability)
    happens[:1] |= ~happens.any()
    area = draws.uniform(config.min_mask_ratio, config.max_mask_ratio) * grid**2 / _NUM_BLOCKS
    masks = torch.zeros(len(happens), grid, grid, dtype=torch.bool)
    for _ in range(_NUM_BLOCKS):
        ratio = draws.uniform(-math.log(_MAX_ASPECT_RATIO), math.log(_MAX_ASPECT_RATIO)).exp()
        rows = _random_interval(draws, (area * ratio).sqrt(), grid)
        columns = _random_interval(draws, (area / ratio).sqrt(), grid)
        masks |= rows[:, :, None] & columns[:, None, :]
    return masks & happens[:, None, None]


def _random_interval(draws: RandomDraws, length: Tensor, grid: int) -> Tensor:
    """(B, grid) bool: true in an interval of about ``length`` (B,), at least 1."""
    length = length.round().clamp(1, grid)
    start = (draws.uniform(0.0, 1.0) * (grid - length + 1)).floor()
    positions = torch.arange(grid)
    return (positions >= start[:, None]) & (positions < (start + length)[:, None])
