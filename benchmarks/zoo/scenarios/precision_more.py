"""More of half precision: fading scales, squares, attention in float16, and noise that is harmless.

Emulated as in `precision`.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import nn
from torch.nn import functional

from benchmarks.zoo.data import curve, images
from benchmarks.zoo.faults import Fault
from benchmarks.zoo.models.mlp import MLP
from benchmarks.zoo.registry import faulty, healthy
from benchmarks.zoo.rules import Crosses, LeavesTwin, NotFinite
from benchmarks.zoo.scenarios.precision import half
from benchmarks.zoo.scenarios.regimes_healthy import classes
from benchmarks.zoo.schedules import warmup_cosine
from benchmarks.zoo.stage import Stage
from benchmarks.zoo.training import fit


@faulty(
    "scale-falls-to-one",
    Fault(kind="precision_underflow", at=110, layers=("layers.0", "layers.1"), severity="warning",
          accept=("vanishing_gradient", "plateau", "update_too_small"),
          onset=Crosses(series="activation_grad:layers.1", statistic="zero_frac", above=0.7,
                        num=3, since=110)),
    arch="MLP in float16", optimizer="SGD momentum",
)  # fmt: skip
def scale_falls(stage: Stage) -> Iterator[float]:
    """The loss is a mean over so much that only its scale keeps gradients in half precision's
    range; from step 110 on the scale is halved every six steps and never doubled again."""
    model = MLP((8, 48, 48, 1), activation=HalfSoftsign)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    rng = stage.generator()
    state = {"loss_scale": 2.0**16}

    def loss_of(step: int) -> torch.Tensor:
        if stage.sick and step >= 110 and step % 6 == 0:
            state["loss_scale"] = max(1.0, state["loss_scale"] / 2)
        x, y = curve(rng)
        return functional.mse_loss(model(x), y) * (1e-5 * state["loss_scale"])

    def unscale(step: int) -> None:
        for p in model.parameters():
            if p.grad is not None:
                p.grad.mul_(1e5 / state["loss_scale"])

    with stage.watch(model, optimizer) as watch:
        for step in range(360):
            optimizer.zero_grad()
            loss = loss_of(step)
            torch.autograd.backward(loss)
            unscale(step)
            optimizer.step()
            watch.log(loss_scale=state["loss_scale"])
            shown = float(loss.detach()) * 1e5 / state["loss_scale"]
            watch.step(shown)
            yield shown


class HalfSoftsign(nn.Module):
    """A softsign that hands on half precision."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Same shape as `x`."""
        return half(functional.softsign(half(x)))


@faulty(
    "squares-overflow-in-half",
    Fault(kind="precision_overflow", at=80, layers=("layers.1",),
          accept=("non_finite", "explosion"), onset=NotFinite()),
    arch="MLP in float16, squared ReLU", optimizer="AdamW",
)  # fmt: skip
def squares_overflow(stage: Stage) -> Iterator[float]:
    """The gain of one layer's squared ReLU is annealed upward by 5 % a step from step 80 on, with
    its inverse behind it in float32: one day a square is more than 65504."""
    model = SquaredMLP()
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    rate = warmup_cosine(2e-3, num_steps=260)

    def anneal(step: int) -> None:
        if stage.sick and step >= 80:
            model.gain *= 1.05

    loss_of = classes(stage, model)
    return fit(stage, model, optimizer, loss_of, num_steps=260, before=anneal, rate=rate)


class SquaredMLP(nn.Module):
    """Three layers; the second one's squared outputs are held in half precision."""

    def __init__(self) -> None:
        super().__init__()
        sizes = ((16, 48), (48, 48), (48, 8))
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in sizes)
        self.square = Squared()
        self.gain = 1.0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Class scores [N, K]."""
        x = torch.relu(self.layers[0](x))
        x = self.square(self.gain * self.layers[1](x)) / self.gain**2
        out: torch.Tensor = self.layers[2](x)
        return out


class Squared(nn.Module):
    """A squared ReLU in half precision."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Same shape as `x`."""
        return half(torch.relu(x).square())


class Rounded(nn.Module):
    """A convolutional network whose activations are held in bfloat16."""

    def __init__(self) -> None:
        super().__init__()
        self.convs = nn.ModuleList([nn.Conv2d(1, 12, 3, stride=2), nn.Conv2d(12, 24, 3, stride=2)])
        self.norms = nn.ModuleList(nn.GroupNorm(4, n) for n in (12, 24))
        self.fc = nn.Linear(24, 6)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Class scores [N, K]."""
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = torch.relu(norm(conv(x))).bfloat16().float()
        out: torch.Tensor = self.fc(x.mean(dim=(2, 3))).bfloat16().float()
        return out


@healthy("bfloat-activations", arch="CNN with GroupNorm in bfloat16", optimizer="SGD, accumulated")
def bfloat_activations(stage: Stage) -> Iterator[float]:
    """Activations and losses in bfloat16: the loss moves in steps of a hundredth, and four
    micro-batches add up before each step."""
    model = Rounded()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.2)
    rng = stage.generator()
    with stage.watch(model, optimizer) as watch:
        for _ in range(260):
            optimizer.zero_grad()
            total = 0.0
            for _ in range(4):
                x, y = images(rng, 8)
                loss = functional.cross_entropy(model(x), y) / 4
                torch.autograd.backward(loss)
                total += float(loss.detach())
            optimizer.step()
            shown = float(torch.tensor(total).bfloat16())
            watch.step(shown)
            yield shown


class HalfAttention(nn.Module):
    """Attention over the patches of an image whose products are held in float16."""

    def __init__(self, *, width: int = 16) -> None:
        super().__init__()
        self.patch = nn.Conv2d(1, width, 3, stride=3)
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, 6)
        self.logit_max = 0.0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Class scores [N, K]."""
        x = self.patch(x).flatten(2).transpose(1, 2)
        raw = half(self.query(x) @ self.key(x).transpose(1, 2))
        self.logit_max = float(raw.detach().abs().amax())
        mixed = (raw / 4).softmax(-1) @ self.value(x)
        out: torch.Tensor = self.head(self.norm(x + mixed).mean(dim=1))
        return out


@faulty(
    "half-products-of-attention",
    Fault(kind="attention_logit_growth", at=60, layers=("query", "key"),
          accept=("precision_overflow", "non_finite", "weight_corruption", "explosion"),
          onset=LeavesTwin(series="attn_logit_max", factor=4, num=4)),
    arch="attention in float16", optimizer="AdamW",
)  # fmt: skip
def products_of_attention(stage: Stage) -> Iterator[float]:
    """Queries and keys grow by 3 % a step from step 60 on, by a decay of the wrong sign; their
    products are not yet divided when float16 has to hold them, and at last it cannot."""
    model = HalfAttention()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    rng = stage.generator()

    def grow(step: int) -> None:
        if stage.sick and step >= 60:
            with torch.no_grad():
                for name in ("query", "key"):
                    model.get_parameter(f"{name}.weight").mul_(1.03)

    def loss_of(step: int) -> torch.Tensor:
        x, y = images(rng)
        return functional.cross_entropy(model(x), y)

    return fit(
        stage, model, optimizer, loss_of, num_steps=260, before=grow,
        log=lambda: {"attn_logit_max": model.logit_max},
    )  # fmt: skip
