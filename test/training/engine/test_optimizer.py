"""Learning rates of each step."""

import pytest
import torch
from torch.optim.lr_scheduler import OneCycleLR

from training.config import OptimizerConfig
from training.engine.optimizer import OneCycleSchedule, make_optimizer


@pytest.mark.parametrize("steps", [2, 20, 100])
def test_one_cycle_has_the_rates_of_pytorch(steps):
    config = OptimizerConfig(lr=0.01, warmup=0.15)
    optimizers = [torch.optim.AdamW([torch.zeros(1)], lr=0.01) for _ in range(2)]
    theirs = OneCycleLR(optimizers[0], 0.01, total_steps=steps, pct_start=0.15)
    ours = OneCycleSchedule(optimizers[1], config, steps)
    expected = []
    for _ in range(steps):
        expected.append([optimizers[0].param_groups[0][key] for key in ("lr", "betas")])
        optimizers[0].step()
        if len(expected) < steps:
            theirs.step()
    for step in reversed(range(steps)):
        ours.step_update(step)
        lr, betas = (optimizers[1].param_groups[0][key] for key in ("lr", "betas"))
        assert lr == pytest.approx(expected[step][0], rel=1e-9)
        assert betas == pytest.approx(expected[step][1])


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_sam_keeps_the_defaults_of_the_optimizer(name):
    plain, sam = (
        make_optimizer(
            [{"params": [torch.nn.Parameter(torch.zeros(2))]}],
            OptimizerConfig(name=name, sam_rho=rho, weight_decay=0.0),
        ).param_groups[0]
        for rho in (0.0, 0.05)
    )
    keys = {"momentum", "nesterov", "betas", "eps"} & plain.keys()
    assert keys
    assert {key: sam[key] for key in keys} == {key: plain[key] for key in keys}
