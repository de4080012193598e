"""Graphs, tables of ids, trees, and classes as directions.

Shapes: N batch, F features, D width, K classes, E edges.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from benchmarks.zoo.models.mlp import MLP


class Isomorphism(nn.Module):
    """A graph network that sums over neighbours, and over all nodes at its end."""

    def __init__(self, *, features: int = 6, width: int = 24, layers: int = 3) -> None:
        super().__init__()
        self.enter = nn.Linear(features, width)
        self.convs = nn.ModuleList(MLP((width, width, width)) for _ in range(layers))
        self.head = nn.Linear(width, 3)

    def forward(
        self, nodes: torch.Tensor, edges: torch.Tensor, graph: torch.Tensor, num: int
    ) -> torch.Tensor:
        """Scores [num, 3] of graphs: `nodes` [n, F] lie in `graph` [n], `edges` are [2, E]."""
        x = torch.relu(self.enter(nodes))
        for conv in self.convs:
            came = torch.zeros_like(x).index_add(0, edges[1], x[edges[0]])
            x = torch.relu(conv(0.5 * x + 0.25 * came))
        whole = torch.zeros(num, x.shape[1]).index_add(0, graph, x)
        out: torch.Tensor = self.head(0.1 * whole)
        return out


class Translation(nn.Module):
    """TransE: what is true is a way from one thing to another."""

    def __init__(self, *, things: int = 200, relations: int = 6, width: int = 16) -> None:
        super().__init__()
        self.entities = nn.Embedding(things, width)
        self.relations = nn.Embedding(relations, width)
        self.renew()

    @torch.no_grad()
    def renew(self) -> None:
        """Bring all things back to length 1."""
        self.entities.weight.copy_(functional.normalize(self.entities.weight, dim=1))

    def forward(self, head: torch.Tensor, kind: torch.Tensor, tail: torch.Tensor) -> torch.Tensor:
        """How far off a triple is."""
        off = self.entities(head) + self.relations(kind) - self.entities(tail)
        out: torch.Tensor = torch.linalg.vector_norm(off, dim=-1)
        return out


class Cross(nn.Module):
    """Layers that multiply what they get with the row itself, beside which a table of ids feeds the
    row."""

    def __init__(self, *, ids: int = 60, width: int = 8, numbers: int = 6, layers: int = 2) -> None:
        super().__init__()
        self.table = nn.Embedding(ids, width)
        whole = width + numbers
        self.crosses = nn.ModuleList(nn.Linear(whole, whole) for _ in range(layers))
        self.deep = MLP((whole, 32, 16))
        self.head = nn.Linear(whole + 16, 1)

    def forward(self, ids: torch.Tensor, numbers: torch.Tensor) -> torch.Tensor:
        """Logits [N]."""
        row = torch.cat([self.table(ids), numbers], dim=1)
        x = row
        for cross in self.crosses:
            x = row * cross(x) + x
        out: torch.Tensor = self.head(torch.cat([x, self.deep(row)], dim=1))[:, 0]
        return out


class Trees(nn.Module):
    """Soft oblivious trees: one learned question a level, the same one for the whole level, and a
    sum over leaves. `sharpness` says how sure the questions are."""

    def __init__(self, *, features: int = 8, trees: int = 16, depth: int = 4) -> None:
        super().__init__()
        self.questions = nn.Linear(features, trees * depth)
        self.gate = nn.Sigmoid()
        self.leaves = nn.Parameter(0.1 * torch.randn(trees, 2**depth))
        self.sharpness = 1.0
        self.depth = depth

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Values [N, 1]."""
        yes = self.gate(self.sharpness * self.questions(x)).unflatten(1, (-1, self.depth))
        reach = torch.ones(*yes.shape[:2], 1)
        for level in range(self.depth):
            part = yes[..., level, None]
            reach = torch.cat([reach * part, reach * (1 - part)], dim=-1)
        out: torch.Tensor = (reach * self.leaves).sum(dim=(1, 2))[:, None]
        return out


class Directions(nn.Module):
    """Classes are directions, points are turned towards theirs: cosines, sharpened, with a margin
    for the true one. `unit` False leaves the points' lengths as they are."""

    def __init__(self, *, classes: int = 8, width: int = 16) -> None:
        super().__init__()
        self.encoder = MLP((16, 48, 48, width))
        self.classes = nn.Linear(width, classes, bias=False)
        self.margin, self.sharpness, self.unit = 0.0, 12.0, True

    def forward(self, x: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Logits [N, K]."""
        code = self.encoder(x)
        if self.unit:
            code = functional.normalize(code, dim=1)
        near = self.classes(code) / self.classes.weight.norm(dim=1)
        true = functional.one_hot(labels, near.shape[1])
        out: torch.Tensor = self.sharpness * (near - self.margin * true)
        return out
