"""What is learned beside, or behind, a layer that is fixed."""

from __future__ import annotations

import torch
from torch import nn


class LowRank(nn.Module):
    """A linear layer that is fixed, and a learned product of two thin matrices (Hu et al. 2022)."""

    def __init__(self, base: nn.Linear, *, rank: int = 4, alpha: float = 8.0) -> None:
        super().__init__()
        self.base, self.scale = base.requires_grad_(False), alpha / rank
        self.down = nn.Linear(base.in_features, rank, bias=False)
        self.up = nn.Linear(rank, base.out_features, bias=False)
        nn.init.zeros_(self.up.weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """As the layer, with what was learned added."""
        out: torch.Tensor = self.base(x) + self.scale * self.up(self.down(x))
        return out


class Bottleneck(nn.Module):
    """A layer that is fixed, and a thin network behind it (Houlsby et al. 2019)."""

    def __init__(self, base: nn.Module, width: int, *, thin: int = 6) -> None:
        super().__init__()
        self.base = base.requires_grad_(False)
        self.down, self.up = nn.Linear(width, thin), nn.Linear(thin, width)
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.up.bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Same shape as `x`."""
        x = self.base(x)
        out: torch.Tensor = x + self.up(torch.relu(self.down(x)))
        return out
