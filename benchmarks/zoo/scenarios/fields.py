"""Forecasts, operators and fields over space: scales that change, products of two nothings,
densities that are not there."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from benchmarks.zoo.faults import Fault
from benchmarks.zoo.models.fields import (
    BranchTrunk,
    Forecaster,
    FourierOperator,
    HashGrid,
    PatchBlock,
    PatchForecaster,
    Radiance,
    Spectral,
    rendered,
)
from benchmarks.zoo.models.mlp import MLP
from benchmarks.zoo.registry import faulty, healthy
from benchmarks.zoo.rules import Crosses, LeavesTwin
from benchmarks.zoo.schedules import one_cycle, warmup_cosine
from benchmarks.zoo.stage import Stage
from benchmarks.zoo.training import LossOf, fit


def windows(rng: torch.Generator, num: int = 16, *, length: int = 56) -> torch.Tensor:
    """Two seasons, a trend and noise [N, T]."""
    time = torch.arange(length)
    phase = 6.3 * torch.rand(num, 2, 1, generator=rng)
    seasons = torch.sin(6.28 * time / 12 + phase[:, 0]) + 0.5 * torch.sin(time + phase[:, 1])
    trend = 0.02 * torch.randn(num, 1, generator=rng) * time
    return seasons + trend + 0.1 * torch.randn(num, length, generator=rng)


def continued(
    stage: Stage, model: PatchForecaster, *, times: tuple[int, float] = (0, 1.0)
) -> LossOf:
    """Eight values behind a window, in the window's own units; the series are `times[1]` as large
    from step `times[0]` on."""
    rng = stage.generator()

    def loss_of(step: int) -> torch.Tensor:
        x = windows(rng)
        if step >= times[0]:
            x = times[1] * x
        seen, next_ones = x[:, :48], x[:, 48:]
        mean, spread = seen.mean(1, keepdim=True), seen.std(1, keepdim=True) + 1e-5
        return functional.mse_loss(model((seen - mean) / spread), (next_ones - mean) / spread)

    return loss_of


@healthy("patches-currency-changes", arch="patch transformer for series", optimizer="RAdam")
def currency_changes(stage: Stage) -> Iterator[float]:
    """The series are a thousand times as large from step 170 on, which each window's own
    normalisation takes away again; the raw level is logged beside the loss."""
    model = PatchForecaster()
    optimizer = torch.optim.RAdam(model.parameters(), lr=3e-3)
    level = {"raw_level": 1.0}

    def before(step: int) -> None:
        level["raw_level"] = 1000.0 if step >= 170 else 1.0

    loss_of = continued(stage, model, times=(170, 1000.0))
    return fit(
        stage, model, optimizer, loss_of, num_steps=320, before=before, log=lambda: level, clip=1.0
    )


@faulty(
    "patches-query-key-rates",
    Fault(kind="attention_logit_growth", at=30,
          layers=("blocks.0.query", "blocks.0.key"), severity="warning",
          accept=("update_too_large", "saturation", "explosion"),
          onset=Crosses(series="attention_max", above=30.0, num=5, since=30)),
    arch="patch transformer for series", optimizer="AdamW",
)  # fmt: skip
def query_key_rates(stage: Stage) -> Iterator[float]:
    """From step 30 on a pattern meant for another model's adapters gives queries and keys of the
    first block sixty times the rate of all others: attention ends on one patch each."""
    model = PatchForecaster()
    fast = [p for n, p in model.named_parameters() if n.startswith(("blocks.0.q", "blocks.0.k"))]
    rest = [p for p in model.parameters() if all(p is not f for f in fast)]
    optimizer = torch.optim.AdamW([{"params": rest}, {"params": fast}], lr=1e-3)
    first = model.blocks[0]
    assert isinstance(first, PatchBlock)

    def before(step: int) -> None:
        if stage.sick and step == 30:
            optimizer.param_groups[1]["lr"] = 6e-2

    return fit(
        stage, model, optimizer, continued(stage, model), num_steps=320, before=before,
        log=lambda: {"attention_max": first.logit_max}, clip=1.0,
    )  # fmt: skip


@faulty(
    "forecast-spread-without-floor",
    Fault(kind="loss_spike", layers=("spread",), at=0, severity="warning",
          accept=("gradient_spike", "divergence", "explosion", "bad_batch"),
          onset=Crosses(series="loss", above=1.0, num=1, since=190)),
    arch="LSTM with normal output", optimizer="Adam",
)  # fmt: skip
def spread_without_floor(stage: Stage) -> Iterator[float]:
    """A third of the series are sensors that stand still. The predicted spread has no floor: it
    shrinks on them from step to step, the loss looks better and better, until some of them move
    again, from step 190 on."""
    model = Forecaster(floor=1e-7 if stage.sick else 0.1)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    rng = stage.generator()

    def loss_of(step: int) -> torch.Tensor:
        x = windows(rng, length=25)
        stuck = torch.rand(16, 1, generator=rng) < 0.35
        moves = (torch.rand(16, 1, generator=rng) < 0.06) & (torch.arange(25) >= 23)
        moves &= torch.tensor(step >= 190)
        x = torch.where(stuck & ~moves, 0.0, x)
        mean, spread = model(x[:, :-1])
        off = (x[:, 1:] - mean) / spread
        loss: torch.Tensor = (0.5 * off.square() + spread.log()).mean()
        return loss

    return fit(stage, model, optimizer, loss_of, num_steps=300, clip=5.0)


def heated(
    stage: Stage, model: FourierOperator, *, half_from: int = 10**9, level: float = 100.0
) -> LossOf:
    """A temperature over a rod and what it is a moment later, as relative error. From `half_from`
    on what leaves a transform is float16, and the rod is told in other units, `level` times as
    large."""
    rng = stage.generator()
    waves = torch.arange(1, 7)[:, None] * torch.linspace(0, 6.28, 64)
    fades = torch.exp(-0.03 * torch.arange(1, 7) ** 2)

    def loss_of(step: int) -> torch.Tensor:
        size = torch.randn(16, 6, generator=rng) / torch.arange(1, 7)
        base = torch.exp(0.9 * torch.randn(16, 1, generator=rng))
        x, y = base + size @ waves.sin(), base + (size * fades) @ waves.sin()
        units = level if step >= half_from else 1.0
        for layer in model.spectral:
            assert isinstance(layer, Spectral)
            layer.in_half = step >= half_from
        made = model(units * x) / units
        off = torch.linalg.vector_norm(made - y, dim=1)
        loss: torch.Tensor = (off / torch.linalg.vector_norm(y, dim=1)).mean()
        return loss

    return loss_of


@healthy("operator-of-heat", arch="Fourier neural operator", optimizer="Adam")
def operator_of_heat(stage: Stage) -> Iterator[float]:
    """Complex weights of which most frequencies hardly matter, rods whose level differs tenfold,
    and a rate that climbs for a third of the run."""
    model = FourierOperator()
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    rate = one_cycle(8e-3, num_steps=300, climb=100)
    return fit(stage, model, optimizer, heated(stage, model), num_steps=300, rate=rate)


@faulty(
    "operator-transform-in-half",
    Fault(kind="precision_overflow", at=140, pace="fast", accept=("non_finite",),
          layers=("spectral.0",),
          shows=Crosses(series="skipped", above=0.5, num=1, since=140)),
    arch="Fourier neural operator", optimizer="AdamW",
)  # fmt: skip
def transform_in_half(stage: Stage) -> Iterator[float]:
    """From step 140 on the transforms run in half precision on rods given in physical units: the
    sum over all points is beyond float16 for warm ones, and the scaler skips the step. The twin
    goes on in float32 and in the old units."""
    model = FourierOperator(layers=2)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    half_from = 140 if stage.sick else 10**9
    loss_of = heated(stage, model, half_from=half_from)
    with stage.watch(model, optimizer) as watch:
        for step in range(280):
            loss = loss_of(step)
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            watch.grads_ready()
            skipped = not bool(loss.isfinite())
            if not skipped:
                optimizer.step()
            watch.log(skipped=float(skipped))
            watch.step(loss)
            yield float(loss.detach())


@faulty(
    "operator-both-factors-nought",
    Fault(kind="vanishing_gradient", layers=("branch", "trunk"),
          accept=("plateau", "update_too_small", "dead_units"),
          onset=Crosses(series="gradient:branch.layers.0.weight", below=1e-12, num=10)),
    arch="branch and trunk operator", optimizer="Adam",
)  # fmt: skip
def both_factors_nought(stage: Stage) -> Iterator[float]:
    """The last layers of branch and trunk are both initialised with noughts, so that the answer
    begins at nought: a product of two noughts has no gradient on either side, and only the level is
    learned."""
    model = BranchTrunk()
    if stage.sick:
        for part in (model.branch, model.trunk):
            nn.init.zeros_(part.head.weight)
            nn.init.zeros_(part.head.bias)
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    rng = stage.generator()
    sensors = torch.linspace(0, 1, 24)

    def loss_of(step: int) -> torch.Tensor:
        size = torch.randn(24, 4, 1, generator=rng) / torch.arange(1, 5)[:, None]
        place = torch.rand(24, 16, generator=rng)
        speed = 3.14 * torch.arange(1, 5)[:, None]
        function = (size * torch.sin(speed * sensors)).sum(1)
        integral = (size * (1 - torch.cos(speed * place[:, None])) / speed).sum(1)
        return functional.mse_loss(model(function, place), integral)

    return fit(stage, model, optimizer, loss_of, num_steps=300)


def residual(model: MLP, rng: torch.Generator, *, num: int = 48) -> torch.Tensor:
    """How far off a heat equation is at drawn places and times."""
    at = torch.rand(num, 2, generator=rng).requires_grad_()
    (first,) = torch.autograd.grad(model(at).sum(), at, create_graph=True)
    (second,) = torch.autograd.grad(first[:, 0].sum(), at, create_graph=True)
    return (first[:, 1] - 0.1 * second[:, 0]).square().mean()


def boundary(model: MLP, rng: torch.Generator, *, num: int = 32) -> torch.Tensor:
    """How far off the initial temperature is, and the cold ends."""
    x, time = torch.rand(num, 1, generator=rng), torch.rand(num, 1, generator=rng)
    start = model(torch.cat([x, torch.zeros_like(x)], 1)) - torch.sin(3.14159 * x)
    end = model(torch.cat([x.round(), time], 1))
    out: torch.Tensor = start.square().mean() + end.square().mean()
    return out


@healthy("physics-heat-then-lbfgs", arch="physics-informed tanh MLP", optimizer="Adam, then LBFGS")
def then_lbfgs(stage: Stage) -> Iterator[float]:
    """Adam for 200 steps, then LBFGS on points that stay the same, as is common: updates become
    many times larger at once, and the loss falls by another order."""
    model = MLP((2, 24, 24, 1), activation=nn.Tanh)
    adam = torch.optim.Adam(model.parameters(), lr=3e-3)
    lbfgs = torch.optim.LBFGS(model.parameters(), lr=0.5, max_iter=4, history_size=20)
    rng = stage.generator()
    with stage.watch(model, (adam, lbfgs)) as watch:
        for step in range(260):
            drawn = rng.get_state()

            def closure(drawn: torch.Tensor = drawn) -> torch.Tensor:
                rng.set_state(drawn)
                adam.zero_grad()
                loss = residual(model, rng, num=96) + 5 * boundary(model, rng, num=64)
                torch.autograd.backward(loss)
                return loss

            if step == 200:
                watch.note("optimizer: Adam -> LBFGS")
            if step < 200:
                loss: Any = closure()
                adam.step()
            else:
                loss = lbfgs.step(closure)
                rng.set_state(drawn)
            watch.step(loss)
            yield float(torch.as_tensor(loss).detach())


@faulty(
    "physics-boundary-switched-off",
    Fault(kind="representation_collapse", at=120, layers=("layers.2",),
          accept=("plateau", "divergence"),
          onset=LeavesTwin(series="activation:layers.2", statistic="batch_std", factor=1.9, num=4)),
    arch="physics-informed tanh MLP", optimizer="NAdam",
)  # fmt: skip
def boundary_switched_off(stage: Stage) -> Iterator[float]:
    """A schedule takes the weight of the boundary to nought from step 120 on. What is left is
    solved by a temperature that is the same everywhere: the loss falls as never before."""
    model = MLP((2, 24, 24, 1), activation=nn.Tanh)
    optimizer = torch.optim.NAdam(model.parameters(), lr=4e-3)
    rng = stage.generator()

    def loss_of(step: int) -> torch.Tensor:
        inner, outer = residual(model, rng), boundary(model, rng)
        return inner + (0.0 if stage.sick and step >= 120 else 5.0) * outer

    return fit(stage, model, optimizer, loss_of, num_steps=340)


@healthy("hamiltonian-of-a-pendulum", arch="Hamiltonian MLP", optimizer="AdamW")
def of_a_pendulum(stage: Stage) -> Iterator[float]:
    """Only slopes of the output count: its level drifts freely, the last bias has no gradient, and
    the loss falls by three orders."""
    model = MLP((2, 32, 32, 1), activation=nn.Tanh)
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    rng = stage.generator()

    def loss_of(step: int) -> torch.Tensor:
        at = (4 * torch.rand(64, 2, generator=rng) - 2).requires_grad_()
        (slope,) = torch.autograd.grad(model(at).sum(), at, create_graph=True)
        goal = torch.stack([torch.sin(at[:, 0]), at[:, 1]], dim=1).detach()
        return functional.mse_loss(slope, goal)

    rate = warmup_cosine(8e-3, num_steps=340)
    return fit(stage, model, optimizer, loss_of, num_steps=340, rate=rate)


def scene(at: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Density and brightness of a bright and a dark disc."""
    first = (at - torch.tensor([0.3, 0.2])).norm(dim=-1) < 0.35
    second = (at - torch.tensor([-0.4, -0.2])).norm(dim=-1) < 0.25
    return 8.0 * (first | second).float(), torch.where(first, 0.9, 0.3)


@faulty(
    "radiance-density-of-relu",
    Fault(kind="dead_units", layers=("density",), accept=("vanishing_gradient", "plateau"),
          onset=Crosses(series="activation:positive", statistic="zero_frac", above=0.999, num=10)),
    arch="radiance field", optimizer="Adam",
)  # fmt: skip
def density_of_relu(stage: Stage) -> Iterator[float]:
    """Density is the positive part of a layer whose bias begins at -2, as for a softplus: nothing
    is there at any place, nothing is seen along any ray, and there is no slope that would change
    that. The twin's is a softplus."""
    model = Radiance(density=nn.ReLU() if stage.sick else nn.Softplus())
    nn.init.constant_(model.density.bias, -2.0)
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    rng = stage.generator()
    along = torch.linspace(-1, 1, 24)

    def loss_of(step: int) -> torch.Tensor:
        angle = 6.28 * torch.rand(32, 1, generator=rng)
        aside = 1.4 * torch.rand(32, 1, generator=rng) - 0.7
        x = along * angle.cos() - aside * angle.sin()
        y = along * angle.sin() + aside * angle.cos()
        at = torch.stack([x, y], dim=-1)
        made = rendered(*model(at), length=2 / 24)
        return functional.mse_loss(made, rendered(*scene(at), length=2 / 24))

    return fit(stage, model, optimizer, loss_of, num_steps=300)


@faulty(
    "hash-grid-half-gradients",
    Fault(kind="precision_underflow", at=100,
          layers=("tables.0", "tables.1", "tables.2", "tables.3"), severity="warning",
          accept=("vanishing_gradient", "update_too_small", "plateau"),
          onset=Crosses(series="gradient:tables.3.weight", below=1e-12, num=8, since=100)),
    arch="hash grid of a picture", optimizer="Adam eps=1e-15",
)  # fmt: skip
def half_gradients(stage: Stage) -> Iterator[float]:
    """The loss of one picture among many has a small weight. A faster kernel keeps gradients of the
    tables in float16 from step 100 on, without scaling: each is a point's share of a mean, and
    flushed to nought. The twin stays in float32."""
    model = HashGrid()
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3, eps=1e-15)
    rng = stage.generator()

    def loss_of(step: int) -> torch.Tensor:
        at = torch.rand(256, 2, generator=rng)
        goal = torch.sin(19 * at[:, :1]) * torch.sin(13 * at[:, 1:] + 5 * at[:, :1])
        return 3e-5 * functional.mse_loss(model(at), goal)

    def flush(step: int) -> None:
        if stage.sick and step >= 100:
            for p in model.tables.parameters():
                if p.grad is not None:
                    p.grad.copy_(p.grad.half().float())

    return fit(stage, model, optimizer, loss_of, num_steps=320, with_gradients=flush)


@healthy("hash-grid-picture", arch="hash grid of a picture", optimizer="Adam eps=1e-15")
def hash_picture(stage: Stage) -> Iterator[float]:
    """Points of one quarter of the picture at a time: most entries of the fine tables have no
    gradient on most steps, and the first rows of each quarter are like a new task."""
    model = HashGrid()
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3, betas=(0.9, 0.99), eps=1e-15)
    rng = stage.generator()

    def loss_of(step: int) -> torch.Tensor:
        quarter = torch.tensor([(step // 20) % 2, (step // 40) % 2])
        at = (torch.rand(128, 2, generator=rng) + quarter) / 2
        goal = torch.sin(19 * at[:, :1]) * torch.sin(13 * at[:, 1:] + 5 * at[:, :1])
        return functional.mse_loss(model(at), goal)

    return fit(stage, model, optimizer, loss_of, num_steps=400)
