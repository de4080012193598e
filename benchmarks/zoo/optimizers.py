"""Optimizers that PyTorch lacks, in their plainest form."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn


class Lion(torch.optim.Optimizer):
    """Sign of an interpolated momentum (Chen et al. 2023, algorithm 2)."""

    def __init__(self, params: Iterable[nn.Parameter], lr: float, *, decay: float = 0.0) -> None:
        super().__init__(params, {"lr": lr, "betas": (0.9, 0.99), "weight_decay": decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> Any:
        """One update; takes no closure."""
        for group in self.param_groups:
            beta1, beta2 = group["betas"]
            for p in group["params"]:
                if p.grad is None:
                    continue
                momentum = self.state[p].setdefault("momentum", torch.zeros_like(p))
                p.mul_(1 - group["lr"] * group["weight_decay"])
                p.sub_(group["lr"] * torch.lerp(p.grad, momentum, beta1).sign())
                momentum.lerp_(p.grad, 1 - beta2)


class OrthogonalMomentum(torch.optim.Optimizer):
    """Muon: the momentum of a matrix made orthogonal by Newton-Schulz steps (Jordan 2024); what is
    no matrix takes plain momentum."""

    def __init__(
        self, params: Iterable[nn.Parameter], lr: float, *, orthogonal: bool = True
    ) -> None:
        super().__init__(params, {"lr": lr, "orthogonal": orthogonal})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> Any:
        """One update; takes no closure."""
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is None:
                    continue
                momentum = self.state[p].setdefault("momentum", torch.zeros_like(p))
                momentum.lerp_(p.grad, 0.1)
                direction = momentum
                if p.dim() == 2 and group["orthogonal"]:
                    direction = newton_schulz(momentum) * max(1.0, p.shape[0] / p.shape[1]) ** 0.5
                p.sub_(group["lr"] * direction)


def newton_schulz(matrix: torch.Tensor, *, num_steps: int = 5) -> torch.Tensor:
    """The nearest orthogonal matrix, roughly, by Jordan's quintic iteration."""
    a, b, c = 3.4445, -4.7750, 2.0315
    tall = matrix.shape[0] > matrix.shape[1]
    x = (matrix.T if tall else matrix) / (matrix.norm() + 1e-7)
    for _ in range(num_steps):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    out: torch.Tensor = x.T if tall else x
    return out
