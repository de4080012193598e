"""Distributions, codes, energies and equilibria, healthy: losses that cross nought, have large
offsets, or never fall."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import nn
from torch.nn import functional

from benchmarks.zoo.data import Batch, Clusters, images
from benchmarks.zoo.models.density import (
    Bayesian,
    Energy,
    Equilibrium,
    MixtureDensity,
    Ode,
    Ordered,
    Quantized,
)
from benchmarks.zoo.models.mlp import MLP
from benchmarks.zoo.optimizers import Lookahead
from benchmarks.zoo.registry import healthy
from benchmarks.zoo.schedules import warmup_cosine
from benchmarks.zoo.stage import Stage
from benchmarks.zoo.training import LossOf, fit


def names_clusters(stage: Stage, model: nn.Module, *, num: int = 32) -> LossOf:
    """Cross-entropy of the class of a point."""
    data = Clusters.make(stage.generator())

    def loss_of(step: int) -> torch.Tensor:
        x, y = data.batch(num)
        return functional.cross_entropy(model(x), y)

    return loss_of


def branches(rng: torch.Generator, num: int = 48) -> Batch:
    """Points [N, 1] and one of two values [N, 1] that belong to them, sharply."""
    x = 2 * torch.rand(num, 1, generator=rng) - 1
    side = torch.randint(2, (num, 1), generator=rng) * 2 - 1
    return x, side * (0.3 + x.square()) + 0.02 * torch.randn(num, 1, generator=rng)


@healthy("mixture-two-branches", arch="mixture density network", optimizer="Adam")
def two_branches(stage: Stage) -> Iterator[float]:
    """A density that becomes sharp: the loss crosses nought, and spikes grow with its sharpness."""
    model = MixtureDensity(floor=0.02)
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    rng = stage.generator()
    return fit(
        stage, model, optimizer, lambda step: model(*branches(rng)), num_steps=380, clip=5.0
    )  # fmt: skip


def strips(rng: torch.Generator) -> torch.Tensor:
    """Parts of twelve striped images [N, 36], with noise."""
    kept, _ = images(torch.Generator().manual_seed(12), 12)
    drawn = kept[torch.randint(12, (24,), generator=rng), 0, 3:9, 3:9].flatten(1)
    return drawn + 0.2 * torch.randn(drawn.shape, generator=rng)


@healthy("codes-straight-through", arch="VQ-VAE", optimizer="AdamW")
def straight_through(stage: Stage) -> Iterator[float]:
    """Codes are used or not from batch to batch; three losses pull on each other, and the sum rises
    for a while when the encoder spreads."""
    model = Quantized()
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    rng = stage.generator()

    def loss_of(step: int) -> torch.Tensor:
        x = strips(rng)
        made, pulled, kept = model(x)
        loss: torch.Tensor = functional.mse_loss(made, x) + pulled + 0.25 * kept
        return loss

    return fit(
        stage, model, optimizer, loss_of, num_steps=320, log=lambda: {"codes_used": model.book.used}
    )


def rings(rng: torch.Generator, num: int = 48) -> torch.Tensor:
    """Points [N, 2] on a noisy circle."""
    angle = 6.2832 * torch.rand(num, 1, generator=rng)
    ring = torch.cat([angle.cos(), angle.sin()], dim=1)
    return ring + 0.1 * torch.randn(num, 2, generator=rng)


def contrast(
    stage: Stage, model: Energy, *, keep: float, since: int = 10**9, later: float = 0.0
) -> LossOf:
    """Energies of data below those of points that walked downhill, and a pull of both onto nought
    of weight `keep`, from `since` on `later`."""
    rng = stage.generator()

    def loss_of(step: int) -> torch.Tensor:
        real, fake = rings(rng), 3 * torch.rand(48, 2, generator=rng) - 1.5
        for _ in range(8):
            fake.requires_grad_(True)
            slope = torch.autograd.grad(model.eval()(fake).sum(), fake)[0].clamp(-2, 2)
            noise = 0.05 * torch.randn(fake.shape, generator=rng)
            fake = (fake - 0.1 * slope + noise).detach()
        low, high = model.train()(real), model(fake)
        pull = keep if step < since else later
        loss: torch.Tensor = low.mean() - high.mean() + pull * (low.square() + high.square()).mean()
        return loss

    return loss_of


@healthy("energy-walks", arch="energy-based model", optimizer="Adam", quick=True, loss_falls=False)
def energy_walks(stage: Stage) -> Iterator[float]:
    """Contrastive divergence: the loss lies around nought with either sign, and its size says
    nothing."""
    model = Energy()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    return fit(stage, model, optimizer, contrast(stage, model, keep=0.1), num_steps=300)


@healthy("bayes-drawn-weights", arch="Bayesian MLP", optimizer="Adam")
def drawn_weights(stage: Stage) -> Iterator[float]:
    """Every weight is drawn anew on each pass, and a divergence of thousands of nats stands under
    the little that is learned from data."""
    model = Bayesian()
    optimizer = torch.optim.Adam(model.parameters(), lr=4e-3)
    of_data = names_clusters(stage, model)
    return fit(
        stage, model, optimizer, lambda step: 100 * of_data(step) + model.divergence(),
        num_steps=340,
    )  # fmt: skip


@healthy("ode-in-ten-steps", arch="neural ODE, Euler", optimizer="RAdam")
def ten_steps(stage: Stage) -> Iterator[float]:
    """The same two layers ten times in a row, with a warm-up and a cosine."""
    model = Ode()
    optimizer = torch.optim.RAdam(model.parameters(), lr=8e-3)
    rate = warmup_cosine(8e-3, num_steps=300)
    return fit(stage, model, optimizer, names_clusters(stage, model), num_steps=300, rate=rate)


@healthy("equilibrium-goes-round", arch="deep equilibrium", optimizer="SGD Nesterov, cosine")
def goes_round(stage: Stage) -> Iterator[float]:
    """One layer twelve times: each hook fires twelve times in a step, on states that settle."""
    model = Equilibrium()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.06, momentum=0.9, nesterov=True)
    rate = warmup_cosine(0.06, num_steps=300)
    return fit(
        stage, model, optimizer, names_clusters(stage, model), num_steps=300, rate=rate,
        log=lambda: {"residual": model.residual},
    )  # fmt: skip


def bits(rng: torch.Generator, num: int = 32) -> torch.Tensor:
    """Rows of 12 bits [N, 12] whose second half is the exclusive or of the first with itself moved
    by one."""
    first = torch.randint(2, (num, 6), generator=rng)
    return torch.cat([first, first ^ first.roll(1, dims=1)], dim=1).float()


@healthy("ordered-bits-lookahead", arch="masked autoencoder of bits", optimizer="Lookahead on Adam")
def ordered_bits(stage: Stage) -> Iterator[float]:
    """Every sixth step the weights go half of the way back to slow ones: what changes between steps
    is not what the optimizer did."""
    model = Ordered()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    rng = stage.generator()

    def loss_of(step: int) -> torch.Tensor:
        x = bits(rng)
        return functional.binary_cross_entropy_with_logits(model(x), x)

    return fit(stage, model, optimizer, loss_of, num_steps=320, after=Lookahead(model))


@healthy("scores-of-all-levels", arch="denoising score MLP", optimizer="AdamW")
def all_levels(stage: Stage) -> Iterator[float]:
    """Noise levels from a third to one, each batch one of them, unweighted: the loss says more of
    the level than of the network."""
    model = MLP((3, 64, 64, 2), activation=nn.SiLU)
    optimizer = torch.optim.AdamW(model.parameters(), lr=4e-4)
    rng = stage.generator()

    def loss_of(step: int) -> torch.Tensor:
        x = rings(rng)
        level = 10 ** (-0.5 * torch.rand(1, generator=rng)).expand(len(x), 1)
        noise = torch.randn(x.shape, generator=rng)
        score = model(torch.cat([x + level * noise, level.log()], dim=1)) / level
        loss: torch.Tensor = (score + noise / level).square().mean()
        return loss

    return fit(stage, model, optimizer, loss_of, num_steps=400, clip=1.0)


@healthy("quantiles-of-heavy-tails", arch="quantile MLP", optimizer="Adamax")
def quantiles(stage: Stage) -> Iterator[float]:
    """Three quantiles of a target with Cauchy noise, on top of an offset of a hundred that no
    layer has to learn: the loss is large, rough, and falls by a hundredth."""
    model = MLP((4, 48, 48, 3))
    optimizer = torch.optim.Adamax(model.parameters(), lr=8e-3)
    rng = stage.generator()
    shares = torch.tensor([0.1, 0.5, 0.9])

    def loss_of(step: int) -> torch.Tensor:
        x = torch.randn(64, 4, generator=rng)
        noise = torch.randn(64, 1, generator=rng) / torch.randn(64, 1, generator=rng).abs()
        y = 8 * torch.sin(x[:, :1]) + 5 * x[:, 1:2] + 0.3 * noise.clamp(-100, 100)
        missed = y - model(x)
        loss: torch.Tensor = torch.maximum(shares * missed, (shares - 1) * missed).mean()
        return loss + 100.0

    return fit(stage, model, optimizer, loss_of, num_steps=340)
