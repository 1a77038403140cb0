"""``python -m training.train EXPERIMENT.yaml DATA OUT``: a classifier from votes.

DATA holds the packs of ``training.prepare``. OUT gets ``run.yaml``, ``metrics.csv``, pictures,
``last.pt`` and, in ``OUT/model/<name of OUT>``, the model folder of the best epoch so far, by
accuracy on the validation split, which the robot loads. The same command goes on with a run that
was killed, from the last epoch that was completed, to the same numbers.

Several GPUs or machines: ``torchrun --nproc-per-node N -m training.train ...``; ``batch`` is that
of all processes together.
"""

import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from timm.utils import ModelEmaV3
from torch import Tensor, nn
from torchmetrics.functional.classification import multiclass_confusion_matrix
from tqdm import tqdm

from fer_ros.evaluation.metrics import mean_recall
from fer_ros.labels import EMOTIONS
from fer_ros.model.checkpoint import save_model
from fer_ros.model.network import FaceNetwork
from training.augment import Draws, centre_maps, degrade, mix, random_maps, view
from training.data import Faces, load_splits, some_of
from training.distill import taught
from training.figures import draw_classes, draw_confusion, draw_curves
from training.losses import Loss, clip_gradient, make_targets
from training.networks import build, make_optimizer, make_schedule, settled
from training.processes import World, epoch_numbers, world
from training.runlog import RunLog, write_settings
from training.settings import TrainConfig, experiment_parser, read_config
from training.state import RunState


class Run:
    """All that an experiment holds while it runs."""

    def __init__(
        self, config: TrainConfig, faces: Faces, network: FaceNetwork, place: World
    ) -> None:
        self.config, self.place = config, place
        self.faces = faces.to(place.device)
        self.network = network.to(place.device)
        self.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        if config.compile:
            self.network.compile()
        self.stepped = place.spread(self.network)
        self.ema = ModelEmaV3(self.network, decay=config.ema_decay, use_warmup=True)
        self.optimizer = make_optimizer(self.network, config.optimizer)
        self.steps = len(faces) // config.batch
        self.schedule = make_schedule(self.optimizer, config.optimizer, config.epochs * self.steps)
        prior = faces.targets.mean(dim=0)
        self.loss = Loss(prior, config.loss)


def epoch_order(faces: Faces, balanced: bool, generator: torch.Generator) -> Tensor:
    """Indices (N,) of one pass; ``balanced`` draws every emotion equally often, with repeats."""
    if not balanced:
        return torch.randperm(len(faces), generator=generator)
    counts = torch.bincount(faces.labels, minlength=len(EMOTIONS))
    weights = 1.0 / counts[faces.labels]
    return torch.multinomial(weights, len(faces), replacement=True, generator=generator)


def batches(run: Run, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
    """This process's crops (n, 1, 112, 112) and targets (n, 8) of each step of a pass.

    Every process draws the numbers of the whole batch and takes its part.
    """
    config, faces = run.config, run.faces
    generator = epoch_numbers(config.seed, epoch)
    part = run.place.part(config.batch)
    order = epoch_order(faces, config.balanced, generator)[: run.steps * config.batch]
    for chosen in order.split(config.batch):
        numbers = torch.rand(config.batch, Draws.COUNT, generator=generator)
        targets = make_targets(faces.targets[chosen], config.loss, generator)
        targets = targets * faces.weights[chosen, None]  # the cross-entropy is linear in them
        draws = Draws(numbers[part])
        maps, _ = random_maps(draws, config.augment)
        crops = degrade(view(faces.canvases[chosen[part]], maps), draws, config.augment)
        yield mix(crops, targets[part].to(crops.device), config.augment)


def learn(run: Run, crops: Tensor, targets: Tensor) -> float:
    """One step of the optimizer; the loss before it. ValueError when there is no number."""
    config, parts = run.config, run.config.accumulate

    def gradients() -> float:
        run.optimizer.zero_grad(set_to_none=True)
        total = 0.0
        for some, wanted in zip(crops.chunk(parts), targets.chunk(parts), strict=True):
            with torch.autocast(crops.device.type, torch.bfloat16, enabled=config.bf16):
                logits = run.stepped(some).logits
            loss = run.loss(logits, wanted) * (len(some) / len(crops))
            loss.backward()
            total += loss.item()
        clip_gradient(run.network, config.optimizer.clip, total)
        return total

    loss = gradients()
    run.optimizer.step(gradients if config.optimizer.sam_rho else None)
    return loss


def train_epoch(run: Run, epoch: int) -> float:
    """One pass over the training split; the mean loss."""
    run.place.seed(run.config.seed, epoch)
    run.network.train()
    total = 0.0
    bar = tqdm(
        batches(run, epoch),
        desc=f"epoch {epoch + 1}/{run.config.epochs}",
        total=run.steps,
        disable=not run.place.writes,
    )
    for step, (crops, targets) in enumerate(bar):
        done = epoch * run.steps + step
        run.schedule.step_update(done)
        total += learn(run, crops, targets)
        run.ema.update(run.network, step=done)  # or its memory would not be short in the beginning
        bar.set_postfix(loss=f"{total / (step + 1):.3f}", refresh=False)
    return run.place.mean(total / run.steps)


@torch.no_grad()
def predict_logits(network: nn.Module, faces: Faces, device: torch.device, bf16: bool) -> Tensor:
    """Logits (N, 8) of the aligned crops, without augmentation."""
    parts = faces.canvases.split(32)
    with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
        found = [network(view(part.to(device), centre_maps(len(part)))).logits for part in parts]
    return torch.cat([each.float() for each in found]).cpu()


def fit_temperature(logits: Tensor, targets: Tensor) -> float:
    """The temperature that makes ``targets`` most likely (Guo et al., 2017).

    Shares of the votes (N, 8), or labels (N,).
    """
    log_temperature = torch.zeros((), requires_grad=True)
    optimizer = torch.optim.LBFGS([log_temperature], max_iter=50)

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = F.cross_entropy(logits / log_temperature.exp(), targets)
        loss.backward()
        return loss

    optimizer.step(closure)
    return log_temperature.exp().item()


def validate(run: Run, valid: Faces) -> tuple[dict[str, float], Tensor]:
    """Figures of the averaged weights on the validation split, and its confusion (8, 8)."""
    network = run.ema.module.eval()
    logits = predict_logits(network, valid, run.place.device, run.config.bf16)
    network.temperature.fill_(fit_temperature(logits, valid.targets))
    confusion = multiclass_confusion_matrix(logits, valid.labels, len(EMOTIONS))
    accuracy = (logits.argmax(dim=1) == valid.labels).float().mean().item()
    figures = {
        "valid_loss": F.cross_entropy(logits, valid.targets).item(),
        "valid_accuracy": run.place.agreed(accuracy),  # or some would end sooner than others
        "valid_mean_recall": mean_recall(confusion.numpy()).item(),
        "temperature": network.temperature.item(),
    }
    return figures, confusion


def keep_model(run: Run, out: Path) -> None:
    """The averaged weights as a model folder."""
    folder = out / "model" / out.name
    save_model(run.ema.module, folder, run.config.network.architecture, **run.config.network.config)


def complete_epoch(run: Run, state: RunState, valid: Faces) -> tuple[bool, dict[str, Any], Tensor]:
    """Trains and validates one epoch; is it the best, its figures, its confusion."""
    started = time.monotonic()
    loss = train_epoch(run, state.epoch)
    spent_s = time.monotonic() - started
    figures, confusion = validate(run, valid)
    row = {
        "epoch": state.epoch + 1,
        "lr": run.optimizer.param_groups[-1]["lr"],
        "train_loss": loss,
        **figures,
        "pictures_per_s": run.steps * run.config.batch / spent_s,
    }
    return state.add(row), row, confusion


def run_epochs(run: Run, valid: Faces, out: Path) -> None:
    """From where the run stands to its end; process 0 keeps everything in ``out``."""
    state = RunState.load(out / "last.pt", run)
    log = RunLog(out, state.rows) if run.place.writes else None
    while not state.is_over(run.config):
        is_best, row, confusion = complete_epoch(run, state, valid)
        if log is None:
            continue
        log.add(row)
        draw_curves(log.rows, out / "curves.png")
        if is_best:
            keep_model(run, out)
            draw_confusion(confusion.numpy(), out / "confusion.png")
        state.save(out / "last.pt", run)
        print(
            f"epoch {row['epoch']}: valid accuracy {row['valid_accuracy']:.4f}, mean recall "
            f"{row['valid_mean_recall']:.4f}, {row['pictures_per_s']:.0f} pictures/s",
            flush=True,
        )
    if log is not None:
        log.close()


def train(config: TrainConfig, data: Path, out: Path) -> None:
    """The whole run. ValueError or OSError, one line, when it cannot be."""
    with world() as place:
        train_in(place, config, data, out)


def train_in(place: World, config: TrainConfig, data: Path, out: Path) -> None:
    """The share of one process; nothing of it is left when the processes part."""
    torch.manual_seed(config.seed)
    config = replace(config, network=settled(config.network))
    network = build(config.network)
    faces, valid = some_of(load_splits(config.data, data), config.pictures, config.seed)
    if len(faces) < config.batch or len(valid) == 0:
        found = f"{len(faces)} pictures to train on and {len(valid)} to validate with"
        raise ValueError(f"{data}: expected at least a batch of {config.batch}, found {found}")
    faces = taught(faces, config.data, place)
    run = Run(config, faces, network, place)
    if place.writes:
        write_settings(out, config, {"train": faces.sha256(), "valid": valid.sha256()})
        counts = {"train": faces.counts(), "valid": valid.counts()}
        draw_classes(counts, out / "classes.png")
    run_epochs(run, valid, out)


def main() -> None:
    """Command line."""
    parser = experiment_parser(__doc__.split("\n\n")[0])
    parser.add_argument("--image-weights", metavar="FILE", help="in place of the configured ones")
    arguments = parser.parse_args()
    try:
        config = read_config(arguments.experiment, arguments.image_weights)
        train(config, arguments.data, arguments.out)
    except (ValueError, OSError) as error:
        sys.exit(f"train: {error}")


if __name__ == "__main__":
    main()
