"""Networks on tables, words, coordinates and tasks: embeddings with numbers, pairs of words,
radial units, sines, gates that carry, a network that writes another's weights, a memory.

Shapes: N batch, F features, K classes.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import nn
from torch.nn import functional


class WideDeep(nn.Module):
    """Embeddings of categories beside numbers, a deep part and a linear one (Cheng et al. 2016)."""

    def __init__(self, *, sizes: tuple[int, ...] = (5, 40, 300), numbers: int = 6) -> None:
        super().__init__()
        self.embeds = nn.ModuleList(nn.Embedding(s, 8) for s in sizes)
        self.wides = nn.ModuleList(nn.Embedding(s, 1) for s in sizes)
        self.fc1, self.fc2 = nn.Linear(8 * len(sizes) + numbers, 48), nn.Linear(48, 24)
        self.norm = nn.BatchNorm1d(numbers)
        self.out = nn.Linear(24, 1)

    def forward(self, kinds: torch.Tensor, numbers: torch.Tensor) -> torch.Tensor:
        """A logit [N] for categories [N, 3] and numbers [N, F]."""
        parts = [embed(kinds[:, i]) for i, embed in enumerate(self.embeds)]
        h = torch.cat([*parts, self.norm(numbers)], dim=1)
        deep = self.out(torch.relu(self.fc2(torch.relu(self.fc1(h)))))
        wide = torch.stack([w(kinds[:, i]) for i, w in enumerate(self.wides)]).sum(0)
        out: torch.Tensor = (deep + wide)[:, 0]
        return out


class TabularTransformer(nn.Module):
    """Each feature of a row as a token, among which attention mixes (Gorishniy et al. 2021)."""

    def __init__(self, *, features: int = 10, width: int = 16, layers: int = 2) -> None:
        super().__init__()
        self.weight = nn.Parameter(0.3 * torch.randn(features, width))
        self.bias = nn.Parameter(0.3 * torch.randn(features + 1, width))
        self.blocks = nn.ModuleList(
            nn.TransformerEncoderLayer(
                width, 2, 32, dropout=0.0, batch_first=True, norm_first=True, activation="gelu"
            )
            for _ in range(layers)
        )
        self.head = nn.Linear(width, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """A value [N, 1] for rows [N, F]."""
        tokens = functional.pad(x[..., None] * self.weight, (0, 0, 0, 1)) + self.bias
        for block in self.blocks:
            tokens = block(tokens)
        out: torch.Tensor = self.head(tokens[:, -1])
        return out


class Pairs(nn.Module):
    """Vectors of words and of their neighbours (Mikolov et al. 2013)."""

    def __init__(self, words: int = 120, width: int = 16) -> None:
        super().__init__()
        self.word, self.near = nn.Embedding(words, width), nn.Embedding(words, width)
        nn.init.normal_(self.word.weight, std=0.1)
        nn.init.normal_(self.near.weight, std=0.1)

    def forward(self, word: torch.Tensor, near: torch.Tensor) -> torch.Tensor:
        """The score of each pair."""
        out: torch.Tensor = (self.word(word) * self.near(near)).sum(-1)
        return out


class Radial(nn.Module):
    """Units that fire near their centre, and a linear layer on them."""

    def __init__(self, *, inputs: int = 2, units: int = 40) -> None:
        super().__init__()
        self.centres = nn.Parameter(2 * torch.rand(units, inputs) - 1)
        self.sharpness = nn.Parameter(torch.full((units,), 8.0))
        self.hidden = nn.Identity()
        self.out = nn.Linear(units, 1)
        self.fired = 1.0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Values [N, 1]."""
        near = (-self.sharpness * torch.cdist(x, self.centres).square()).exp()
        self.fired = float((near.detach() > 0.05).any(dim=0).float().mean())
        out: torch.Tensor = self.out(near)
        return out


class Sines(nn.Module):
    """Layers of sines that paint a picture from coordinates (SIREN, Sitzmann et al. 2020)."""

    def __init__(self, *, width: int = 40, depth: int = 3, omega: float = 12.0) -> None:
        super().__init__()
        sizes = [2] + [width] * depth
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(sizes))
        self.last, self.omega = nn.Linear(width, 1), omega
        for i, layer in enumerate(self.layers):
            bound = 1 / sizes[i] if i == 0 else (6 / sizes[i]) ** 0.5 / omega
            nn.init.uniform_(layer.get_parameter("weight"), -bound, bound)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Brightness [N, 1] at coordinates [N, 2]."""
        for layer in self.layers:
            x = torch.sin(self.omega * layer(x))
        out: torch.Tensor = self.last(x)
        return out


class Highway(nn.Module):
    """Layers whose gates carry their input on, nearly shut at first (Srivastava et al. 2015)."""

    def __init__(self, *, width: int = 32, depth: int = 8, classes: int = 8) -> None:
        super().__init__()
        self.enter = nn.Linear(16, width)
        self.layers = nn.ModuleList(nn.Linear(width, width) for _ in range(depth))
        self.gates = nn.ModuleList(nn.Linear(width, width) for _ in range(depth))
        for gate in self.gates:
            nn.init.constant_(gate.get_parameter("bias"), -2.0)
        self.head = nn.Linear(width, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Class scores [N, K]."""
        x = torch.tanh(self.enter(x))
        for layer, gate in zip(self.layers, self.gates, strict=True):
            share = torch.sigmoid(gate(x))
            x = x + share * (torch.relu(layer(x)) - x)
        out: torch.Tensor = self.head(x)
        return out


class Hyper(nn.Module):
    """Writes the weights of a small regression for the task that it is told (Ha et al. 2016)."""

    def __init__(self, *, told: int = 4, inner: int = 12) -> None:
        super().__init__()
        self.inner = inner
        self.body = nn.Sequential(nn.Linear(told, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU())
        self.write = nn.Linear(32, 3 * inner + 1)

    def forward(self, told: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        """Values [T, N] of points x [T, N] in tasks [T, told]."""
        weights = self.write(self.body(told))[:, None]
        a, b, c, d = weights.split([self.inner] * 3 + [1], dim=-1)
        out: torch.Tensor = (torch.tanh(a * x[..., None] + b) * c).sum(-1) + d[..., 0]
        return out


class Siamese(nn.Module):
    """An encoder, and a predictor of one view's code from the other's (Chen and He 2021)."""

    def __init__(self, *, inputs: int = 16, width: int = 32) -> None:
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Linear(inputs, width), nn.BatchNorm1d(width), nn.ReLU(), nn.Linear(width, width)
        )
        self.predictor = nn.Sequential(nn.Linear(width, 12), nn.ReLU(), nn.Linear(12, width))
        self.spread = 1.0

    def forward(self, a: torch.Tensor, b: torch.Tensor, *, stops: bool) -> torch.Tensor:
        """Minus the agreement of two views; `stops` takes the goal's gradient away."""
        codes = self.encoder(a), self.encoder(b)
        goals = [c.detach() if stops else c for c in codes]
        self.spread = float(functional.normalize(codes[0].detach(), dim=1).std(dim=0).mean())
        agreed = [
            functional.cosine_similarity(self.predictor(code), goal).mean()
            for code, goal in zip(codes, goals[::-1], strict=True)
        ]
        return -(agreed[0] + agreed[1]) / 2
