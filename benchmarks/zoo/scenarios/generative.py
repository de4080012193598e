"""Autoencoders, diffusion, flows and two-player training."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional

from benchmarks.zoo.data import images
from benchmarks.zoo.faults import Fault
from benchmarks.zoo.models.conv import UNet
from benchmarks.zoo.models.mlp import MLP
from benchmarks.zoo.registry import faulty, healthy
from benchmarks.zoo.rules import Crosses, LeavesTwin, NotFinite
from benchmarks.zoo.stage import Stage
from benchmarks.zoo.training import LossOf, fit, set_rate


def _denoises(stage: Stage, model: UNet, *, bad_from: int | None = None) -> LossOf:
    rng = stage.generator()

    def loss_of(step: int) -> torch.Tensor:
        x, _ = images(rng)
        level = torch.rand(len(x), generator=rng)
        noise = torch.randn(x.shape, generator=rng)
        a, b = (1 - level)[:, None, None, None].sqrt(), level[:, None, None, None].sqrt()
        told = 1000 * level if bad_from is not None and step >= bad_from else level
        return functional.mse_loss(model(a * x + b * noise, told), noise)

    return loss_of


@healthy("diffusion-unet", arch="U-Net denoiser", optimizer="AdamW", quick=True)
def diffusion(stage: Stage) -> Iterator[float]:
    """The loss depends on the noise levels that were drawn, far more than on progress."""
    model = UNet()
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    return fit(stage, model, optimizer, _denoises(stage, model), num_steps=320, clip=1.0)


@faulty(
    "diffusion-time-unscaled",
    Fault(kind="bad_batch", at=180, pace="fast", layers=("time",),
          accept=("explosion", "divergence", "saturation")),
    arch="U-Net denoiser", optimizer="AdamW",
)  # fmt: skip
def time_unscaled(stage: Stage) -> Iterator[float]:
    """From step 180 on the noise level comes as 0 to 1000 where it was 0 to 1."""
    model = UNet()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    loss_of = _denoises(stage, model, bad_from=180 if stage.sick else None)
    return fit(stage, model, optimizer, loss_of, num_steps=320, clip=1.0)


@faulty(
    "diffusion-skip-grows",
    Fault(kind="explosion", at=100, layers=("merge",), severity="critical",
          onset=LeavesTwin(series="activation:merge", factor=3)),
    arch="U-Net denoiser", optimizer="Adam",
)  # fmt: skip
def skip_grows(stage: Stage) -> Iterator[float]:
    """The scale of the skip connection is multiplied by 1.03 at every step from step 100 on, by a
    line that was meant to run once an epoch."""
    model = UNet()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)

    def grow(step: int) -> None:
        if stage.sick and step >= 100:
            model.skip_scale *= 1.03

    loss_of = _denoises(stage, model)
    return fit(stage, model, optimizer, loss_of, num_steps=300, before=grow)


class VAE(nn.Module):
    """A variational autoencoder of 144 pixels with 8 latent dimensions."""

    def __init__(self) -> None:
        super().__init__()
        self.encode = MLP((144, 64, 48), activation=nn.ELU)
        self.mean, self.log_var = nn.Linear(48, 8), nn.Linear(48, 8)
        self.decode = MLP((8, 64, 144), activation=nn.ELU)

    def forward(
        self, x: torch.Tensor, noise: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """The image again, and the mean and log-variance of the posterior."""
        h = functional.elu(self.encode(x.flatten(1)))
        mean, log_var = self.mean(h), self.log_var(h)
        return self.decode(mean + (0.5 * log_var).exp() * noise), mean, log_var


def _encodes(stage: Stage, model: VAE, weight: list[float]) -> LossOf:
    rng = stage.generator()

    def loss_of(step: int) -> torch.Tensor:
        x, _ = images(rng, 32)
        again, mean, log_var = model(x, torch.randn(32, 8, generator=rng))
        divergence = 0.5 * (mean**2 + log_var.exp() - 1 - log_var).sum(1).mean()
        total: torch.Tensor = functional.mse_loss(again, x.flatten(1)) + weight[step] * divergence
        return total

    return loss_of


@healthy("vae-divergence-annealed", arch="VAE", optimizer="Adam", loss_falls=False)
def annealed(stage: Stage) -> Iterator[float]:
    """The weight of the divergence grows over 200 steps: the loss rises again, as intended."""
    model = VAE()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    weight = [2e-3 * min(1.0, step / 200) for step in range(360)]
    return fit(stage, model, optimizer, _encodes(stage, model, weight), num_steps=360)


@faulty(
    "vae-posterior-collapse",
    Fault(kind="representation_collapse", at=130, layers=("mean",), accept=("vanishing_gradient",),
          onset=LeavesTwin(series="activation:mean", statistic="std", factor=10)),
    arch="VAE", optimizer="Adam",
)  # fmt: skip
def posterior_collapse(stage: Stage) -> Iterator[float]:
    """From step 130 on the divergence is summed over pixels as well: 500 times as heavy, it presses
    every posterior onto the prior, and the decoder paints one grey image."""
    model = VAE()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    weight = [1e-3 * (500 if stage.sick and step >= 130 else 1) for step in range(380)]
    return fit(stage, model, optimizer, _encodes(stage, model, weight), num_steps=380)


@faulty(
    "vae-log-variance",
    Fault(kind="explosion", at=90, layers=("log_var",), accept=("non_finite", "loss_spike"),
          onset=Crosses(series="activation:log_var", statistic="max", above=4.0)),
    arch="VAE", optimizer="RMSprop",
)  # fmt: skip
def log_variance(stage: Stage) -> Iterator[float]:
    """The divergence is dropped at step 90 and the bias of the log-variance creeps up by 0.25 a
    step: its exponential grows until the loss, and then float32, break."""
    model = VAE()
    optimizer = torch.optim.RMSprop(model.parameters(), lr=5e-4)
    weight = [1e-3 if step < 90 or not stage.sick else 0.0 for step in range(300)]

    def creep(step: int) -> None:
        if stage.sick and step >= 90:
            with torch.no_grad():
                model.log_var.bias.add_(0.25)

    return fit(stage, model, optimizer, _encodes(stage, model, weight), num_steps=300, after=creep)


class AutoEncoder(nn.Module):
    """A ReLU bottleneck of 12."""

    def __init__(self) -> None:
        super().__init__()
        self.encode = MLP((144, 64, 12))
        self.bottleneck = nn.ReLU()
        self.decode = MLP((12, 64, 144))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The image again, flat."""
        out: torch.Tensor = self.decode(self.bottleneck(self.encode(x.flatten(1))))
        return out


def _repeats(stage: Stage, model: nn.Module) -> LossOf:
    rng = stage.generator()

    def loss_of(step: int) -> torch.Tensor:
        x, _ = images(rng, 32)
        return functional.mse_loss(model(x), x.flatten(1))

    return loss_of


@healthy("autoencoder-rprop", arch="autoencoder", optimizer="Rprop")
def autoencoder_rprop(stage: Stage) -> Iterator[float]:
    """Rprop steps by the sign of each gradient; its updates spread over many orders."""
    model = AutoEncoder()
    optimizer = torch.optim.Rprop(model.parameters(), lr=1e-4, step_sizes=(1e-7, 1e-3))
    return fit(stage, model, optimizer, _repeats(stage, model), num_steps=300)


@faulty(
    "autoencoder-bottleneck-dies",
    Fault(kind="dead_units", at=100, layers=("bottleneck", "encode.layers.1"),
          accept=("representation_collapse", "vanishing_gradient"),
          onset=Crosses(series="activation:bottleneck", statistic="zero_frac", above=0.9)),
    arch="autoencoder", optimizer="AdamW", quick=True,
)  # fmt: skip
def bottleneck_dies(stage: Stage) -> Iterator[float]:
    """A sparsity penalty with a misplaced point pulls the bottleneck's biases down by 1 a step
    from step 100 on, until nothing passes."""
    model = AutoEncoder()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)

    def pull(step: int) -> None:
        if stage.sick and step >= 100:
            with torch.no_grad():
                model.encode.layers[1].bias.sub_(1.0)  # type: ignore[operator]

    return fit(stage, model, optimizer, _repeats(stage, model), num_steps=340, after=pull)


class Flow(nn.Module):
    """Four affine couplings of two dimensions; `limit` bounds the log-scales."""

    def __init__(self, *, limit: bool = True) -> None:
        super().__init__()
        self.nets = nn.ModuleList(MLP((1, 32, 2), activation=nn.Tanh) for _ in range(4))
        self.limit = limit

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Negative log-likelihood of points [N, 2]."""
        first, second = x[:, :1], x[:, 1:]
        log_det = torch.zeros(len(x))
        for net in self.nets:
            log_scale, shift = net(first).chunk(2, dim=-1)
            log_scale = torch.tanh(log_scale) if self.limit else log_scale
            first, second = second * log_scale.exp() + shift, first
            log_det = log_det + log_scale[:, 0]
        squares = 0.5 * (first**2 + second**2)[:, 0]
        return (squares - log_det).mean()


def _moons(stage: Stage, model: Flow, *, outlier_at: int | None = None) -> LossOf:
    rng = stage.generator()

    def loss_of(step: int) -> torch.Tensor:
        angle = torch.pi * torch.rand(64, generator=rng)
        half = torch.randint(2, (64,), generator=rng) * 2.0 - 1
        x = torch.stack([angle.cos() + 0.5 * half, half * angle.sin()], 1)
        x = x + 0.1 * torch.randn(64, 2, generator=rng)
        if step == outlier_at:
            x[0] = 1e4
        out: torch.Tensor = model(x)
        return out

    return loss_of


@healthy("flow-moons", arch="affine coupling flow", optimizer="Adam")
def flow_moons(stage: Stage) -> Iterator[float]:
    """A log-likelihood: the loss crosses nought and goes on below it."""
    model = Flow()
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    return fit(stage, model, optimizer, _moons(stage, model), num_steps=450)


@faulty(
    "flow-unbounded-scale",
    Fault(kind="explosion", at=150, layers=("nets.2",),
          accept=("non_finite", "loss_spike", "update_too_large", "weight_corruption"),
          onset=LeavesTwin(series="activation:nets.2.layers.1", statistic="abs_max", factor=3)),
    arch="affine coupling flow", optimizer="Adam",
)  # fmt: skip
def unbounded_scale(stage: Stage) -> Iterator[float]:
    """Nothing bounds the log-scales, and one net's last layer grows by 3.5 % a step from step 150
    on: what its exponential makes of that reaches the loss late, and all at once."""
    model = Flow(limit=False)
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-4)

    def grow(step: int) -> None:
        if stage.sick and step >= 150:
            with torch.no_grad():
                model.nets[2].layers[1].weight.mul_(1.035)  # type: ignore[index, union-attr]

    loss_of = _moons(stage, model)
    return fit(stage, model, optimizer, loss_of, num_steps=360, after=grow)


@faulty(
    "flow-outlier",
    Fault(kind="bad_batch", at=220, pace="fast", accept=("explosion", "update_too_large"),
          severity="warning", lasting=False),
    arch="affine coupling flow", optimizer="Adamax",
)  # fmt: skip
def flow_outlier(stage: Stage) -> Iterator[float]:
    """One point lies ten thousand units away, on one step; clipping contains it."""
    model = Flow()
    optimizer = torch.optim.Adamax(model.parameters(), lr=3e-3)
    loss_of = _moons(stage, model, outlier_at=220 if stage.sick else None)
    return fit(stage, model, optimizer, loss_of, num_steps=380, clip=5.0)


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


@faulty(
    "autoencoder-log-of-zero",
    Fault(kind="non_finite", at=160, pace="fast", shows=NotFinite()),
    arch="autoencoder", optimizer="Adam",
)  # fmt: skip
def log_of_zero(stage: Stage) -> Iterator[float]:
    """From step 160 on a term log(1 - output) is added without a bound: it soon meets a number that
    is not positive."""
    model = AutoEncoder()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    rng = stage.generator()

    def loss_of(step: int) -> torch.Tensor:
        x, _ = images(rng, 32)
        again = model(x)
        loss = functional.mse_loss(again, x.flatten(1))
        return loss - 1e-3 * (1 - again).log().mean() if stage.sick and step >= 160 else loss

    return fit(stage, model, optimizer, loss_of, num_steps=260)
