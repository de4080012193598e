"""Healthy multi-layer perceptrons that look alarming."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import nn
from torch.nn import functional

from benchmarks.zoo.data import Clusters, curve
from benchmarks.zoo.models.mlp import MLP
from benchmarks.zoo.registry import healthy
from benchmarks.zoo.schedules import step_decay, warm_restarts, warmup_cosine
from benchmarks.zoo.stage import Stage
from benchmarks.zoo.training import LossOf, fit


def _classify(stage: Stage, model: nn.Module, *, num: int = 32, noise: float = 0.7) -> LossOf:
    data = Clusters.make(stage.generator(), noise=noise)

    def loss_of(step: int) -> torch.Tensor:
        x, y = data.batch(num)
        return functional.cross_entropy(model(x), y)

    return loss_of


@healthy("mlp-step-decay", arch="MLP", optimizer="SGD momentum", quick=True)
def step_decays(stage: Stage) -> Iterator[float]:
    """The learning rate falls tenfold twice, and every update with it at once."""
    model = MLP()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    rate = step_decay(0.05, (200, 320))
    return fit(stage, model, optimizer, _classify(stage, model), num_steps=420, rate=rate)


@healthy("mlp-warm-restarts", arch="MLP", optimizer="Adam", quick=True)
def restarts(stage: Stage) -> Iterator[float]:
    """Warm restarts: the learning rate jumps fiftyfold three times, announced nowhere."""
    model = MLP(activation=nn.GELU)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    rate = warm_restarts(3e-3, period=120)
    return fit(stage, model, optimizer, _classify(stage, model), num_steps=480, rate=rate)


@healthy("mlp-one-sample-batches", arch="MLP", optimizer="SGD")
def one_sample(stage: Stage) -> Iterator[float]:
    """Batches of a single sample: loss and gradients jump by orders of magnitude."""
    model = MLP()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    return fit(stage, model, optimizer, _classify(stage, model, num=1), num_steps=700)


@healthy("mlp-label-noise", arch="MLP", optimizer="AdamW")
def label_noise(stage: Stage) -> Iterator[float]:
    """A quarter of the labels is wrong all the time: a high, noisy floor of the loss."""
    model = MLP(activation=nn.Tanh)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    data, rng = Clusters.make(stage.generator()), stage.generator(1)

    def loss_of(step: int) -> torch.Tensor:
        x, y = data.batch()
        wrong = torch.rand(len(y), generator=rng) < 0.25
        y = torch.where(wrong, torch.randint(8, y.shape, generator=rng), y)
        return functional.cross_entropy(model(x), y)

    return fit(stage, model, optimizer, loss_of, num_steps=450)


@healthy("mlp-heavy-tails", arch="MLP regression", optimizer="Adam")
def heavy_tails(stage: Stage) -> Iterator[float]:
    """Targets with Student-t noise of 2.5 degrees of freedom under a squared loss: single batches
    have a loss and a gradient tens of times the usual, and training recovers from each."""
    model = MLP((8, 48, 48, 1), activation=nn.GELU)
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    rng, noise = stage.generator(), torch.distributions.StudentT(2.5)

    def loss_of(step: int) -> torch.Tensor:
        x, y = curve(rng, 64, noise=0.0)
        return functional.mse_loss(model(x), 3 * y + 0.5 * noise.sample(y.shape))

    return fit(stage, model, optimizer, loss_of, num_steps=600, clip=5.0)


@healthy("mlp-tiny-loss", arch="MLP regression", optimizer="Adam", quick=True)
def tiny_loss(stage: Stage) -> Iterator[float]:
    """Targets in units of 1e-4: losses of 1e-9 and gradients of 1e-6 are normal here."""
    model = MLP((8, 48, 48, 1), activation=nn.Tanh)
    nn.init.normal_(model.head.weight, std=1e-5)
    nn.init.zeros_(model.head.bias)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4, eps=1e-15)
    rng = stage.generator()

    def loss_of(step: int) -> torch.Tensor:
        x, y = curve(rng, noise=0.02)
        return functional.mse_loss(model(x), 1e-4 * y)

    return fit(stage, model, optimizer, loss_of, num_steps=450)


@healthy("mlp-converged", arch="MLP regression", optimizer="Adam")
def converged(stage: Stage) -> Iterator[float]:
    """A small, noiseless problem is solved after a third of the run; then nothing improves, and
    gradients are a thousandth of what they were."""
    model = MLP((4, 24, 1), activation=nn.Tanh)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    rng = stage.generator()

    def loss_of(step: int) -> torch.Tensor:
        x = torch.randn(32, 4, generator=rng)
        return functional.mse_loss(model(x), torch.tanh(x[:, :1] - x[:, 1:2]))

    rate = step_decay(0.01, (150, 250), factor=0.2)
    return fit(stage, model, optimizer, loss_of, num_steps=600, rate=rate)


@healthy("mlp-heavy-dropout", arch="MLP", optimizer="NAdam")
def heavy_dropout(stage: Stage) -> Iterator[float]:
    """Half of the units is dropped in every layer, on top of the usual zeros of a ReLU."""
    model = MLP((16, 96, 96, 8), dropout=0.5)
    optimizer = torch.optim.NAdam(model.parameters(), lr=2e-3)
    return fit(stage, model, optimizer, _classify(stage, model), num_steps=450)


@healthy("mlp-very-low-rate", arch="MLP", optimizer="Adam")
def very_low_rate(stage: Stage) -> Iterator[float]:
    """A cautious learning rate of 3e-5: updates are tiny, and the loss falls slowly but surely."""
    model = MLP()
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-5)
    return fit(stage, model, optimizer, _classify(stage, model, num=64), num_steps=500)


@healthy("mlp-huge-batch", arch="MLP", optimizer="SGD Nesterov")
def huge_batch(stage: Stage) -> Iterator[float]:
    """Batches of 1024 have so little noise that every small change is many of its own spreads."""
    model = MLP(activation=nn.SiLU)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, nesterov=True)
    rate = warmup_cosine(0.1, num_steps=350)
    loss_of = _classify(stage, model, num=1024)
    return fit(stage, model, optimizer, loss_of, num_steps=350, rate=rate)


@healthy("mlp-accumulation", arch="MLP", optimizer="AdamW")
def accumulation(stage: Stage) -> Iterator[float]:
    """Gradients of four micro-batches add up before a step; each forward passes the hooks."""
    model = MLP()
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    one = _classify(stage, model, num=8)

    def loss_of(step: int) -> torch.Tensor:
        for _ in range(3):
            torch.autograd.backward(one(step) / 4)
        return one(step) / 4

    return fit(stage, model, optimizer, loss_of, num_steps=400)


@healthy("mlp-evaluation-pauses", arch="MLP", optimizer="Adam")
def evaluation_pauses(stage: Stage) -> Iterator[float]:
    """Every 50 steps the model is evaluated, in evaluation mode, on data of another scale."""
    model = MLP(dropout=0.1)
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    rng = stage.generator(1)

    def evaluate(step: int) -> None:
        if step % 50 == 49:
            model.eval()
            with torch.no_grad():
                model(30 * torch.randn(512, 16, generator=rng))
            model.train()

    loss_of = _classify(stage, model)
    return fit(stage, model, optimizer, loss_of, num_steps=400, before=evaluate)


@healthy("mlp-alternating-tasks", arch="MLP, two heads", optimizer="Adam")
def alternating_tasks(stage: Stage) -> Iterator[float]:
    """A classification and a regression take turns: the loss has two levels, and the head that is
    not used has no gradient on that step."""
    trunk, classes, value = MLP((8, 48, 48)), nn.Linear(48, 4), nn.Linear(48, 1)
    model = nn.ModuleDict({"trunk": trunk, "classes": classes, "value": value})
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    data, rng = Clusters.make(stage.generator(), classes=4, features=8), stage.generator(1)

    def loss_of(step: int) -> torch.Tensor:
        if step % 2:
            x, y = curve(rng)
            return 10 * functional.mse_loss(value(torch.relu(trunk(x))), y)
        x, y = data.batch()
        return functional.cross_entropy(classes(torch.relu(trunk(x))), y)

    return fit(stage, model, optimizer, loss_of, num_steps=500)


@healthy("mlp-rare-bursts", arch="MLP regression", optimizer="AdamW")
def rare_bursts(stage: Stage) -> Iterator[float]:
    """Once in about 40 batches a rare, hard regime of the data comes: its loss and gradients are
    ten times the usual for that one step, as they have been from the start."""
    model = MLP((8, 64, 64, 1), activation=nn.GELU)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    rng, rare = stage.generator(), stage.generator(1)

    def loss_of(step: int) -> torch.Tensor:
        x, y = curve(rng)
        if float(torch.rand((), generator=rare)) < 0.04:
            x, y = 2 * x, 2.5 * y.roll(1, 0)
        return functional.mse_loss(model(x), y)

    return fit(stage, model, optimizer, loss_of, num_steps=600, clip=1.0)


@healthy("mlp-curriculum-told", arch="MLP", optimizer="Adam")
def curriculum(stage: Stage) -> Iterator[float]:
    """The data become harder at step 200, and a note says so: the loss jumps and falls again."""
    model = MLP()
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    easy = Clusters.make(stage.generator(), noise=0.3)
    hard = Clusters.make(stage.generator(), noise=1.0)

    def loss_of(step: int) -> torch.Tensor:
        x, y = (easy if step < 200 else hard).batch()
        return functional.cross_entropy(model(x), y)

    notes = {200: "curriculum: from easy to hard clusters"}
    return fit(stage, model, optimizer, loss_of, num_steps=450, notes=notes)


@healthy("mlp-reset-told", arch="MLP", optimizer="Adam")
def reset(stage: Stage) -> Iterator[float]:
    """The head is drawn anew at step 220, and a note says so."""
    model = MLP()
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)

    def renew(step: int) -> None:
        if step == 220:
            nn.init.xavier_normal_(model.head.weight)

    return fit(
        stage, model, optimizer, _classify(stage, model), num_steps=450, before=renew,
        notes={220: "the head was re-initialised"},
    )  # fmt: skip


@healthy("mlp-periodic-data", arch="MLP regression", optimizer="RMSprop")
def periodic(stage: Stage) -> Iterator[float]:
    """Data come by day and by night: the loss swings with a period of 60 steps."""
    model = MLP((8, 48, 48, 1), activation=nn.Tanh)
    optimizer = torch.optim.RMSprop(model.parameters(), lr=1e-3)
    rng = stage.generator()

    def loss_of(step: int) -> torch.Tensor:
        x, y = curve(rng, noise=0.1)
        day = 1 + 0.6 * torch.sin(torch.tensor(2 * torch.pi * step / 60))
        return functional.mse_loss(model(x), day * y)

    return fit(stage, model, optimizer, loss_of, num_steps=480)
