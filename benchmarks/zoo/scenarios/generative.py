"""Autoencoders, diffusion and flows."""

from __future__ import annotations

from collections.abc import Iterator

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
from benchmarks.zoo.training import LossOf, fit


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
                model.get_parameter("encode.layers.1.bias").sub_(1.0)

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
                model.get_parameter("nets.2.layers.1.weight").mul_(1.035)

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
