"""Half precision: what it flushes, what it overflows, and loss scaling that works or does not.

Half precision is emulated: values and their gradients are rounded to float16 or bfloat16 where a
mixed-precision training would hold them in it, which a CPU does faithfully and fast enough.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from benchmarks.zoo.data import Clusters, curve
from benchmarks.zoo.faults import Fault
from benchmarks.zoo.models.mlp import MLP
from benchmarks.zoo.registry import faulty, healthy
from benchmarks.zoo.rules import Crosses, LeavesTwin
from benchmarks.zoo.stage import Stage
from benchmarks.zoo.training import fit


class _Round(torch.autograd.Function):
    """Rounds to float16 on the way there and back."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        return x.half().float()

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> torch.Tensor:
        return grads[0].half().float()


def half(x: torch.Tensor) -> torch.Tensor:
    """`x` as float16 holds it, and its gradient likewise."""
    out: torch.Tensor = _Round.apply(x)  # type: ignore[no-untyped-call]  # torch leaves it so
    return out


class HalfTanh(nn.Module):
    """A tanh that hands on half precision."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Same shape as `x`."""
        return half(torch.tanh(half(x)))


def _scaled(
    stage: Stage, *, broken_from: int | None = None, num_steps: int = 420
) -> Iterator[float]:
    """Dynamic loss scaling: doubled after 40 good steps, halved by an overflow, which skips the
    step. From `broken_from` on one layer's gradients overflow whatever the scale."""
    model = MLP((16, 48, 48, 8), activation=HalfTanh)
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    data = Clusters.make(stage.generator())
    scale, good = 2.0**14, 0
    with stage.watch(model, optimizer) as watch:
        for step in range(num_steps):
            x, y = data.batch()
            loss = functional.cross_entropy(model(x), y)
            optimizer.zero_grad()
            torch.autograd.backward(loss * scale)
            broken = broken_from is not None and step >= broken_from
            overflow = False
            for name, parameter in model.named_parameters():
                if parameter.grad is None:
                    continue
                if broken and name.startswith("layers.1"):
                    parameter.grad[0] = float("inf")
                parameter.grad = parameter.grad.half().float()
                overflow |= not bool(parameter.grad.isfinite().all())
                parameter.grad /= scale
            watch.grads_ready()
            watch.log(loss_scale=scale)
            if overflow:
                scale, good = scale / 2, 0
            else:
                optimizer.step()
                good += 1
                if good % 40 == 0:
                    scale *= 2
            watch.step(loss)
            yield float(loss.detach())


@healthy("half-scaled", arch="MLP in float16", optimizer="Adam", quick=True)
def half_scaled(stage: Stage) -> Iterator[float]:
    """Loss scaling that looks for its limit: every now and then gradients overflow and the step is
    skipped, as intended."""
    return _scaled(stage)


@faulty(
    "half-scale-collapses",
    Fault(kind="precision_overflow", at=200, layers=("layers.1",),
          accept=("non_finite", "update_too_small", "plateau", "precision_underflow"),
          onset=Crosses(series="loss_scale", below=64.0, num=3, since=200)),
    arch="MLP in float16", optimizer="Adam",
)  # fmt: skip
def half_scale_collapses(stage: Stage) -> Iterator[float]:
    """From step 200 on one layer's gradients are infinite at any loss scale: the scale halves
    without end, every step is skipped, and the loss simply stays where it is."""
    return _scaled(stage, broken_from=200 if stage.sick else None, num_steps=360)


@faulty(
    "half-without-scaling",
    Fault(kind="precision_underflow", layers=("layers.0", "layers.1"),
          accept=("vanishing_gradient", "plateau", "update_too_small"),
          onset=Crosses(series="activation_grad:layers.0", statistic="zero_frac", above=0.5,
                        num=3)),
    arch="MLP in float16", optimizer="Adam", quick=True,
)  # fmt: skip
def half_without_scaling(stage: Stage) -> Iterator[float]:
    """A loss of small weight without loss scaling: most gradients of the first layers are below
    what float16 can hold, and flushed to nought. The twin is trained in float32."""
    model = MLP((8, 48, 48, 48, 1), activation=HalfTanh if stage.sick else nn.Tanh)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, eps=1e-15)
    rng = stage.generator()

    def loss_of(step: int) -> torch.Tensor:
        x, y = curve(rng)
        return 2e-6 * functional.mse_loss(model(x), y)

    return fit(stage, model, optimizer, loss_of, num_steps=360)


@faulty(
    "half-activations-overflow",
    Fault(kind="precision_overflow", at=120, layers=("layers.1",),
          accept=("weight_corruption", "update_too_large"),
          onset=Crosses(series="activation:layers.1", statistic="abs_max", above=6e3, num=3)),
    arch="MLP in float16", optimizer="SGD momentum",
)  # fmt: skip
def activations_overflow(stage: Stage) -> Iterator[float]:
    """One layer's weights grow by 6 % a step from step 120 on; a norm behind it hides that, until
    float16 ends at 65504."""
    model = NormedMLP()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    data = Clusters.make(stage.generator())

    def grow(step: int) -> None:
        if stage.sick and step >= 120:
            with torch.no_grad():
                for parameter in model.layers[1].parameters():
                    parameter.mul_(1.06)

    def loss_of(step: int) -> torch.Tensor:
        x, y = data.batch()
        return functional.cross_entropy(model(x), y)

    return fit(stage, model, optimizer, loss_of, num_steps=360, after=grow)


class NormedMLP(nn.Module):
    """Two layers whose half-precision outputs are normalised, and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(16, 48), nn.Linear(48, 48), nn.Linear(48, 8)])
        self.norms = nn.ModuleList(nn.LayerNorm(48) for _ in range(2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Class scores."""
        for layer, norm in zip(self.layers, self.norms, strict=False):
            x = torch.relu(norm(half(layer(x))))
        out: torch.Tensor = self.layers[-1](x)
        return out


@healthy("bfloat-weights-enough", arch="MLP with bfloat16 weights", optimizer="SGD")
def bfloat_enough(stage: Stage) -> Iterator[float]:
    """Weights are held in bfloat16, and updates are large enough to reach them: many single weights
    do not move on a step, the layers do."""
    return _bfloat(stage, rate=0.5)


@faulty(
    "bfloat-updates-lost",
    Fault(kind="update_too_small", at=90, severity="warning",
          accept=("precision_underflow", "plateau", "vanishing_gradient"),
          onset=Crosses(series="update:layers.1.weight", statistic="zero_frac", above=0.97,
                        num=10, since=90)),
    arch="MLP with bfloat16 weights", optimizer="SGD",
)  # fmt: skip
def bfloat_updates_lost(stage: Stage) -> Iterator[float]:
    """From step 90 on the learning rate is 0.002 and the weights are held in bfloat16: nearly every
    update is less than half of the weight's last bit, and rounded away."""
    return _bfloat(stage, rate=0.5, later=0.002, since=90)


class RoundedSGD(torch.optim.SGD):
    """SGD that leaves its weights in bfloat16, from its step number `since` on."""

    def __init__(self, params: Iterable[nn.Parameter], *, lr: float, since: int) -> None:
        super().__init__(params, lr=lr)
        self._left = since

    def step(self, closure: Any = None) -> Any:
        """One update, rounded."""
        super().step(closure)
        self._left -= 1
        if self._left < 0:
            with torch.no_grad():
                for parameter in (p for group in self.param_groups for p in group["params"]):
                    parameter.copy_(parameter.bfloat16().float())


def _bfloat(
    stage: Stage, *, rate: float, later: float | None = None, since: int = 0
) -> Iterator[float]:
    """Train with weights in bfloat16 and, from `since` on, the rate `later`; the twin of a fault
    keeps float32."""
    model = MLP(activation=nn.Tanh)
    rounds = stage.sick or later is None
    optimizer = RoundedSGD(model.parameters(), lr=rate, since=since if rounds else 10**9)
    data = Clusters.make(stage.generator())

    def loss_of(step: int) -> torch.Tensor:
        x, y = data.batch()
        return functional.cross_entropy(model(x), y)

    def rates(step: int) -> float:
        return later if later is not None and step >= since else rate

    return fit(stage, model, optimizer, loss_of, num_steps=380, rate=rates)


@faulty(
    "half-table-overflows",
    Fault(kind="precision_overflow", at=180, pace="fast", accept=("bad_batch",),
          shows=LeavesTwin(series="activation:layers.0", statistic="abs_max", factor=100, num=1)),
    arch="MLP in float16", optimizer="AdamW",
)  # fmt: skip
def table_overflows(stage: Stage) -> Iterator[float]:
    """From step 180 on one column of the table comes in cents instead of millions: beyond what
    float16 holds."""
    model = MLP((8, 48, 48, 1), activation=HalfTanh)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    rng = stage.generator()

    def loss_of(step: int) -> torch.Tensor:
        x, y = curve(rng)
        if stage.sick and step >= 180:
            x = torch.cat([x[:, :1] * 1e8, x[:, 1:]], dim=1)
        return functional.mse_loss(model(x), y)

    return fit(stage, model, optimizer, loss_of, num_steps=300, clip=1.0)
