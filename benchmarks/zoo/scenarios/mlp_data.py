"""Faults in the data of multi-layer perceptrons: labels, order, units, values that are none."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import nn
from torch.nn import functional

from benchmarks.zoo.data import Clusters, curve
from benchmarks.zoo.faults import Fault
from benchmarks.zoo.models.mlp import MLP
from benchmarks.zoo.registry import faulty
from benchmarks.zoo.rules import LeavesTwin, NoProgress, NotFinite
from benchmarks.zoo.schedules import step_decay
from benchmarks.zoo.stage import Stage
from benchmarks.zoo.training import fit


@faulty(
    "mlp-labels-shuffled",
    Fault(kind="bad_batch", at=220, pace="fast", accept=("divergence",)),
    arch="MLP", optimizer="AdamW", quick=True,
)  # fmt: skip
def labels_shuffled(stage: Stage) -> Iterator[float]:
    """A loader is restarted with another order of its label file: from step 220 on labels and
    inputs do not belong together."""
    model = MLP()
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    data = Clusters.make(stage.generator())

    def loss_of(step: int) -> torch.Tensor:
        x, y = data.batch()
        return functional.cross_entropy(model(x), y.roll(1) if stage.sick and step >= 220 else y)

    return fit(stage, model, optimizer, loss_of, num_steps=400)


@faulty(
    "mlp-labels-rot",
    Fault(kind="divergence", at=150, severity="critical", accept=("plateau", "bad_batch"),
          onset=LeavesTwin(series="gradient:layers.3.weight", statistic="std", factor=2, num=5)),
    arch="MLP", optimizer="Adam",
)  # fmt: skip
def labels_rot(stage: Stage) -> Iterator[float]:
    """The share of wrong labels grows by 0.2 points a step from step 150: the loss turns up slowly,
    with healthy-looking gradients."""
    model = MLP((16, 64, 64, 64, 8))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    data, rng = Clusters.make(stage.generator(), noise=0.4), stage.generator(1)

    def loss_of(step: int) -> torch.Tensor:
        x, y = data.batch(64)
        share = 0.002 * max(0, step - 150) if stage.sick else 0.0
        wrong = torch.rand(len(y), generator=rng) < share
        return functional.cross_entropy(model(x), torch.where(wrong, (y + 1) % 8, y))

    return fit(stage, model, optimizer, loss_of, num_steps=500)


@faulty(
    "mlp-data-sorted",
    Fault(kind="divergence", at=200, accept=("loss_spike", "bad_batch", "gradient_spike"),
          severity="critical", pace="fast"),
    arch="MLP", optimizer="SGD momentum",
)  # fmt: skip
def data_sorted(stage: Stage) -> Iterator[float]:
    """Shuffling is lost at an epoch's end: from step 200 on the classes come one after another, 12
    batches each, and each is forgotten for the next."""
    model = MLP()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    data = Clusters.make(stage.generator())

    def loss_of(step: int) -> torch.Tensor:
        x, y = data.batch(256)
        if stage.sick and step >= 200:
            chosen = y == (step // 12) % 8
            x, y = x[chosen][:32], y[chosen][:32]
        return functional.cross_entropy(model(x[:32]), y[:32])

    return fit(stage, model, optimizer, loss_of, num_steps=420)


@faulty(
    "mlp-bad-batch",
    Fault(kind="bad_batch", at=240, pace="fast", severity="warning", lasting=False,
          accept=("update_too_large",)),
    arch="MLP regression", optimizer="AdamW",
)  # fmt: skip
def bad_batch(stage: Stage) -> Iterator[float]:
    """One batch of a broken file: inputs of a hundred times the scale, targets of another unit."""
    model = MLP((8, 48, 48, 1), activation=nn.GELU)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    rng = stage.generator()

    def loss_of(step: int) -> torch.Tensor:
        x, y = curve(rng)
        if stage.sick and step == 240:
            x, y = 100 * x, 50 + y
        return functional.mse_loss(model(x), y)

    return fit(stage, model, optimizer, loss_of, num_steps=420, clip=1.0)


@faulty(
    "mlp-nan-in-data",
    Fault(kind="non_finite", at=210, pace="fast", shows=NotFinite()),
    arch="MLP regression", optimizer="Adam", quick=True,
)  # fmt: skip
def nan_in_data(stage: Stage) -> Iterator[float]:
    """One missing value reaches the network as NaN at step 210; one step later every weight is."""
    model = MLP((8, 48, 48, 1), activation=nn.Tanh)
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    rng = stage.generator()

    def loss_of(step: int) -> torch.Tensor:
        x, y = curve(rng)
        if stage.sick and step == 210:
            x[3, 2] = float("nan")
        return functional.mse_loss(model(x), y)

    return fit(stage, model, optimizer, loss_of, num_steps=300)


@faulty(
    "mlp-nan-skipped",
    Fault(kind="non_finite", at=180, pace="fast", severity="warning", lasting=False,
          shows=NotFinite()),
    arch="MLP regression", optimizer="SGD",
)  # fmt: skip
def nan_skipped(stage: Stage) -> Iterator[float]:
    """One batch holds an infinite value; the loop replaces the broken gradients by nought, so that
    training goes on."""
    model = MLP((8, 48, 48, 1), activation=nn.GELU)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    rng = stage.generator()

    def loss_of(step: int) -> torch.Tensor:
        x, y = curve(rng)
        if stage.sick and step == 180:
            x[0, 0] = float("inf")
        return functional.mse_loss(model(x), y)

    with stage.watch(model, optimizer) as watch:
        for step in range(360):
            optimizer.zero_grad()
            loss = loss_of(step)
            torch.autograd.backward(loss)
            watch.grads_ready()
            for parameter in model.parameters():
                if parameter.grad is not None:
                    parameter.grad.nan_to_num_(0.0, 0.0, 0.0)
            optimizer.step()
            watch.step(loss)
            yield float(loss.detach())


@faulty(
    "mlp-features-unscaled",
    Fault(kind="saturation", at=180, layers=("layers.0", "acts.0"), accept=("bad_batch",),
          severity="critical", pace="fast"),
    arch="MLP tanh on a table", optimizer="AdamW",
)  # fmt: skip
def features_unscaled(stage: Stage) -> Iterator[float]:
    """A change of the preprocessing leaves half of the features unscaled from step 180 on: thirty
    times as large, they drive the first tanh layer to its limits."""
    model = MLP((16, 48, 48, 8), activation=nn.Tanh)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    data = Clusters.make(stage.generator())

    def loss_of(step: int) -> torch.Tensor:
        x, y = data.batch()
        if stage.sick and step >= 180:
            x = torch.cat([x[:, :8], 30 * x[:, 8:]], dim=1)
        return functional.cross_entropy(model(x), y)

    return fit(stage, model, optimizer, loss_of, num_steps=400)


@faulty(
    "mlp-labels-of-another-batch",
    Fault(kind="plateau", at=0, onset=NoProgress(level=1.9, after=100), severity="critical",
          accept=("vanishing_gradient",)),
    arch="MLP", optimizer="SGD",
)  # fmt: skip
def labels_of_another_batch(stage: Stage) -> Iterator[float]:
    """The labels belong to the batch before: there is nothing to learn from the start, with
    gradients and updates of the usual size."""
    model = MLP()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    data = Clusters.make(stage.generator())

    def loss_of(step: int) -> torch.Tensor:
        x, y = data.batch()
        return functional.cross_entropy(model(x), y.roll(1) if stage.sick else y)

    rate = step_decay(0.05, (300,))
    return fit(stage, model, optimizer, loss_of, num_steps=400, rate=rate)
