"""Two data-parallel ranks in one process: their gradients are averaged by hand."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator

import torch
from torch import nn
from torch.nn import functional

from benchmarks.zoo.data import Clusters
from benchmarks.zoo.faults import Fault
from benchmarks.zoo.models.mlp import MLP
from benchmarks.zoo.registry import faulty, healthy
from benchmarks.zoo.rules import LeavesTwin, ScalarsDiffer
from benchmarks.zoo.stage import Stage

Averaged = Callable[[int, str], bool]
"""Whether a parameter's gradients are averaged on a step."""


def _checksum(model: nn.Module) -> float:
    """The sum of all weights in float64: equal to the bit wherever the weights are."""
    return float(sum(p.detach().double().sum() for p in model.parameters()))


def _train(
    stage: Stage,
    *,
    num_steps: int,
    averaged: Averaged = lambda step, name: True,
    touch: Callable[[int, list[MLP]], None] | None = None,
    noise: tuple[float, float] = (0.7, 0.7),
) -> Iterator[float]:
    """Train two replicas on their own halves of each batch; `touch` may act before a step."""
    models = [MLP((16, 48, 48, 8))]
    models.append(copy.deepcopy(models[0]))
    optimizers = [torch.optim.Adam(m.parameters(), lr=1e-3) for m in models]
    data = [Clusters.make(stage.generator(), noise=n) for n in noise]
    data[1].rng.manual_seed(stage.seed + 77)
    watches = [
        stage.watch(m, o, rank=r, world=2)
        for r, (m, o) in enumerate(zip(models, optimizers, strict=True))
    ]
    try:
        for step in range(num_steps):
            if touch is not None:
                touch(step, models)
            losses = []
            for model, source in zip(models, data, strict=True):
                x, y = source.batch()
                model.zero_grad()
                losses.append(functional.cross_entropy(model(x), y))
                torch.autograd.backward(losses[-1])
            pairs = zip(models[0].named_parameters(), models[1].parameters(), strict=True)
            for (name, a), b in pairs:
                assert a.grad is not None
                assert b.grad is not None
                if averaged(step, name):
                    mean = (a.grad + b.grad) / 2
                    a.grad.copy_(mean)
                    b.grad.copy_(mean)
            for model, optimizer, watch, loss in zip(
                models, optimizers, watches, losses, strict=True
            ):
                optimizer.step()
                watch.log(weight_checksum=_checksum(model))
                watch.step(loss)
            yield float(torch.stack(losses).detach().mean())
    finally:
        for watch in watches:
            watch.close()


@healthy("ranks-of-unlike-data", arch="MLP, two ranks", optimizer="Adam")
def unlike_data(stage: Stage) -> Iterator[float]:
    """One rank's data are harder: its loss is always higher, and both weights stay the same."""
    return _train(stage, num_steps=320, noise=(0.5, 0.9))


@faulty(
    "ranks-layer-not-averaged",
    Fault(kind="replica_divergence", at=150, severity="warning",
          layers=("rank0/layers.1", "rank1/layers.1"),
          onset=ScalarsDiffer(first="weight_checksum_rank0", second="weight_checksum_rank1")),
    arch="MLP, two ranks", optimizer="Adam", quick=True,
)  # fmt: skip
def layer_not_averaged(stage: Stage) -> Iterator[float]:
    """A bucket of the all-reduce loses the second layer from step 150 on: both ranks go on, each
    with its own, and each loss looks fine."""

    def averaged(step: int, name: str) -> bool:
        return not (stage.sick and step >= 150 and name.startswith("layers.1"))

    return _train(stage, num_steps=340, averaged=averaged)


@faulty(
    "ranks-silent-bit",
    Fault(kind="replica_divergence", at=180, pace="fast", severity="warning",
          layers=("rank1/layers.0",), accept=("weight_corruption",),
          onset=ScalarsDiffer(first="weight_checksum_rank0", second="weight_checksum_rank1")),
    arch="MLP, two ranks", optimizer="Adam",
)  # fmt: skip
def silent_bit(stage: Stage) -> Iterator[float]:
    """One weight of one rank changes by a hundredth before step 180: only the checksums tell."""

    def touch(step: int, models: list[MLP]) -> None:
        if stage.sick and step == 180:
            with torch.no_grad():
                models[1].get_parameter("layers.0.weight")[3, 3] += 0.01

    return _train(stage, num_steps=320, touch=touch)


@faulty(
    "ranks-one-diverges",
    Fault(kind="replica_divergence", at=140, pace="fast", layers=("rank1/layers.2",),
          accept=("weight_corruption", "explosion"),
          shows=LeavesTwin(series="weight:rank1/layers.2.weight", factor=2)),
    arch="MLP, two ranks", optimizer="Adam",
)  # fmt: skip
def one_diverges(stage: Stage) -> Iterator[float]:
    """A rank that joins again at step 140 reads its last layer from a stale file of another scale:
    every second batch is now answered by another network."""

    def touch(step: int, models: list[MLP]) -> None:
        if stage.sick and step == 140:
            with torch.no_grad():
                models[1].get_parameter("layers.2.weight").mul_(6.0)

    return _train(stage, num_steps=300, touch=touch)
