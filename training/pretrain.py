"""``python -m training.pretrain EXPERIMENT.yaml DATA OUT``: a trunk from unlabelled faces.

DATA holds the packs of ``training.prepare``. OUT gets ``run.yaml``, ``metrics.csv``,
``curves.png``, ``last.pt`` and ``trunk.safetensors``, from which ``training.train`` starts with
``--image-weights OUT/trunk.safetensors``. The same command goes on with a run that was killed, from
the last epoch that was completed, to the same numbers. When ``feature_std`` in ``metrics.csv`` goes
to 0, all faces look alike to the trunk: it has collapsed.

Several GPUs or machines: ``torchrun --nproc-per-node N -m training.pretrain ...``; ``batch`` is
that of all processes together.
"""

import copy
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightly.utils.scheduler import cosine_schedule, cosine_warmup_schedule
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from fer_ros.model.vit import TransformerStream
from training.data import Faces, load_splits, sha256_of_tensors, some_of, stands_in
from training.dino import Dino
from training.figures import draw_pretraining
from training.knn import accuracy
from training.losses import clip_gradient
from training.mae import Mae
from training.method import Method, make_stream
from training.multicrop import NUMBERS, make_view
from training.packs import Pack, gather
from training.pretrain_settings import PretrainConfig, RateConfig
from training.processes import World, epoch_numbers, world
from training.runlog import RunLog, write_settings
from training.settings import experiment_parser, read_settings
from training.state import Part, read_state, write_state, write_weights


def load_pictures(folder: Path, names: list[str], held_out: list[str]) -> Tensor:
    """Canvases (N, 144, 144) uint8 of packs in ``folder``, without what ``held_out`` ones have too.

    ValueError, one line, when a pack cannot be used. Held-out packs that are not there are none.
    """
    judges = [Pack.open(folder / name) for name in held_out if (folder / name).exists()]
    return torch.from_numpy(gather([_without(Pack.open(folder / name), judges) for name in names]))


def _without(pack: Pack, judges: list[Pack]) -> tuple[Pack, NDArray[np.bool_]]:
    """The pack, and which of its rows (N,) stand in none of the others."""
    pack.verify()
    keep = np.ones(len(pack), np.bool_)
    for judge in judges:
        keep &= ~stands_in(pack, judge)
    return pack, keep


def make_method(config: PretrainConfig) -> tuple[Method, TransformerStream]:
    """The network to train, and a stream for what is kept of it. ValueError names what is wrong."""
    stream = make_stream(config.stream, config.drop_path, config.weights)
    shape = (copy.deepcopy(stream.trunk), stream.side_px, config.views.area)
    if config.method == "dino":
        return Dino(*shape, config.dino), stream
    return Mae(*shape, config.mae, started=bool(config.weights)), stream


def make_optimizer(method: Method, config: RateConfig) -> torch.optim.AdamW:
    """Two groups: matrices, and vectors, which do not decay."""
    values = [value for value in method.parameters() if value.requires_grad]
    groups = [
        {"params": [value for value in values if (value.ndim > 1) == decays], "decays": decays}
        for decays in (True, False)
    ]
    return torch.optim.AdamW(groups, lr=config.lr, betas=(0.9, config.beta2), weight_decay=0.0)


class Run:
    """All that an experiment holds while it runs."""

    def __init__(self, config: PretrainConfig, canvases: Tensor, place: World) -> None:
        self.config, self.place = config, place
        self.canvases = canvases.to(place.device)
        method, self.stream = make_method(config)
        self.method = method.to(place.device)
        for encoder in method.encoders():
            encoder.set_grad_checkpointing(config.recompute)
            if config.compile:
                encoder.compile(dynamic=False)
        self.stepped = place.spread(self.method)
        self.optimizer = make_optimizer(method, config.optimizer)
        self.steps = len(canvases) // config.batch


def batches(run: Run, epoch: int) -> Iterator[tuple[list[Tensor], Tensor]]:
    """This process's views (n, 1, side, side) and other numbers of each step of a pass.

    Every process draws the numbers of the whole batch and takes its part.
    """
    config, method = run.config, run.method
    generator = epoch_numbers(config.seed, epoch)
    part = run.place.part(config.batch)
    widths = [NUMBERS] * len(method.shots) + [method.numbers]
    order = torch.randperm(len(run.canvases), generator=generator)[: run.steps * config.batch]
    for chosen in order.split(config.batch):
        numbers = torch.rand(config.batch, sum(widths), generator=generator)[part]
        *own, rest = numbers.split(widths, dim=1)
        canvases = run.canvases[chosen[part].to(run.canvases.device)]
        yield (
            [
                make_view(canvases, each, shot, config.views)
                for each, shot in zip(own, method.shots, strict=True)
            ],
            rest,
        )


def set_rates(run: Run, step: int) -> None:
    """Learning rate and weight decay of a step."""
    config, steps = run.config.optimizer, run.config.epochs * run.steps
    warm = round(config.warmup * steps)
    lr = cosine_warmup_schedule(step, steps, config.lr, config.last_lr, warm, 0.0)
    decay = cosine_schedule(step, steps, config.weight_decay, config.last_weight_decay)
    for group in run.optimizer.param_groups:
        group["lr"] = lr
        group["weight_decay"] = decay if group["decays"] else 0.0


def learn(run: Run, views: list[Tensor], numbers: Tensor, step: int) -> dict[str, float]:
    """One step; the figures before it. ValueError when the loss is not a number."""
    config, steps = run.config, run.config.epochs * run.steps
    set_rates(run, step)
    run.optimizer.zero_grad(set_to_none=True)
    with torch.autocast(run.place.device.type, torch.bfloat16, enabled=config.bf16):
        found = run.stepped(views, numbers, step, steps)
    figures = {name: value.item() for name, value in found.items()}
    found["loss"].backward()
    run.method.after_backward(step // run.steps)
    clip_gradient(run.method, config.optimizer.clip, figures["loss"])
    run.optimizer.step()
    run.method.after_step(step, steps)
    return figures


def train_epoch(run: Run, epoch: int) -> dict[str, float]:
    """One pass over the faces; the means of the figures."""
    run.place.seed(run.config.seed, epoch)
    run.method.train()
    totals: dict[str, float] = {}
    bar = tqdm(
        batches(run, epoch),
        desc=f"epoch {epoch + 1}/{run.config.epochs}",
        total=run.steps,
        disable=not run.place.writes,
    )
    for step, (views, numbers) in enumerate(bar):
        figures = learn(run, views, numbers, epoch * run.steps + step)
        totals = {name: totals.get(name, 0.0) + value for name, value in figures.items()}
        bar.set_postfix(loss=f"{totals['loss'] / (step + 1):.3f}", refresh=False)
    return {name: run.place.mean(total / run.steps) for name, total in totals.items()}


def complete_epoch(run: Run, epoch: int, labelled: tuple[Faces, Faces] | None) -> dict[str, Any]:
    """The figures of an epoch; ``knn_accuracy`` is NaN where nobody looked."""
    started = time.monotonic()
    figures = train_epoch(run, epoch)
    row = {"epoch": epoch + 1, "lr": run.optimizer.param_groups[0]["lr"], **figures}
    row["pictures_per_s"] = run.steps * run.config.batch / (time.monotonic() - started)
    row["knn_accuracy"] = float("nan")
    last = epoch + 1 == run.config.epochs
    if labelled and (last or (epoch + 1) % run.config.probe_every == 0):
        row["knn_accuracy"] = accuracy(run.method, *labelled, run.place.device)
    return row


def keep_trunk(run: Run, path: Path) -> None:
    """The trunk as ``training.train`` takes it."""
    run.stream.trunk.load_state_dict(run.method.trunk.state_dict())
    write_weights(path, run.stream.publish())


def run_epochs(run: Run, labelled: tuple[Faces, Faces] | None, out: Path) -> None:
    """From where the run stands to its end; process 0 looks at labels and keeps everything."""
    parts: dict[str, Part] = {"method": run.method, "optimizer": run.optimizer}
    rows = read_state(out / "last.pt", run.config, parts).get("rows", [])
    log = RunLog(out, rows) if run.place.writes else None
    for epoch in range(len(rows), run.config.epochs):
        row = complete_epoch(run, epoch, labelled)
        if log is None:
            continue
        log.add(row)
        draw_pretraining(log.rows, out / "curves.png")
        keep_trunk(run, out / "trunk.safetensors")
        write_state(out / "last.pt", run.config, {"rows": log.rows}, parts)
        print(
            f"epoch {row['epoch']}: loss {row['loss']:.4f}, spread of features "
            f"{row['feature_std']:.3f}, k-NN {row['knn_accuracy']:.4f}, "
            f"{row['pictures_per_s']:.0f} pictures/s",
            flush=True,
        )
    if log is not None:
        log.close()


def pretrain(config: PretrainConfig, data: Path, out: Path) -> None:
    """The whole run. ValueError or OSError, one line, when it cannot be."""
    with world() as place:
        run_in(place, config, data, out)


def run_in(place: World, config: PretrainConfig, data: Path, out: Path) -> None:
    """The share of one process; nothing of it is left when the processes part."""
    torch.manual_seed(config.seed)
    canvases = load_pictures(data, config.packs, config.held_out)
    if config.pictures:
        order = torch.randperm(len(canvases), generator=torch.Generator().manual_seed(config.seed))
        canvases = canvases[order[: config.pictures]]
    if len(canvases) < config.batch:
        found = f"found {len(canvases)} pictures"
        raise ValueError(f"{data}: expected at least a batch of {config.batch}, {found}")
    digest = sha256_of_tensors(canvases)
    place.part(config.batch)
    run = Run(config, canvases, place)
    labelled = None
    if config.probe_every and place.writes:
        labelled = some_of(load_splits(config.probe, data), config.pictures, config.seed)
    if place.writes:
        write_settings(out, config, {"pictures": digest})
    run_epochs(run, labelled, out)


def main() -> None:
    """Command line."""
    arguments = experiment_parser(__doc__.split("\n\n")[0]).parse_args()
    try:
        config = read_settings(arguments.experiment, PretrainConfig)
        pretrain(config, arguments.data, arguments.out)
    except (ValueError, OSError) as error:
        sys.exit(f"pretrain: {error}")


if __name__ == "__main__":
    main()
