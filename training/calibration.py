"""Temperature scaling (Guo et al., 2017)."""

import math

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

_MAX_LOG_TEMPERATURE = math.log(100)


def fit_temperature(logits: Tensor, targets: Tensor, offsets: Tensor | float = 0.0) -> float:
    """The temperature, in 0.01..100, that minimizes the cross-entropy of logits (N, 8).

    ``targets``: distributions (N, 8), or classes (N,). ``offsets`` (8,), such as the logarithms of
    class shares, are added after the division. If every argmax is right, the loss has no minimum
    above 0; the range bounds the result.
    """
    log_temperature = torch.zeros((), requires_grad=True)
    optimizer = torch.optim.LBFGS([log_temperature], max_iter=50, line_search_fn="strong_wolfe")

    def temperature() -> Tensor:
        return log_temperature.clamp(-_MAX_LOG_TEMPERATURE, _MAX_LOG_TEMPERATURE).exp()

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = F.cross_entropy(logits / temperature() + offsets, targets)
        loss.backward()
        return loss

    optimizer.step(closure)
    return temperature().item()
