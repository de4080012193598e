"""Networks that make samples and decisions: a conditioned flow, a value with its distribution.

Shapes: N batch, D width, A actions, Z atoms.
"""

from __future__ import annotations

import torch
from torch import nn

from benchmarks.zoo.models.mlp import MLP


class ConditionedBlock(nn.Module):
    """A residual part whose scale, shift and gate come from the time; the gate begins at nought."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.modulate = nn.Linear(width, 3 * width)
        self.up, self.down = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)
        nn.init.zeros_(self.modulate.weight)
        nn.init.zeros_(self.modulate.bias)

    def forward(self, x: torch.Tensor, time: torch.Tensor) -> torch.Tensor:
        """Same shape as `x` [N, D]."""
        scale, shift, gate = self.modulate(time).chunk(3, dim=-1)
        inner = self.norm(x) * (1 + scale) + shift
        out: torch.Tensor = x + gate * self.down(nn.functional.silu(self.up(inner)))
        return out


class Velocity(nn.Module):
    """Where a point [N, 2] on the way from noise to data goes at a time [N]."""

    def __init__(self, *, width: int = 32, layers: int = 3) -> None:
        super().__init__()
        self.enter = nn.Linear(2, width)
        self.time = nn.Linear(16, width)
        self.blocks = nn.ModuleList(ConditionedBlock(width) for _ in range(layers))
        self.leave = nn.Linear(width, 2)

    def forward(self, x: torch.Tensor, time: torch.Tensor) -> torch.Tensor:
        """Velocities [N, 2]."""
        angles = time[:, None] * 2.0 ** torch.arange(8)
        told = torch.cat([angles.sin(), angles.cos()], dim=1)
        told = nn.functional.silu(self.time(told))
        x = self.enter(x)
        for block in self.blocks:
            x = block(x, told)
        out: torch.Tensor = self.leave(x)
        return out


class ReturnAtoms(nn.Module):
    """C51: odds of each of 21 returns between 0 and 8 for each of three forces."""

    def __init__(self, *, atoms: int = 21, highest: float = 8.0) -> None:
        super().__init__()
        self.body = MLP((2, 48, 48))
        self.head = nn.Linear(48, 3 * atoms)
        self.register_buffer("returns", torch.linspace(0, highest, atoms))

    def forward(self, state: torch.Tensor) -> torch.Tensor:
        """Log odds [N, A, Z]."""
        x = torch.relu(self.body(state))
        out: torch.Tensor = self.head(x).unflatten(1, (3, -1)).log_softmax(-1)
        return out

    def projected(self, odds: torch.Tensor, goal: torch.Tensor) -> torch.Tensor:
        """`odds` [N, Z] of returns `goal` [N, Z], shared among the atoms that there are."""
        returns = self.get_buffer("returns")
        step = returns[1] - returns[0]
        off = (goal.clamp(0, float(returns[-1]))[..., None] - returns).abs() / step
        shared: torch.Tensor = ((1 - off).clamp(min=0) * odds[..., None]).sum(1)
        return shared


class SoftActor(nn.Module):
    """Odds of three forces, two soft values of each, and the logarithm of a temperature."""

    def __init__(self) -> None:
        super().__init__()
        self.actor = MLP((2, 32, 32, 3))
        self.critics = nn.ModuleList(MLP((2, 32, 32, 3)) for _ in range(2))
        self.temperature = nn.Linear(1, 1, bias=False)
        nn.init.constant_(self.temperature.weight, -1.5)

    @property
    def heat(self) -> torch.Tensor:
        """The temperature."""
        out: torch.Tensor = self.temperature(torch.ones(1, 1)).exp().squeeze()
        return out
