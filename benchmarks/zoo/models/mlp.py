"""Plain stacks of linear layers."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import nn


class MLP(nn.Module):
    """Linear layers with an activation, and dropout, between them."""

    def __init__(
        self,
        widths: Sequence[int] = (16, 48, 48, 48, 8),
        *,
        activation: type[nn.Module] = nn.ReLU,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(widths))
        self.acts = nn.ModuleList(activation() for _ in widths[1:-1])
        self.dropout = nn.Dropout(dropout)

    @property
    def head(self) -> nn.Linear:
        """The last layer."""
        head = self.layers[-1]
        assert isinstance(head, nn.Linear)
        return head

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Outputs of the last layer."""
        for layer, act in zip(self.layers, self.acts, strict=False):
            x = self.dropout(act(layer(x)))
        out: torch.Tensor = self.layers[-1](x)
        return out
