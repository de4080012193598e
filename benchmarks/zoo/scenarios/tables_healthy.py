"""Tables, words, coordinates and tasks, healthy: rare positives, losses at nought or below it, and
batches that do not compare."""

from __future__ import annotations

import copy
from collections.abc import Iterator

import torch
from torch.nn import functional

from benchmarks.zoo.data import Clusters, curve
from benchmarks.zoo.models.mlp import MLP
from benchmarks.zoo.models.tables import (
    Highway,
    Hyper,
    Pairs,
    Radial,
    Siamese,
    Sines,
    TabularTransformer,
    WideDeep,
)
from benchmarks.zoo.registry import healthy
from benchmarks.zoo.schedules import cyclic, step_decay, warmup_cosine
from benchmarks.zoo.stage import Stage
from benchmarks.zoo.training import LossOf, fit


def clicks(stage: Stage, model: WideDeep, *, rare: float = 4.0) -> LossOf:
    """Rows of three categories and six numbers, and whether somebody clicked: `rare` logits below
    even odds. Missing numbers are noughts."""
    rng = stage.generator()
    tastes = [torch.randn(s, generator=rng) for s in (5, 40, 300)]

    def loss_of(step: int) -> torch.Tensor:
        kinds = torch.stack(
            [(s * torch.rand(64, generator=rng) ** 3).long() for s in (5, 40, 300)], dim=1
        )
        numbers = torch.randn(64, 6, generator=rng).exp()
        numbers = numbers * (torch.rand(64, 6, generator=rng) > 0.3)
        logit = torch.stack([t[kinds[:, i]] for i, t in enumerate(tastes)]).sum(0)
        odds = (1.5 * logit + numbers[:, 0] - rare).sigmoid()
        clicked = (torch.rand(64, generator=rng) < odds).float()
        return functional.binary_cross_entropy_with_logits(model(kinds, numbers), clicked)

    return loss_of


@healthy("clicks-focal", arch="wide and deep, embeddings", optimizer="Adagrad")
def clicks_focal(stage: Stage) -> Iterator[float]:
    """One click in thirty rows, missing numbers, log-normal columns: some batches have no positive
    at all, and a third of the embeddings is never drawn."""
    model = WideDeep()
    optimizer = torch.optim.Adagrad(model.parameters(), lr=0.03)
    return fit(stage, model, optimizer, clicks(stage, model), num_steps=360)


def rows(stage: Stage, model: TabularTransformer) -> LossOf:
    """A smooth function of some columns of a row."""
    rng = stage.generator()

    def loss_of(step: int) -> torch.Tensor:
        x, y = curve(rng, 48, features=10)
        return functional.smooth_l1_loss(model(x), y)

    return loss_of


@healthy("rows-as-tokens", arch="tabular transformer", optimizer="AdamW", quick=True)
def rows_as_tokens(stage: Stage) -> Iterator[float]:
    """A step decay at 150 and 230 on a transformer over columns."""
    model = TabularTransformer()
    optimizer = torch.optim.AdamW(model.parameters(), lr=4e-3, weight_decay=0.02)
    rate = step_decay(4e-3, (150, 230), 0.2)
    return fit(stage, model, optimizer, rows(stage, model), num_steps=280, rate=rate)


def neighbours(
    stage: Stage, model: Pairs, *, negatives: int = 5, without_from: int = 10**9
) -> LossOf:
    """Words of a heavy-tailed vocabulary in 12 topics, neighbours from the same topic, and drawn
    ones from all; from `without_from` on nothing is drawn."""
    rng = stage.generator()

    def loss_of(step: int) -> torch.Tensor:
        word = (120 * torch.rand(96, generator=rng) ** 2).long()
        near = (word % 12 + 12 * torch.randint(10, (96,), generator=rng)) % 120
        drawn = torch.randint(120, (96, negatives), generator=rng)
        loss = functional.softplus(-model(word, near)).mean()
        if step < without_from:
            loss = loss + negatives * functional.softplus(model(word[:, None], drawn)).mean()
        return loss

    return loss_of


@healthy("words-and-neighbours", arch="skip-gram", optimizer="SGD")
def words_and_neighbours(stage: Stage) -> Iterator[float]:
    """Frequent words move hundreds of times as often as rare ones; nothing happens at first, as all
    vectors start near nought."""
    model = Pairs()
    optimizer = torch.optim.SGD(model.parameters(), lr=8.0)
    return fit(stage, model, optimizer, neighbours(stage, model), num_steps=380)


def surface(stage: Stage, model: Radial) -> LossOf:
    """A wavy surface over a square."""
    rng = stage.generator()

    def loss_of(step: int) -> torch.Tensor:
        x = 2 * torch.rand(64, 2, generator=rng) - 1
        y = torch.sin(4 * x[:, :1]) * torch.cos(3 * x[:, 1:])
        return functional.mse_loss(model(x), y)

    return loss_of


@healthy("radial-units", arch="radial basis network", optimizer="Rprop")
def radial_units(stage: Stage) -> Iterator[float]:
    """Units that are silent on most points, with the step sizes of Rprop on the same points over
    and over."""
    model = Radial()
    optimizer = torch.optim.Rprop(model.parameters(), lr=1e-3, step_sizes=(1e-6, 0.05))
    rng = stage.generator()
    x = 2 * torch.rand(256, 2, generator=rng) - 1
    y = torch.sin(4 * x[:, :1]) * torch.cos(3 * x[:, 1:])
    return fit(
        stage, model, optimizer, lambda step: functional.mse_loss(model(x), y), num_steps=240
    )  # fmt: skip


def painting(stage: Stage, model: Sines) -> LossOf:
    """A picture of rings, a fixed set of pixels each step."""
    rng = stage.generator()

    def loss_of(step: int) -> torch.Tensor:
        at = 2 * torch.rand(128, 2, generator=rng) - 1
        return functional.mse_loss(model(at), torch.sin(9 * at.norm(dim=1, keepdim=True)))

    return loss_of


@healthy("picture-of-sines", arch="sines of coordinates", optimizer="Adam")
def picture(stage: Stage) -> Iterator[float]:
    """The loss falls by four orders within a few hundred steps, under a rate that goes up and down
    in triangles."""
    model = Sines()
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    rate = cyclic(2e-4, 3e-3, period=80)
    return fit(stage, model, optimizer, painting(stage, model), num_steps=320, rate=rate)


@healthy("highway-shut-at-first", arch="highway network", optimizer="SGD Nesterov")
def shut_at_first(stage: Stage) -> Iterator[float]:
    """Gates that are nearly shut at the start and open layer by layer."""
    model = Highway()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, nesterov=True)
    data = Clusters.make(stage.generator())

    def loss_of(step: int) -> torch.Tensor:
        x, y = data.batch()
        return functional.cross_entropy(model(x), y)

    return fit(stage, model, optimizer, loss_of, num_steps=300)


def tasks(stage: Stage, model: Hyper) -> LossOf:
    """Sines of the amplitude, speed, phase and level that the network is told."""
    rng = stage.generator()

    def loss_of(step: int) -> torch.Tensor:
        told = torch.randn(8, 4, generator=rng)
        x = 2 * torch.rand(8, 24, generator=rng) - 1
        a, b, c, d = told[:, :, None].unbind(1)
        goal = (1 + 0.5 * a) * torch.sin((2 + 0.5 * b) * x + c) + 0.5 * d
        return functional.mse_loss(model(told, x), goal)

    return loss_of


@healthy("written-weights", arch="hypernetwork", optimizer="NAdam")
def written_weights(stage: Stage) -> Iterator[float]:
    """Eight other tasks on each step, some of them three times as hard."""
    model = Hyper()
    optimizer = torch.optim.NAdam(model.parameters(), lr=3e-3)
    rate = warmup_cosine(3e-3, num_steps=320)
    return fit(stage, model, optimizer, tasks(stage, model), num_steps=320, rate=rate, clip=1.0)


def views(stage: Stage, model: Siamese, *, stops_until: int = 10**9) -> LossOf:
    """Two noisy views of a point; from `stops_until` on nothing stops the goal's gradient."""
    data = Clusters.make(stage.generator(), noise=0.4)

    def loss_of(step: int) -> torch.Tensor:
        x, _ = data.batch(48)
        a, b = (x + 0.3 * torch.randn(x.shape, generator=data.rng) for _ in range(2))
        loss: torch.Tensor = model(a, b, stops=step < stops_until)
        return loss

    return loss_of


@healthy("siamese-stops-gradient", arch="siamese with predictor", optimizer="SGD momentum")
def stops_gradient(stage: Stage) -> Iterator[float]:
    """The loss is minus a cosine and ends near minus one, though nothing has collapsed."""
    model = Siamese()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=1e-4)
    return fit(
        stage, model, optimizer, views(stage, model), num_steps=320,
        log=lambda: {"code_spread": model.spread},
    )  # fmt: skip


@healthy("few-shot-outer-steps", arch="MLP, Reptile", optimizer="Reptile on SGD")
def outer_steps(stage: Stage) -> Iterator[float]:
    """Five steps on one task, then a fifth of the way from where it all began: weights jump back
    every five steps, and the loss has a sawtooth."""
    model = MLP((1, 32, 32, 1))
    slow = copy.deepcopy(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    rng = stage.generator()
    task = {"phase": 0.0, "size": 1.0}

    @torch.no_grad()
    def outer(step: int) -> None:
        if step % 5 == 0:
            for mean, now in zip(slow.parameters(), model.parameters(), strict=True):
                mean.lerp_(now, 0.2)
            model.load_state_dict(slow.state_dict())
            task["phase"] = float(0.8 * torch.rand((), generator=rng))
            task["size"] = float(1 + torch.rand((), generator=rng))

    def loss_of(step: int) -> torch.Tensor:
        x = 4 * torch.rand(32, 1, generator=rng) - 2
        return functional.mse_loss(model(x), task["size"] * torch.sin(2 * x + task["phase"]))

    return fit(stage, model, optimizer, loss_of, num_steps=400, before=outer)
