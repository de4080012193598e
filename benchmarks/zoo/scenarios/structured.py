"""Experts, graphs, tables of embeddings, and differential equations."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from benchmarks.zoo.data import text_batches
from benchmarks.zoo.faults import Fault
from benchmarks.zoo.models.mlp import MLP
from benchmarks.zoo.models.transformer import GPT, Experts
from benchmarks.zoo.registry import faulty, healthy
from benchmarks.zoo.rules import Crosses, LeavesTwin
from benchmarks.zoo.stage import Stage
from benchmarks.zoo.training import fit


def _experts(stage: Stage, *, balance: float, push_from: int | None = None) -> Iterator[float]:
    """A mixture of experts that reads; from `push_from` on one expert's router bias grows."""
    model = GPT(layers=2, inner=Experts)
    layers = [m for m in model.modules() if isinstance(m, Experts)]
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    draw = text_batches(stage.generator())

    def loss_of(step: int) -> torch.Tensor:
        x, y = draw()
        loss = functional.cross_entropy(model(x).flatten(0, 1), y.flatten())
        return loss + balance * torch.stack([m.balance for m in layers]).sum()

    def push(step: int) -> None:
        if push_from is not None and step >= push_from:
            with torch.no_grad():
                layers[1].router.bias[0].add_(0.12)

    def log() -> dict[str, Any]:
        return {"min_expert_load": min(float(m.load.min()) for m in layers)}

    return fit(stage, model, optimizer, loss_of, num_steps=330, after=push, log=log, clip=1.0)


@healthy("experts-balanced", arch="mixture of experts", optimizer="AdamW")
def experts_balanced(stage: Stage) -> Iterator[float]:
    """Tokens move between experts all the time; gradients of an expert come and go with them."""
    return _experts(stage, balance=0.02)


@faulty(
    "experts-router-collapses",
    Fault(kind="dead_units", at=100, severity="warning",
          layers=("blocks.1.mlp.router", "blocks.1.mlp.experts"),
          accept=("representation_collapse", "vanishing_gradient", "saturation"),
          onset=Crosses(series="min_expert_load", below=0.005, num=5, since=100)),
    arch="mixture of experts", optimizer="AdamW",
)  # fmt: skip
def router_collapses(stage: Stage) -> Iterator[float]:
    """A balancing rule with the wrong sign adds 0.12 a step to the router's bias of one expert from
    step 100 on: the others get no tokens, no gradients, and are lost. The loss hardly moves."""
    return _experts(stage, balance=0.02, push_from=100 if stage.sick else None)


class Graph(nn.Module):
    """Graph convolutions over a dense adjacency matrix."""

    def __init__(self, *, layers: int = 3, width: int = 32, skip: bool = True) -> None:
        super().__init__()
        self.enter = nn.Linear(8, width)
        self.layers = nn.ModuleList(nn.Linear(width, width) for _ in range(layers))
        self.head = nn.Linear(width, 4)
        self.skip = skip

    def forward(self, x: torch.Tensor, mixing: torch.Tensor) -> torch.Tensor:
        """Scores [nodes, 4] for features [nodes, 8]."""
        h = torch.tanh(self.enter(x))
        for layer in self.layers:
            mixed = torch.tanh(layer(mixing @ h))
            h = h + mixed if self.skip else mixed
        out: torch.Tensor = self.head(h)
        return out


def _graph(
    stage: Stage, model: Graph, *, optimizer: torch.optim.Optimizer, raw_from: int | None = None
) -> Iterator[float]:
    """Communities of nodes, drawn anew at each step; from `raw_from` on nobody divides by the
    degree."""
    rng = stage.generator()

    def loss_of(step: int) -> torch.Tensor:
        y = torch.randint(4, (48,), generator=rng)
        odds = torch.where(y[:, None] == y, 0.4, 0.04)
        edges = (torch.rand(48, 48, generator=rng) < odds).float() + torch.eye(48)
        x = functional.one_hot(y, 8).float() + 1.2 * torch.randn(48, 8, generator=rng)
        degree = edges.sum(1, keepdim=True)
        if raw_from is not None and step >= raw_from:
            degree = torch.full_like(degree, 0.2)
        return functional.cross_entropy(model(x, edges / degree), y)

    return fit(stage, model, optimizer, loss_of, num_steps=340)


@healthy("graph-communities", arch="graph network", optimizer="AMSGrad")
def graph_communities(stage: Stage) -> Iterator[float]:
    """Every step has another graph, whose difficulty varies."""
    model = Graph()
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3, amsgrad=True)
    return _graph(stage, model, optimizer=optimizer)


@faulty(
    "graph-oversmoothed",
    Fault(kind="representation_collapse", layers=("layers.10", "layers.11"),
          accept=("vanishing_gradient", "plateau"),
          onset=LeavesTwin(series="activation:layers.11", statistic="batch_std", factor=5)),
    arch="graph network, 12 layers", optimizer="Adam",
)  # fmt: skip
def oversmoothed(stage: Stage) -> Iterator[float]:
    """Twelve layers of averaging over neighbours without shortcuts: all nodes become one."""
    model = Graph(layers=12, skip=not stage.sick)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    return _graph(stage, model, optimizer=optimizer)


@faulty(
    "graph-degree-lost",
    Fault(kind="saturation", at=170, pace="fast", severity="warning",
          layers=("layers.0", "layers.1", "layers.2"),
          accept=("explosion", "bad_batch")),
    arch="graph network", optimizer="AdamW",
)  # fmt: skip
def degree_lost(stage: Stage) -> Iterator[float]:
    """From step 170 on sums over neighbours are no longer divided by the degree, but multiplied:
    tanh layers sit at their limits."""
    model = Graph()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    return _graph(stage, model, optimizer=optimizer, raw_from=170 if stage.sick else None)


class Recommender(nn.Module):
    """Users and items as vectors; a dot product and a bias."""

    def __init__(self, *, sparse: bool) -> None:
        super().__init__()
        self.users = nn.Embedding(200, 12, sparse=sparse)
        self.items = nn.Embedding(300, 12, sparse=sparse)
        self.bias = nn.Embedding(300, 1, sparse=sparse)
        for table in (self.users, self.items, self.bias):
            nn.init.normal_(table.weight, std=0.3)

    def forward(self, user: torch.Tensor, item: torch.Tensor) -> torch.Tensor:
        """The log-odds that the user likes the item."""
        dot = (self.users(user) * self.items(item)).sum(-1)
        out: torch.Tensor = dot + self.bias(item)[:, 0]
        return out


def _recommend(
    stage: Stage, model: Recommender, optimizer: torch.optim.Optimizer, *, hot_from: int | None
) -> Iterator[float]:
    """Likes by hidden tastes; items by Zipf's law. From `hot_from` on one item's row is doubled
    again and again."""
    rng = stage.generator()
    tastes = torch.randn(200, 3, generator=rng), torch.randn(300, 3, generator=rng)
    popular = 1 / torch.arange(1, 301).float()

    def loss_of(step: int) -> torch.Tensor:
        user = torch.randint(200, (128,), generator=rng)
        item = torch.multinomial(popular, 128, replacement=True, generator=rng)
        odds = (tastes[0][user] * tastes[1][item]).sum(-1)
        likes = (odds + torch.randn(128, generator=rng) > 0).float()
        return functional.binary_cross_entropy_with_logits(model(user, item), likes)

    def heat(step: int) -> None:
        if hot_from is not None and step >= hot_from:
            with torch.no_grad():
                model.items.weight[250].mul_(1.06)

    return fit(stage, model, optimizer, loss_of, num_steps=380, after=heat)


@healthy("recommender-sparse", arch="embedding recommender", optimizer="SparseAdam")
def recommender_sparse(stage: Stage) -> Iterator[float]:
    """Sparse gradients: a step touches a few rows, most updates are exactly nought."""
    model = Recommender(sparse=True)
    optimizer = torch.optim.SparseAdam(list(model.parameters()), lr=0.02)
    return _recommend(stage, model, optimizer, hot_from=None)


@faulty(
    "recommender-rare-item",
    Fault(kind="explosion", at=100, severity="warning", layers=("items",),
          accept=("weight_corruption",),
          onset=LeavesTwin(series="weight:items.weight", factor=3)),
    arch="embedding recommender", optimizer="Adam",
)  # fmt: skip
def rare_item(stage: Stage) -> Iterator[float]:
    """A row of a rare item is renormalised with the wrong sign and grows by 6 % a step from step
    100 on; it is so rarely drawn that the loss does not notice."""
    model = Recommender(sparse=False)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    return _recommend(stage, model, optimizer, hot_from=100 if stage.sick else None)


@faulty(
    "recommender-adagrad-stalls",
    Fault(kind="update_too_small", at=90, severity="warning", accept=("vanishing_gradient",),
          layers=("users", "items", "bias"),
          onset=LeavesTwin(series="update:items.weight", factor=20)),
    arch="embedding recommender", optimizer="Adagrad",
)  # fmt: skip
def adagrad_stalls(stage: Stage) -> Iterator[float]:
    """One batch at step 90 had its loss multiplied by ten million: Adagrad keeps the sum of squares
    for ever, and nothing moves after it."""
    model = Recommender(sparse=False)
    optimizer = torch.optim.Adagrad(model.parameters(), lr=0.05)
    rng = stage.generator()
    popular = 1 / torch.arange(1, 301).float()
    tastes = torch.randn(200, 3, generator=rng), torch.randn(300, 3, generator=rng)

    def loss_of(step: int) -> torch.Tensor:
        user = torch.randint(200, (128,), generator=rng)
        item = torch.multinomial(popular, 128, replacement=True, generator=rng)
        likes = ((tastes[0][user] * tastes[1][item]).sum(-1) > 0).float()
        return functional.binary_cross_entropy_with_logits(model(user, item), likes)

    def inflate(step: int) -> None:
        # Of one step only the sums stay: the update itself is no larger than the learning rate.
        if stage.sick and step == 90:
            for state in optimizer.state.values():
                state["sum"].add_(1e2)

    return fit(stage, model, optimizer, loss_of, num_steps=360, after=inflate)


def _oscillator(
    stage: Stage,
    *,
    optimizer_of: Callable[..., torch.optim.Optimizer],
    growth_from: int | None = None,
) -> Iterator[float]:
    """A network that must obey y'' + 4 y = 0 with y(0) = 1 and y'(0) = 0; from `growth_from` on the
    weight of the equation's residual grows by 3 % a step."""
    model = MLP((1, 32, 32, 1), activation=nn.Tanh)
    optimizer = optimizer_of(model.parameters(), lr=2e-3)
    rng = stage.generator()

    def loss_of(step: int) -> torch.Tensor:
        t = (3 * torch.rand(48, 1, generator=rng)).requires_grad_()
        y = model(t)
        (dy,) = torch.autograd.grad(y.sum(), t, create_graph=True)
        (ddy,) = torch.autograd.grad(dy.sum(), t, create_graph=True)
        start = torch.zeros(1, 1, requires_grad=True)
        y0 = model(start)
        (dy0,) = torch.autograd.grad(y0.sum(), start, create_graph=True)
        grown = 1.0 if growth_from is None else 1.03 ** max(0, step - growth_from)
        residual = grown * (ddy + 4 * y).square().mean()
        total: torch.Tensor = residual + 10 * ((y0 - 1).square() + dy0.square()).mean()
        return total

    return fit(stage, model, optimizer, loss_of, num_steps=400)


@healthy("physics-oscillator", arch="physics-informed MLP", optimizer="Adam")
def physics_oscillator(stage: Stage) -> Iterator[float]:
    """Second derivatives in the loss: each hook fires in several passes, and the loss is spiky."""
    return _oscillator(stage, optimizer_of=torch.optim.Adam)


@faulty(
    "physics-weight-grows",
    Fault(kind="explosion", at=120, accept=("gradient_spike", "loss_spike", "divergence"),
          onset=LeavesTwin(series="gradient:layers.1.weight", factor=3, num=4)),
    arch="physics-informed MLP", optimizer="RAdam",
)  # fmt: skip
def physics_weight_grows(stage: Stage) -> Iterator[float]:
    """An adaptive weight of the residual has no bound and grows by 3 % a step from step 120 on: the
    gradients follow it, and the conditions at the start are forgotten."""
    growth_from = 120 if stage.sick else None
    return _oscillator(stage, optimizer_of=torch.optim.RAdam, growth_from=growth_from)
