"""Sequences and sets in other networks than transformers, healthy."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from benchmarks.zoo.data import Batch, copy_task
from benchmarks.zoo.models.sequence import (
    Dilated,
    GraphAttention,
    LinearReader,
    Pointer,
    Reservoir,
    SetNet,
    Translator,
)
from benchmarks.zoo.optimizers import AdaBelief
from benchmarks.zoo.registry import healthy
from benchmarks.zoo.schedules import warm_restarts
from benchmarks.zoo.stage import Stage
from benchmarks.zoo.training import LossOf, fit


def translates(stage: Stage, model: Translator, *, own_per_step: float = 0.0) -> LossOf:
    """Reverse a sequence; the odds of being fed its own symbols grow by `own_per_step`."""
    rng = stage.generator()

    def loss_of(step: int) -> torch.Tensor:
        x, y = copy_task(rng, 24, length=6)
        logits = model(x, y, min(0.5, own_per_step * step))
        return functional.cross_entropy(logits.flatten(0, 1), y.flatten())

    return loss_of


@healthy("translator-own-words", arch="GRU seq2seq with attention", optimizer="AdamW")
def own_words(stage: Stage) -> Iterator[float]:
    """Scheduled sampling: the network is fed more and more of what it wrote itself, and some
    batches wholly so: the loss jumps up and down between two levels."""
    model = Translator()
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    loss_of = translates(stage, model, own_per_step=0.0015)
    return fit(stage, model, optimizer, loss_of, num_steps=300, clip=1.0)


def sorts(stage: Stage, model: Pointer, *, longest: int = 6, hold: int = 10**9) -> LossOf:
    """Sort numbers; sequences begin with three and get one longer every `hold` steps."""
    rng = stage.generator()

    def loss_of(step: int) -> torch.Tensor:
        x = torch.rand(24, min(longest, 3 + step // hold), generator=rng)
        order = x.argsort(dim=1)
        return functional.cross_entropy(model(x, order).flatten(0, 1), order.flatten())

    return loss_of


@healthy("pointer-longer-and-longer", arch="pointer network", optimizer="Adam")
def longer(stage: Stage) -> Iterator[float]:
    """A curriculum: a number more to sort every 90 steps, each time with a note, and the loss steps
    up."""
    model = Pointer()
    optimizer = torch.optim.Adam(model.parameters(), lr=8e-3)
    loss_of = sorts(stage, model, hold=90, longest=5)

    def log() -> dict[str, Any]:
        return {"attn_logit_max": model.logit_max}

    notes = {90: "four numbers", 180: "five numbers"}
    return fit(stage, model, optimizer, loss_of, num_steps=300, clip=2.0, log=log, notes=notes)


def waves(rng: torch.Generator, num: int = 12, *, length: int = 32) -> torch.Tensor:
    """Sums of two sines of random speeds [N, C]."""
    t = torch.arange(length)
    speed = 0.1 + 0.5 * torch.rand(num, 2, 1, generator=rng)
    phase = 6.3 * torch.rand(num, 2, 1, generator=rng)
    out: torch.Tensor = torch.sin(speed * t + phase).sum(1)
    return out + 0.05 * torch.randn(num, length, generator=rng)


def forecasts(stage: Stage, model: Dilated) -> LossOf:
    """The next value of waves."""
    rng = stage.generator()

    def loss_of(step: int) -> torch.Tensor:
        x = waves(rng)
        return functional.mse_loss(model(x[:, None, :-1])[:, 0], x[:, 1:])

    return loss_of


@healthy("dilated-outages", arch="dilated gated convolutions", optimizer="AdaBelief")
def outages(stage: Stage) -> Iterator[float]:
    """One sensor in eight fails for a while and sends noughts: a part of every batch is easy, and
    at times nearly all of it."""
    model = Dilated()
    optimizer = AdaBelief(model.parameters(), 3e-3)
    rng = stage.generator()

    def loss_of(step: int) -> torch.Tensor:
        x = waves(rng)
        lost = torch.rand(12, generator=rng) < (0.75 if step % 35 == 34 else 0.12)
        x = torch.where(lost[:, None], torch.zeros_like(x), x)
        return functional.mse_loss(model(x[:, None, :-1])[:, 0], x[:, 1:])

    return fit(stage, model, optimizer, loss_of, num_steps=320)


def recall(rng: torch.Generator, num: int = 24, *, pairs: int = 4) -> Batch:
    """Pairs of a key and a value, then a key [N, 2 * pairs + 1], and the value that belongs to
    it."""
    keys = torch.stack([torch.randperm(8, generator=rng)[:pairs] for _ in range(num)])
    values = 8 + torch.randint(8, (num, pairs), generator=rng)
    asked = torch.randint(pairs, (num, 1), generator=rng)
    shown = torch.stack([keys, values], dim=2).flatten(1)
    return torch.cat([shown, keys.gather(1, asked)], dim=1), values.gather(1, asked)[:, 0]


def recalls(stage: Stage, model: LinearReader) -> LossOf:
    """The value of the key that is asked for."""
    rng = stage.generator()

    def loss_of(step: int) -> torch.Tensor:
        x, y = recall(rng)
        return functional.cross_entropy(model(x)[:, -1], y)

    return loss_of


@healthy("linear-attention-recall", arch="linear attention", optimizer="Adam")
def linear_recall(stage: Stage) -> Iterator[float]:
    """A memory task: warm restarts of the rate, and a long flat part between two falls."""
    model = LinearReader(16)
    optimizer = torch.optim.Adam(model.parameters(), lr=6e-3)
    rate = warm_restarts(6e-3, period=110)
    return fit(stage, model, optimizer, recalls(stage, model), num_steps=330, rate=rate)


@healthy("reservoir-readout", arch="echo state network", optimizer="Adagrad")
def reservoir_readout(stage: Stage) -> Iterator[float]:
    """One linear layer learns on a fixed reservoir whose states sit near the limits of tanh."""
    model = Reservoir(radius=1.1)
    optimizer = torch.optim.Adagrad(model.parameters(), lr=0.02)
    rng = stage.generator()

    def loss_of(step: int) -> torch.Tensor:
        x = 2 * waves(rng, length=24)
        return functional.mse_loss(model(x[:, :-1]), x[:, 1:])

    return fit(stage, model, optimizer, loss_of, num_steps=280)


class Attended(nn.Module):
    """Two layers of graph attention on one graph."""

    def __init__(self, *, inputs: int = 12) -> None:
        super().__init__()
        self.conv1, self.conv2 = GraphAttention(inputs, 8), GraphAttention(16, 8)
        self.out = nn.Linear(16, 4)

    def forward(self, x: torch.Tensor, near: torch.Tensor) -> torch.Tensor:
        """Scores [nodes, 4]."""
        h = functional.elu(self.conv1(x, near))
        out: torch.Tensor = self.out(functional.elu(self.conv2(h, near)))
        return out

    def attn_logit_max(self) -> float:
        """The largest score of the last forward pass."""
        return max(self.conv1.logit_max, self.conv2.logit_max)


def citations(stage: Stage, model: Attended, *, nodes: int = 60) -> LossOf:
    """One graph of four communities, seen whole on each step; a third of the nodes has labels, and
    a fifth of the features is hidden at random."""
    rng, drops = stage.generator(), stage.generator(1)
    y = torch.randint(4, (nodes,), generator=rng)
    odds = torch.where(y[:, None] == y, 0.25, 0.03)
    near = ((torch.rand(nodes, nodes, generator=rng) < odds).float() + torch.eye(nodes)).clamp(0, 1)
    x = torch.randn(4, 12, generator=rng)[y] + 1.5 * torch.randn(nodes, 12, generator=rng)
    known = torch.rand(nodes, generator=rng) < 0.35

    def loss_of(step: int) -> torch.Tensor:
        shown = x * (torch.rand(x.shape, generator=drops) > 0.2)
        return functional.cross_entropy(model(shown, near)[known], y[known])

    return loss_of


@healthy("graph-attention-one-graph", arch="graph attention", optimizer="Adam with decay")
def one_graph(stage: Stage) -> Iterator[float]:
    """Twenty labelled nodes, seen again on every step: the loss goes to a hundredth and below, and
    gradients with it."""
    model = Attended()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2, weight_decay=5e-4)
    return fit(stage, model, optimizer, citations(stage, model), num_steps=260)


def shapes(stage: Stage, model: SetNet) -> LossOf:
    """Clouds of 4 to 40 points on one of four surfaces: sums over members are of ten sizes."""
    rng = stage.generator()
    stretch = torch.tensor([[1, 1, 1], [1, 1, 0.1], [1, 0.1, 0.1], [0.3, 0.3, 0.3]])

    def loss_of(step: int) -> torch.Tensor:
        num = int(torch.randint(4, 41, (1,), generator=rng))
        y = torch.randint(4, (16,), generator=rng)
        x = torch.randn(16, num, 3, generator=rng) * stretch[y][:, None]
        return functional.cross_entropy(model(x), y)

    return loss_of


@healthy("sets-of-all-sizes", arch="deep sets", optimizer="ASGD")
def all_sizes(stage: Stage) -> Iterator[float]:
    """Sets of 4 to 40 members, summed: activations, loss and gradients vary tenfold from step to
    step."""
    model = SetNet()
    optimizer = torch.optim.ASGD(model.parameters(), lr=0.02, t0=150)
    return fit(stage, model, optimizer, shapes(stage, model), num_steps=360, clip=1.0)
