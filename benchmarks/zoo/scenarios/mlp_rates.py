"""Learning rates that go wrong in multi-layer perceptrons."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import nn
from torch.nn import functional

from benchmarks.zoo.data import Clusters
from benchmarks.zoo.faults import Fault
from benchmarks.zoo.models.mlp import MLP
from benchmarks.zoo.registry import faulty
from benchmarks.zoo.rules import Crosses, LeavesTwin
from benchmarks.zoo.stage import Stage
from benchmarks.zoo.training import LossOf, fit


def _classify(stage: Stage, model: nn.Module, *, num: int = 32) -> LossOf:
    data = Clusters.make(stage.generator())

    def loss_of(step: int) -> torch.Tensor:
        x, y = data.batch(num)
        return functional.cross_entropy(model(x), y)

    return loss_of


@faulty(
    "mlp-rate-jump",
    Fault(
        kind="update_too_large", at=200, pace="fast",
        shows=LeavesTwin(series="update:layers.1.weight", factor=20),
    ),
    arch="MLP", optimizer="Adam", quick=True,
)  # fmt: skip
def rate_jump(stage: Stage) -> Iterator[float]:
    """A misplaced point in a schedule multiplies the learning rate by 100 from step 200 to 207."""
    model = MLP()
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)

    def rate(step: int) -> float:
        return 0.2 if stage.sick and 200 <= step < 208 else 2e-3

    loss_of = _classify(stage, model)
    return fit(stage, model, optimizer, loss_of, num_steps=400, rate=rate)


@faulty(
    "mlp-rate-creeps",
    Fault(
        kind="divergence", at=120, accept=("update_too_large", "explosion"),
        onset=LeavesTwin(series="update:layers.1.weight", factor=5, num=5),
    ),
    arch="MLP", optimizer="SGD momentum",
)  # fmt: skip
def rate_creeps(stage: Stage) -> Iterator[float]:
    """A decay with the wrong sign lets the learning rate grow by 1.2 % a step from step 120."""
    model = MLP()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9)
    sign = 1 if stage.sick else -1

    def rate(step: int) -> float:
        return 0.02 * math.exp(sign * 0.012 * max(0, step - 120))

    loss_of = _classify(stage, model)
    return fit(stage, model, optimizer, loss_of, num_steps=500, rate=rate)


@faulty(
    "mlp-rate-too-high",
    Fault(kind="divergence", onset=LeavesTwin(series="weight:layers.0.weight", factor=2),
          accept=("update_too_large", "dead_units", "loss_spike")),
    arch="MLP", optimizer="SGD momentum", quick=True,
)  # fmt: skip
def rate_too_high(stage: Stage) -> Iterator[float]:
    """The learning rate is 40 times too high from the first step on."""
    model = MLP(activation=nn.GELU)
    optimizer = torch.optim.SGD(model.parameters(), lr=2.0 if stage.sick else 0.05, momentum=0.9)
    return fit(stage, model, optimizer, _classify(stage, model), num_steps=300)


@faulty(
    "mlp-rate-dies",
    Fault(kind="update_too_small", at=150, severity="warning", accept=("plateau",),
          onset=LeavesTwin(series="update:layers.1.weight", factor=100)),
    arch="MLP", optimizer="Adam",
)  # fmt: skip
def rate_dies(stage: Stage) -> Iterator[float]:
    """A schedule counts samples for steps: the decay that was meant for 30 epochs is over in some
    80 steps, and from then on nothing moves."""
    model = MLP()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)

    def rate(step: int) -> float:
        return 1e-3 * (0.9 ** max(0, step - 150) if stage.sick else 1.0)

    loss_of = _classify(stage, model, num=64)
    return fit(stage, model, optimizer, loss_of, num_steps=450, rate=rate)


@faulty(
    "mlp-rate-negative",
    Fault(kind="divergence", at=260, accept=("update_too_large", "explosion", "loss_spike"),
          onset=Crosses(series="lr", below=-1e-9, num=1)),
    arch="MLP", optimizer="SGD momentum",
)  # fmt: skip
def rate_negative(stage: Stage) -> Iterator[float]:
    """A linear decay is not stopped at nought, and the loss is climbed from then on."""
    model = MLP()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)

    def rate(step: int) -> float:
        left = 0.05 * (1 - step / 260)
        return left if stage.sick else max(left, 0.0)

    loss_of = _classify(stage, model)
    return fit(stage, model, optimizer, loss_of, num_steps=500, rate=rate)
