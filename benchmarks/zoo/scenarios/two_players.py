"""Two-player training, healthy and won by either side."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional

from benchmarks.zoo.faults import Fault
from benchmarks.zoo.models.mlp import MLP
from benchmarks.zoo.registry import faulty, healthy
from benchmarks.zoo.rules import Crosses
from benchmarks.zoo.stage import Stage
from benchmarks.zoo.training import set_rate


def ring(rng: torch.Generator, num: int = 64) -> torch.Tensor:
    """Points [N, 2] of six narrow clusters on a circle of radius 2."""
    angles = torch.randint(6, (num,), generator=rng) * (torch.pi / 3)
    centres = 2 * torch.stack([angles.cos(), angles.sin()], 1)
    return centres + 0.1 * torch.randn(num, 2, generator=rng)


@dataclass(frozen=True, slots=True, kw_only=True)
class Odds:
    """Learning rates of generator and discriminator, the blur of all samples, and how often the
    discriminator learns in a step."""

    rates: tuple[float, float]
    noise: float
    rounds: int = 1


def _duel(
    stage: Stage, *, num_steps: int, then: Odds | None = None, since: int = 0
) -> Iterator[float]:
    """A generator against a discriminator on `ring`, with other odds `since` a step of the sick
    training. The loss is the sum of both."""
    odds = Odds(rates=(1e-3, 1e-3), noise=0.3)
    generator = MLP((4, 48, 48, 2))
    judge = MLP((2, 48, 48, 1), activation=nn.ELU)
    model = nn.ModuleDict({"generator": generator, "discriminator": judge})
    optimizers = (
        torch.optim.Adam(generator.parameters(), lr=odds.rates[0], betas=(0.5, 0.99)),
        torch.optim.Adam(judge.parameters(), lr=odds.rates[1], betas=(0.5, 0.99)),
    )
    rng, blur = stage.generator(), stage.generator(1)
    with stage.watch(model, optimizers) as watch:
        for step in range(num_steps):
            if then is not None and stage.sick and step >= since:
                odds = then
            for optimizer, rate in zip(optimizers, odds.rates, strict=True):
                set_rate(optimizer, rate)
            for _ in range(odds.rounds):
                real = ring(rng)
                real = real + odds.noise * torch.randn(real.shape, generator=blur)
                fake = generator(torch.randn(64, 4, generator=rng))
                fake = fake + odds.noise * torch.randn(fake.shape, generator=blur)
                loss_d = functional.softplus(-judge(real)).mean()
                loss_d = loss_d + functional.softplus(judge(fake.detach())).mean()
                optimizers[1].zero_grad()
                torch.autograd.backward(loss_d)
                optimizers[1].step()
            fake = generator(torch.randn(64, 4, generator=rng))
            loss_g = functional.softplus(
                -judge(fake + odds.noise * torch.randn(fake.shape, generator=blur))
            ).mean()
            optimizers[0].zero_grad()
            torch.autograd.backward(loss_g)
            optimizers[0].step()
            spread = float(fake.detach().std(dim=0).mean())
            watch.log(loss_d=loss_d, loss_g=loss_g, sample_spread=spread)
            loss = float(loss_d.detach()) + float(loss_g.detach())
            watch.step(loss)
            yield loss


@healthy("gan-ring", arch="GAN", optimizer="Adam, two", loss_falls=False)
def gan_ring(stage: Stage) -> Iterator[float]:
    """Two players: neither loss has a trend, and each one's gain is the other's loss."""
    return _duel(stage, num_steps=500)


@faulty(
    "gan-generator-collapses",
    Fault(
        kind="representation_collapse", at=180, layers=("generator",),
        accept=("divergence", "loss_spike", "update_too_large"),
        onset=Crosses(series="sample_spread", below=0.4, num=8, since=180),
    ),
    arch="GAN", optimizer="Adam, two", loss_falls=False,
)  # fmt: skip
def generator_collapses(stage: Stage) -> Iterator[float]:
    """From step 180 on the generator learns fifty times as fast as the discriminator and nothing
    blurs the samples: all of them end in one place."""
    return _duel(stage, num_steps=500, then=Odds(rates=(1e-2, 2e-4), noise=0.0), since=180)


@faulty(
    "gan-discriminator-wins",
    Fault(
        kind="vanishing_gradient", at=25, layers=("generator", "discriminator"),
        severity="critical",
        accept=("saturation", "divergence", "explosion", "loss_spike", "gradient_spike"),
        onset=Crosses(series="loss_d", below=0.1, num=8, since=25),
    ),
    arch="GAN", optimizer="Adam, two", loss_falls=False,
)  # fmt: skip
def discriminator_wins(stage: Stage) -> Iterator[float]:
    """From step 25 on the discriminator learns five times a step, far faster than the generator
    and without blur: it is soon certain, and has nothing left to teach."""
    then = Odds(rates=(2e-5, 5e-3), noise=0.0, rounds=5)
    return _duel(stage, num_steps=420, then=then, since=25)
