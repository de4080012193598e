"""Tasks that follow one another, and what a long life does to a network and its optimizer."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import nn
from torch.nn import functional

from benchmarks.zoo.data import Clusters
from benchmarks.zoo.faults import Fault
from benchmarks.zoo.models.mlp import MLP
from benchmarks.zoo.registry import faulty, healthy
from benchmarks.zoo.rules import Crosses, LeavesTwin
from benchmarks.zoo.stage import Stage
from benchmarks.zoo.training import LossOf, fit

_PERIOD = 100


def _tasks(stage: Stage, model: nn.Module, *, num: int) -> LossOf:
    """A new set of clusters every `_PERIOD` steps."""
    tasks = [Clusters.make(stage.generator(i)) for i in range(num)]

    def loss_of(step: int) -> torch.Tensor:
        x, y = tasks[step // _PERIOD].batch()
        return functional.cross_entropy(model(x), y)

    return loss_of


@healthy("continual-told", arch="MLP, task after task", optimizer="Adam", loss_falls=False)
def tasks_told(stage: Stage) -> Iterator[float]:
    """Five tasks, each announced: the loss jumps to that of a guess, or above, and falls again."""
    model = MLP(activation=nn.GELU)
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    notes = {step: f"task {step // _PERIOD + 1}" for step in range(_PERIOD, 500, _PERIOD)}
    return fit(stage, model, optimizer, _tasks(stage, model, num=5), num_steps=500, notes=notes)


@faulty(
    "continual-plasticity-lost",
    Fault(kind="dead_units", at=100, layers=("layers.0", "acts.0", "layers.1", "acts.1"),
          accept=("plateau", "representation_collapse", "vanishing_gradient"),
          severity="warning",
          onset=Crosses(series="activation:acts.1", statistic="inactive_unit_frac", above=0.4,
                        num=5)),
    arch="MLP, task after task", optimizer="Adam", loss_falls=False,
)  # fmt: skip
def plasticity_lost(stage: Stage) -> Iterator[float]:
    """Task after task at a rate ten times too high from step 100 on: at each change more ReLU units
    die and never come back, and later tasks are learned ever worse."""
    model = MLP((16, 48, 48, 8))
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)

    def rate(step: int) -> float:
        return 0.03 if stage.sick and step >= 100 else 2e-3

    notes = {step: f"task {step // _PERIOD + 1}" for step in range(_PERIOD, 600, _PERIOD)}
    loss_of = _tasks(stage, model, num=6)
    return fit(stage, model, optimizer, loss_of, num_steps=600, rate=rate, notes=notes)


@faulty(
    "weights-grow-for-ever",
    Fault(kind="explosion", at=80, severity="warning",
          layers=("layers.0", "layers.1", "layers.2"), accept=("update_too_small",),
          onset=LeavesTwin(series="weight:layers.1.weight", factor=3)),
    arch="MLP with norms", optimizer="AdamW",
)  # fmt: skip
def weights_grow(stage: Stage) -> Iterator[float]:
    """The sign of the decay is wrong from step 80 on: weights in front of a norm grow by 1 % a
    step, which the loss cannot feel, and what an update changes shrinks with it."""
    model = MLP((16, 48, 48, 48, 8), activation=_NormedReLU)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.0)

    def grow(step: int) -> None:
        if stage.sick and step >= 80:
            with torch.no_grad():
                for depth in range(3):
                    model.get_parameter(f"layers.{depth}.weight").mul_(1.01)

    data = Clusters.make(stage.generator())

    def loss_of(step: int) -> torch.Tensor:
        x, y = data.batch()
        return functional.cross_entropy(model(x), y)

    return fit(stage, model, optimizer, loss_of, num_steps=360, after=grow)


class _NormedReLU(nn.Module):
    """A norm without parameters, then a ReLU."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Same shape as `x`."""
        return torch.relu(functional.layer_norm(x, x.shape[-1:]))
