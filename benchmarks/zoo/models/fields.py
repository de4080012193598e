"""Forecasts, operators between functions, and fields over space.

Shapes: N batch, T time, P patches, D width, X points, F features.
"""

from __future__ import annotations

import math

import torch
from torch import nn

from benchmarks.zoo.models.mlp import MLP


class Forecaster(nn.Module):
    """An LSTM that says of each next value where it will be and how surely."""

    def __init__(self, *, width: int = 24, floor: float = 0.0) -> None:
        super().__init__()
        self.rnn = nn.LSTM(1, width, batch_first=True)
        self.mean = nn.Linear(width, 1)
        self.spread = nn.Linear(width, 1)
        self.floor = floor

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Means and standard deviations [N, T] of what follows each value of `x` [N, T]."""
        inner = self.rnn(x[..., None])[0]
        spread = nn.functional.softplus(self.spread(inner)) + self.floor
        return self.mean(inner)[..., 0], spread[..., 0]


class PatchBlock(nn.Module):
    """Self-attention of one head over patches, and a feed-forward part."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.query, self.key = nn.Linear(width, width), nn.Linear(width, width)
        self.value, self.out = nn.Linear(width, width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)
        self.logit_max = 0.0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Same shape as `x` [N, P, D]."""
        y = self.norm1(x)
        logits = self.query(y) @ self.key(y).mT / math.sqrt(x.shape[-1])
        self.logit_max = float(logits.detach().abs().max())
        x = x + self.out(logits.softmax(-1) @ self.value(y))
        out: torch.Tensor = x + self.down(nn.functional.gelu(self.up(self.norm2(x))))
        return out


class PatchForecaster(nn.Module):
    """A window is normalised by its own mean and spread, cut into patches, and continued."""

    def __init__(self, *, width: int = 24, layers: int = 2) -> None:
        super().__init__()
        self.patch = nn.Linear(8, width)
        self.place = nn.Parameter(0.02 * torch.randn(6, width))
        self.blocks = nn.ModuleList(PatchBlock(width) for _ in range(layers))
        self.head = nn.Linear(6 * width, 8)

    def forward(self, window: torch.Tensor) -> torch.Tensor:
        """Eight values [N, 8] behind a normalised window [N, 48]."""
        x = self.patch(window.unflatten(1, (6, 8))) + self.place
        for block in self.blocks:
            x = block(x)
        out: torch.Tensor = self.head(x.flatten(1))
        return out


class Spectral(nn.Module):
    """Multiplies the lowest frequencies of a function by learned complex matrices. What enters the
    transform may be held in float16, which its sum over all points can exceed."""

    def __init__(self, width: int, modes: int) -> None:
        super().__init__()
        self.modes = modes
        self.weight = nn.Parameter(torch.randn(width, width, modes, 2) / width)
        self.in_half = False

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Same shape as `x` [N, D, X]."""
        waves = torch.fft.rfft(x)[..., : self.modes]
        if self.in_half:
            parts = torch.view_as_real(waves)
            waves = torch.view_as_complex(parts.half().float().contiguous())
        mixed = torch.einsum("ndm,dem->nem", waves, torch.view_as_complex(self.weight))
        out: torch.Tensor = torch.fft.irfft(mixed, n=x.shape[-1])
        return out


class FourierOperator(nn.Module):
    """Spectral layers beside pointwise ones; the lift and the last layer are pointwise."""

    def __init__(self, *, width: int = 12, modes: int = 8, layers: int = 3) -> None:
        super().__init__()
        self.lift = nn.Conv1d(2, width, 1)
        self.spectral = nn.ModuleList(Spectral(width, modes) for _ in range(layers))
        self.pointwise = nn.ModuleList(nn.Conv1d(width, width, 1) for _ in range(layers))
        self.head = nn.Conv1d(width, 1, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """A function [N, X] out of a function [N, X]."""
        place = torch.linspace(0, 1, x.shape[-1]).expand_as(x)
        x = self.lift(torch.stack([x, place], dim=1))
        for spectral, pointwise in zip(self.spectral, self.pointwise, strict=True):
            x = nn.functional.gelu(spectral(x) + pointwise(x))
        out: torch.Tensor = self.head(x)[:, 0]
        return out


class BranchTrunk(nn.Module):
    """DeepONet: one network reads a function at its sensors, another the place that is asked for;
    the answer is the product of both."""

    def __init__(self, *, sensors: int = 24, width: int = 32) -> None:
        super().__init__()
        self.branch = MLP((sensors, width, width), activation=nn.GELU)
        self.trunk = MLP((1, width, width), activation=nn.Tanh)
        self.level = nn.Parameter(torch.zeros(1))

    def forward(self, function: torch.Tensor, place: torch.Tensor) -> torch.Tensor:
        """Values [N, X] at places [N, X] for functions [N, sensors]."""
        coefficients, basis = self.branch(function), self.trunk(place[..., None])
        out: torch.Tensor = torch.einsum("nd,nxd->nx", coefficients, basis) / 4 + self.level
        return out


class Radiance(nn.Module):
    """Density and brightness of each place of a plane, seen only along rays."""

    def __init__(self, *, width: int = 48, octaves: int = 4, density: nn.Module) -> None:
        super().__init__()
        self.octaves = octaves
        self.layers = nn.ModuleList([nn.Linear(4 * octaves, width), nn.Linear(width, width)])
        self.density = nn.Linear(width, 1)
        self.positive = density
        self.colour = nn.Linear(width, 1)

    def forward(self, places: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Densities and brightness [...] of places [..., 2]."""
        angles = (places[..., None] * 2.0 ** torch.arange(self.octaves)).flatten(-2)
        x = torch.cat([angles.sin(), angles.cos()], dim=-1)
        for layer in self.layers:
            x = torch.relu(layer(x))
        density = self.positive(self.density(x))[..., 0]
        return density, self.colour(x)[..., 0].sigmoid()


def rendered(density: torch.Tensor, colour: torch.Tensor, *, length: float) -> torch.Tensor:
    """What is seen along rays [N] of samples [N, X] that are `length` apart."""
    passed = torch.exp(-length * density.cumsum(-1))
    before = torch.cat([torch.ones_like(passed[..., :1]), passed[..., :-1]], dim=-1)
    return ((before - passed) * colour).sum(-1)


class HashGrid(nn.Module):
    """A place is looked up in tables of four resolutions, between whose entries it lies; entries of
    the finer ones are shared by a hash. A small network reads what was found."""

    def __init__(self, *, entries: int = 512, features: int = 2) -> None:
        super().__init__()
        self.sizes = (4, 9, 20, 45)
        self.tables = nn.ModuleList(nn.Embedding(entries, features) for _ in self.sizes)
        self.reader = MLP((features * len(self.sizes), 32, 1))
        for table in self.tables:
            assert isinstance(table, nn.Embedding)
            nn.init.uniform_(table.weight, -1e-2, 1e-2)

    def forward(self, places: torch.Tensor) -> torch.Tensor:
        """Values [N, 1] at places [N, 2] of the unit square."""
        found = []
        for size, table in zip(self.sizes, self.tables, strict=True):
            assert isinstance(table, nn.Embedding)
            at = places * size
            low = at.floor().long()
            corners = low[:, None] + torch.tensor([[0, 0], [0, 1], [1, 0], [1, 1]])
            near = (1 - (at[:, None] - corners).abs()).clamp(min=0).prod(-1, keepdim=True)
            key = (corners[..., 0] ^ (corners[..., 1] * 2654435761)) % table.num_embeddings
            found.append((near * table(key)).sum(1))
        out: torch.Tensor = self.reader(torch.cat(found, dim=-1))
        return out
