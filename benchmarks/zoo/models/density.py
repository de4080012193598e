"""Models of distributions and of equilibria: mixtures of Gaussians, codebooks, energies, weights
with a spread, steps of a differential equation, fixed points, masks that order the inputs.

Shapes: N batch, F features, M mixture parts, D width.
"""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.nn import functional


class MixtureDensity(nn.Module):
    """A network whose outputs are the parts of a mixture (Bishop 1994)."""

    def __init__(self, *, width: int = 32, parts: int = 4, floor: float = 0.05) -> None:
        super().__init__()
        self.trunk = nn.Sequential(
            nn.Linear(1, width), nn.Tanh(), nn.Linear(width, width), nn.Tanh()
        )
        self.weights, self.means, self.log_sds = (nn.Linear(width, parts) for _ in range(3))
        self.floor = floor

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """Minus the mean log-density of y [N, 1] given x [N, 1]."""
        h = self.trunk(x)
        sds = self.log_sds(h).exp() + self.floor
        parts = self.weights(h).log_softmax(-1) - sds.log() - 0.5 * math.log(2 * math.pi)
        parts = parts - 0.5 * ((y - self.means(h)) / sds).square()
        loss: torch.Tensor = -parts.logsumexp(-1).mean()
        return loss


class Codebook(nn.Module):
    """The nearest of a set of vectors, with a gradient straight through (van den Oord 2017)."""

    def __init__(self, *, codes: int = 24, width: int = 6, spread: float = 0.3) -> None:
        super().__init__()
        self.codes = nn.Parameter(spread * torch.randn(codes, width))
        self.used = 0.0

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Codes in place of x [N, D], and the distances that pull the codes and the inputs."""
        chosen = torch.cdist(x.detach(), self.codes.detach()).argmin(dim=1)
        codes = self.codes[chosen]
        self.used = len(chosen.unique()) / len(self.codes)
        pulled, kept = (codes - x.detach()).square().mean(), (codes.detach() - x).square().mean()
        return x + (codes - x).detach(), pulled, kept


class Quantized(nn.Module):
    """An autoencoder of strips of pixels whose bottleneck is a code."""

    def __init__(self, *, inputs: int = 36, spread: float = 0.3) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(inputs, 48), nn.ReLU(), nn.Linear(48, 6))
        self.book = Codebook(spread=spread)
        self.decoder = nn.Sequential(nn.Linear(6, 48), nn.ReLU(), nn.Linear(48, inputs))

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """The reconstruction of x [N, inputs], and both distances."""
        code, pulled, kept = self.book(self.encoder(x))
        return self.decoder(code), pulled, kept


class Energy(nn.Module):
    """A number for each point, low where data are."""

    def __init__(self, *, inputs: int = 2, width: int = 48) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Linear(inputs, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU()
        )
        self.level = nn.Linear(width, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Energies [N]."""
        out: torch.Tensor = self.level(self.body(x))[:, 0]
        return out


class SpreadLinear(nn.Module):
    """A linear layer whose weights are drawn anew on each pass (Blundell et al. 2015)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.mean = nn.Parameter(torch.randn(outputs, inputs) / inputs**0.5)
        self.log_sd = nn.Parameter(torch.full((outputs, inputs), -4.0))
        self.bias = nn.Parameter(torch.zeros(outputs))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Outputs under weights drawn now."""
        weight = self.mean + self.log_sd.exp() * torch.randn_like(self.mean)
        return functional.linear(x, weight, self.bias)

    def divergence(self, prior: float = 0.5) -> torch.Tensor:
        """From a normal prior, in nats."""
        square = (2 * self.log_sd).exp() + self.mean.square()
        return (math.log(prior) - self.log_sd + square / (2 * prior**2) - 0.5).sum()


class Bayesian(nn.Module):
    """Two hidden layers with a spread in every weight."""

    def __init__(self) -> None:
        super().__init__()
        sizes = ((16, 40), (40, 40), (40, 8))
        self.layers = nn.ModuleList(SpreadLinear(a, b) for a, b in sizes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Class scores [N, K]."""
        for layer in self.layers[:-1]:
            x = torch.relu(layer(x))
        out: torch.Tensor = self.layers[-1](x)
        return out

    def divergence(self) -> torch.Tensor:
        """Of all layers."""
        parts = [m.divergence() for m in self.layers if isinstance(m, SpreadLinear)]
        return torch.stack(parts).sum()


class Ode(nn.Module):
    """A state that follows a learned slope in small steps, and a readout (Chen et al. 2018)."""

    def __init__(self, *, inputs: int = 16, width: int = 32, classes: int = 8) -> None:
        super().__init__()
        self.lift = nn.Linear(inputs, width)
        self.slope1, self.slope2 = nn.Linear(width + 1, 48), nn.Linear(48, width)
        self.read = nn.Linear(width, classes)
        self.length = 0.1

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Class scores after ten steps."""
        h = self.lift(x)
        for step in range(10):
            timed = functional.pad(h, (0, 1), value=0.1 * step)
            h = h + self.length * self.slope2(torch.tanh(self.slope1(timed)))
        out: torch.Tensor = self.read(h)
        return out


class Equilibrium(nn.Module):
    """The fixed point of one layer, found by going round (Bai et al. 2019)."""

    def __init__(self, *, inputs: int = 16, width: int = 40, classes: int = 8) -> None:
        super().__init__()
        self.inject, self.inner = nn.Linear(inputs, width), nn.Linear(width, width)
        self.norm, self.read = nn.LayerNorm(width), nn.Linear(width, classes)
        nn.init.orthogonal_(self.inner.weight, gain=0.6)
        self.rounds, self.residual = 12, 0.0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Class scores at the fixed point."""
        given = self.inject(x)
        z = torch.zeros_like(given)
        for _ in range(self.rounds):
            after = torch.relu(self.inner(z) + given)
            self.residual = float((after - z).detach().norm() / (z.detach().norm() + 1e-3))
            z = after
        out: torch.Tensor = self.read(self.norm(z))
        return out


class Ordered(nn.Module):
    """Each output sees only the inputs before it (MADE, Germain et al. 2015)."""

    def __init__(self, *, inputs: int = 12, width: int = 48) -> None:
        super().__init__()
        degrees = [torch.arange(inputs), torch.arange(width) % (inputs - 1)]
        self.hidden, self.out = nn.Linear(inputs, width), nn.Linear(width, inputs)
        self.register_buffer("enter", (degrees[1][:, None] >= degrees[0]).float())
        self.register_buffer("leave", (degrees[0][:, None] > degrees[1]).float())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """A logit for each bit of x [N, F]."""
        weight = self.hidden.weight * self.get_buffer("enter")
        h = torch.relu(functional.linear(x, weight, self.hidden.bias))
        weight = self.out.weight * self.get_buffer("leave")
        return functional.linear(h, weight, self.out.bias)
