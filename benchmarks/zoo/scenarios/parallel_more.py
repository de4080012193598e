"""Three data-parallel ranks in one process, with what the averaging of gradients gets wrong."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator

import torch
from torch import nn
from torch.nn import functional

from benchmarks.zoo.data import images
from benchmarks.zoo.faults import Fault
from benchmarks.zoo.models.conv import CNN
from benchmarks.zoo.registry import faulty, healthy
from benchmarks.zoo.rules import LeavesTwin, ScalarsDiffer
from benchmarks.zoo.stage import Stage

_RANKS = 3
Skips = Callable[[int, int], bool]
"""Whether a rank skips its update on a step."""


def _checksum(model: nn.Module) -> float:
    """The sum of all weights in float64: equal to the bit wherever the weights are."""
    return float(sum(p.detach().double().sum() for p in model.parameters()))


def _train(
    stage: Stage,
    *,
    num_steps: int,
    skips: Skips = lambda step, rank: False,
    share: Callable[[int, int], float] = lambda step, rank: 1 / _RANKS,
    norm: bool = False,
) -> Iterator[float]:
    """Train three replicas; rank r's gradients enter the mean with `share(step, r)`. Batch norm's
    own averages differ between ranks, as they do in real life."""
    models = [CNN(norm=norm)]
    models += [copy.deepcopy(models[0]) for _ in range(_RANKS - 1)]
    optimizers = [torch.optim.SGD(m.parameters(), lr=0.05, momentum=0.9) for m in models]
    sources = [stage.generator(rank) for rank in range(_RANKS)]
    watches = [
        stage.watch(m, o, rank=r, world=_RANKS)
        for r, (m, o) in enumerate(zip(models, optimizers, strict=True))
    ]
    try:
        for step in range(num_steps):
            losses = []
            for model, rng in zip(models, sources, strict=True):
                x, y = images(rng, 8)
                model.zero_grad()
                losses.append(functional.cross_entropy(model(x), y))
                torch.autograd.backward(losses[-1])
            for same in zip(*(m.parameters() for m in models), strict=True):
                grads = [p.grad for p in same if p.grad is not None]
                mean = torch.stack([share(step, r) * g for r, g in enumerate(grads)]).sum(0)
                for grad in grads:
                    grad.copy_(mean)
            for rank, watch in enumerate(watches):
                if not skips(step, rank):
                    optimizers[rank].step()
                watch.log(weight_checksum=_checksum(models[rank]))
                watch.step(losses[rank])
            yield float(torch.stack(losses).detach().mean())
    finally:
        for watch in watches:
            watch.close()


@healthy("three-ranks-own-norms", arch="CNN with BatchNorm, three ranks", optimizer="SGD momentum")
def own_norms(stage: Stage) -> Iterator[float]:
    """Each rank's batch norm sees its own images: activations differ from rank to rank, weights do
    not, to the bit."""
    return _train(stage, num_steps=240, norm=True)


@faulty(
    "three-ranks-one-skips",
    Fault(kind="replica_divergence", at=130, pace="fast", severity="warning",
          layers=("rank2/convs.0", "rank2/convs.1", "rank2/convs.2", "rank2/head"),
          accept=("weight_corruption",),
          onset=ScalarsDiffer(first="weight_checksum_rank0", second="weight_checksum_rank2")),
    arch="CNN, three ranks", optimizer="SGD momentum",
)  # fmt: skip
def one_skips(stage: Stage) -> Iterator[float]:
    """A loss scaler on one rank alone finds an overflow at step 130 and skips the update that both
    others make: from then on there are two networks, close to each other."""
    return _train(
        stage, num_steps=220,
        skips=lambda step, rank: stage.sick and step == 130 and rank == 2,
    )  # fmt: skip


@faulty(
    "three-ranks-sum-for-mean",
    Fault(kind="update_too_large", at=110, pace="fast",
          layers=tuple(f"rank{r}/{layer}" for r in range(_RANKS) for layer in ("convs.0", "head")),
          accept=("loss_spike", "gradient_spike", "explosion"),
          shows=LeavesTwin(series="gradient:rank0/head.weight", factor=5, num=1)),
    arch="CNN, three ranks", optimizer="SGD momentum",
)  # fmt: skip
def sum_for_mean(stage: Stage) -> Iterator[float]:
    """A new communication library sums eight buckets where the old one averaged three: from step
    110 on every gradient is twenty-four times as large, and no replica differs."""
    return _train(
        stage, num_steps=200,
        share=lambda step, rank: 8.0 if stage.sick and step >= 110 else 1 / _RANKS,
    )  # fmt: skip
