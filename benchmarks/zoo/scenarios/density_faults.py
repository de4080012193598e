"""Distributions, codes, energies and equilibria, with faults whose loss moves late or the wrong
way."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import nn
from torch.nn import functional

from benchmarks.zoo.faults import Fault
from benchmarks.zoo.meddling import groups, scale
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
from benchmarks.zoo.registry import faulty
from benchmarks.zoo.rules import Crosses, LeavesTwin, NotFinite
from benchmarks.zoo.scenarios.density_healthy import (
    bits,
    branches,
    contrast,
    names_clusters,
    rings,
    strips,
)
from benchmarks.zoo.stage import Stage
from benchmarks.zoo.training import fit


@faulty(
    "mixture-means-grow",
    Fault(kind="explosion", at=100, layers=("means",),
          accept=("divergence", "weight_corruption", "update_too_large", "output_logit_drift"),
          onset=LeavesTwin(series="weight:means.weight", factor=2, num=3)),
    arch="mixture density network", optimizer="Adam",
)  # fmt: skip
def means_grow(stage: Stage) -> Iterator[float]:
    """A decay with the wrong sign lets the layer of the means grow by 2 % a step from step 100 on;
    the layers below it make themselves small for a while."""
    model = MixtureDensity(floor=0.05)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    rng = stage.generator()

    def grow(step: int) -> None:
        if stage.sick and step >= 100:
            scale(model, "means", 1.02)

    return fit(
        stage, model, optimizer, lambda step: model(*branches(rng)), num_steps=300,
        before=grow, clip=20.0,
    )  # fmt: skip


@faulty(
    "codes-initialised-far",
    Fault(kind="representation_collapse", layers=("book",), accept=("plateau", "explosion"),
          shows=Crosses(series="codes_used", below=0.15, num=20)),
    arch="VQ-VAE", optimizer="Adam", quick=True,
)  # fmt: skip
def initialised_far(stage: Stage) -> Iterator[float]:
    """The codes are drawn from a spread a hundred times that of what the encoder makes: one or two
    are the nearest to everything, and the others never learn."""
    model = Quantized(spread=20.0 if stage.sick else 0.2)
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    rng = stage.generator()

    def loss_of(step: int) -> torch.Tensor:
        x = strips(rng)
        made, pulled, kept = model(x)
        loss: torch.Tensor = functional.mse_loss(made, x) + pulled + 0.25 * kept
        return loss

    return fit(
        stage, model, optimizer, loss_of, num_steps=260, log=lambda: {"codes_used": model.book.used}
    )


@faulty(
    "codes-commitment-sign",
    Fault(kind="explosion", at=120, layers=("encoder.2",),
          accept=("divergence", "representation_collapse"),
          onset=LeavesTwin(series="activation:encoder.2", factor=3)),
    arch="VQ-VAE", optimizer="RMSprop",
)  # fmt: skip
def commitment_sign(stage: Stage) -> Iterator[float]:
    """A sweep sets the weight of the commitment to -1 at step 120: the encoder flees from its codes
    and the codes follow. The sum of the losses hides how far they went."""
    model = Quantized()
    optimizer = torch.optim.RMSprop(model.parameters(), lr=1e-3)
    rng = stage.generator()

    def loss_of(step: int) -> torch.Tensor:
        x = strips(rng)
        made, pulled, kept = model(x)
        weight = -1.0 if stage.sick and step >= 120 else 0.25
        loss: torch.Tensor = functional.mse_loss(made, x) + pulled + weight * kept
        return loss

    return fit(
        stage, model, optimizer, loss_of, num_steps=320, log=lambda: {"codes_used": model.book.used}
    )


@faulty(
    "energy-pull-turned",
    Fault(kind="output_logit_drift", at=90, layers=("level",),
          accept=("explosion", "divergence"),
          onset=LeavesTwin(series="activation:level", factor=4, num=5)),
    arch="energy-based model", optimizer="Adam", loss_falls=False,
)  # fmt: skip
def pull_turned(stage: Stage) -> Iterator[float]:
    """The pull of all energies onto nought is subtracted from step 90 on: what nothing else feels,
    their level, drifts off without a bound."""
    model = Energy()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    since = 90 if stage.sick else 10**9
    loss_of = contrast(stage, model, keep=0.2, since=since, later=-0.02)
    return fit(stage, model, optimizer, loss_of, num_steps=300)


@faulty(
    "bayes-divergence-per-sample",
    Fault(kind="representation_collapse", at=140, layers=("layers.1",),
          accept=("divergence", "loss_spike", "vanishing_gradient"), pace="fast"),
    arch="Bayesian MLP", optimizer="Adam",
)  # fmt: skip
def divergence_per_sample(stage: Stage) -> Iterator[float]:
    """The divergence of the inner layer counts once a sample instead of once an epoch from step 140
    on: its weights go to the prior, as noise, and nothing of the input passes."""
    model = Bayesian()
    optimizer = torch.optim.Adam(model.parameters(), lr=6e-3)
    of_data = names_clusters(stage, model)
    inner = model.layers[1]

    def loss_of(step: int) -> torch.Tensor:
        loss = of_data(step) + 1e-4 * model.divergence()
        if stage.sick and step >= 140:
            mean = inner.get_parameter("mean")
            spread = inner.get_parameter("log_sd")
            loss = loss + 0.05 * (mean.square() - 0.1 * spread).sum()
        return loss

    return fit(stage, model, optimizer, loss_of, num_steps=340)


@faulty(
    "ode-longer-steps",
    Fault(kind="explosion", at=150, pace="fast", layers=("slope2",),
          accept=("loss_spike", "divergence", "saturation"),
          shows=LeavesTwin(series="activation:read", factor=2, num=1)),
    arch="neural ODE, Euler", optimizer="Adam",
)  # fmt: skip
def longer_steps(stage: Stage) -> Iterator[float]:
    """Time is counted in another unit after a restart at step 150: each Euler step is thirty times
    as long, and the states overshoot."""
    model = Ode()
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)

    def restart(step: int) -> None:
        if stage.sick and step == 150:
            model.length = 3.0

    loss_of = names_clusters(stage, model)
    return fit(stage, model, optimizer, loss_of, num_steps=260, before=restart, clip=1.0)


@faulty(
    "equilibrium-stops-contracting",
    Fault(kind="explosion", at=100, layers=("inner",),
          accept=("divergence", "weight_corruption"),
          onset=LeavesTwin(series="activation:inner", factor=2, num=3)),
    arch="deep equilibrium", optimizer="SGD Nesterov",
)  # fmt: skip
def stops_contracting(stage: Stage) -> Iterator[float]:
    """The bound on the inner matrix is dropped and its decay has the wrong sign from step 100 on,
    1.2 % a step: once it stops contracting there is no fixed point, and a norm hides that."""
    model = Equilibrium()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.03, momentum=0.9, nesterov=True)

    def grow(step: int) -> None:
        if stage.sick and step >= 100:
            with torch.no_grad():
                model.get_parameter("inner.weight").mul_(1.012)

    loss_of = names_clusters(stage, model)
    return fit(
        stage, model, optimizer, loss_of, num_steps=300, before=grow, clip=1.0,
        log=lambda: {"residual": model.residual},
    )  # fmt: skip


@faulty(
    "ordered-empty-row",
    Fault(kind="non_finite", at=168, pace="fast", layers=("hidden",), onset=NotFinite(),
          accept=("bad_batch",)),
    arch="masked autoencoder of bits", optimizer="AdamW",
)  # fmt: skip
def empty_row(stage: Stage) -> Iterator[float]:
    """Rows are divided by their sum; one of nothing but noughts comes at step 168, and nought by
    nought is no number."""
    model = Ordered()
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    rng = stage.generator()

    def loss_of(step: int) -> torch.Tensor:
        x = bits(rng)
        x[:, 0] = 1.0
        if stage.sick and step == 168:
            x[7] = 0.0
        given = 6 * x / x.sum(dim=1, keepdim=True)
        return functional.binary_cross_entropy_with_logits(model(given), x)

    return fit(stage, model, optimizer, loss_of, num_steps=240)


@faulty(
    "ordered-slow-weights-stale",
    Fault(kind="weight_corruption", at=186, pace="fast", layers=("hidden", "out"),
          accept=("loss_spike",)),
    arch="masked autoencoder of bits", optimizer="Lookahead on Adam",
)  # fmt: skip
def slow_weights_stale(stage: Stage) -> Iterator[float]:
    """A restart at step 186 brings back the slow weights of a first try, and the next meeting
    throws the fast ones onto them."""
    model = Ordered()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    rng = stage.generator()
    lookahead = Lookahead(model)
    first = [4 * p.detach().clone() for p in model.parameters()]

    def restart(step: int) -> None:
        if stage.sick and step == 186:
            with torch.no_grad():
                for mine, old in zip(model.parameters(), first, strict=True):
                    mine.copy_(old)
            lookahead.slow = first

    def loss_of(step: int) -> torch.Tensor:
        x = bits(rng)
        return functional.binary_cross_entropy_with_logits(model(x), x)

    return fit(
        stage, model, optimizer, loss_of, num_steps=290, before=restart, after=lookahead
    )  # fmt: skip


@faulty(
    "scores-level-too-small",
    Fault(kind="gradient_spike", at=171, pace="fast", severity="warning",
          accept=("loss_spike", "explosion", "divergence", "bad_batch"),
          shows=LeavesTwin(series="grad_norm", factor=50, num=1)),
    arch="denoising score MLP", optimizer="SGD momentum",
)  # fmt: skip
def level_too_small(stage: Stage) -> Iterator[float]:
    """From step 171 on one batch in nine is drawn at a noise level of 0.0001 instead of 0.1: its
    loss, which divides by the square, is ten thousand times as large."""
    model = MLP((2, 48, 48, 2), activation=nn.SiLU)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-4, momentum=0.9)
    rng = stage.generator()

    def loss_of(step: int) -> torch.Tensor:
        x = rings(rng)
        level = 1e-4 if stage.sick and step >= 171 and step % 9 == 0 else 0.1
        noise = torch.randn(x.shape, generator=rng)
        score = model(x + level * noise)
        loss: torch.Tensor = (score + noise / level).square().mean()
        return loss

    return fit(stage, model, optimizer, loss_of, num_steps=280, clip=100.0)


@faulty(
    "mixture-one-head-restarted",
    Fault(kind="update_too_large", at=160, pace="fast", layers=("log_sds",), severity="warning",
          accept=("gradient_spike", "explosion", "loss_spike")),
    arch="mixture density network", optimizer="Adam",
)  # fmt: skip
def one_head_restarted(stage: Stage) -> Iterator[float]:
    """The group of one layer of three heads gets the rate of the first phase again at a restart at
    step 160, thirty times that of the others."""
    model = MixtureDensity(floor=0.05)
    optimizer = torch.optim.Adam(groups(model, "log_sds", 4e-3))
    rng = stage.generator()

    def restart(step: int) -> None:
        if stage.sick and step == 160:
            optimizer.param_groups[1]["lr"] = 0.12

    return fit(
        stage, model, optimizer, lambda step: model(*branches(rng)), num_steps=280,
        before=restart, clip=5.0,
    )  # fmt: skip
