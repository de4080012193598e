"""Small networks under rare optimizers and schedules, with faults of the loop and its state."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import nn
from torch.nn import functional

from benchmarks.zoo.data import Clusters, curve, images
from benchmarks.zoo.faults import Fault
from benchmarks.zoo.meddling import flip_bit, groups, scale_gradient
from benchmarks.zoo.models.conv import CNN
from benchmarks.zoo.models.mlp import MLP
from benchmarks.zoo.optimizers import SignMomentum
from benchmarks.zoo.registry import faulty
from benchmarks.zoo.rules import LeavesTwin
from benchmarks.zoo.scenarios.regimes_healthy import classes
from benchmarks.zoo.stage import Stage
from benchmarks.zoo.training import LossOf, fit


@faulty(
    "signs-on-one-layer-turned",
    Fault(kind="divergence", at=150, layers=("layers.1",),
          accept=("explosion", "update_too_large", "weight_corruption", "loss_spike"),
          onset=LeavesTwin(series="loss", factor=2, num=4)),
    arch="MLP, SELU", optimizer="sign momentum",
)  # fmt: skip
def one_layer_turned(stage: Stage) -> Iterator[float]:
    """A gradient reversal that belongs to a domain head acts on a whole layer from step 150 on: it
    climbs while the others descend."""
    model = MLP((16, 40, 40, 8), activation=nn.SELU)
    optimizer = SignMomentum(model.parameters(), 1e-3)

    def turn(step: int) -> None:
        if stage.sick and step >= 150:
            scale_gradient(model, "layers.1", -1.0)

    loss_of = classes(stage, model)
    return fit(stage, model, optimizer, loss_of, num_steps=320, with_gradients=turn)


@faulty(
    "multiplier-applied-twice",
    Fault(kind="update_too_large", at=140, pace="fast", layers=("layers.0",),
          severity="warning", accept=("weight_corruption",),
          shows=LeavesTwin(series="update:layers.0.weight", factor=3)),
    arch="MLP, 4 layers", optimizer="SGD momentum, two groups",
)  # fmt: skip
def multiplier_twice(stage: Stage) -> Iterator[float]:
    """A layer's multiplier of the rate, 8, is applied by the schedule and by the group since a
    restart at step 140: its updates are eight times those of before."""
    model = MLP((16, 48, 48, 48, 8))
    optimizer = torch.optim.SGD(groups(model, "layers.0", 0.02), momentum=0.9)

    def restart(step: int) -> None:
        if stage.sick and step == 140:
            optimizer.param_groups[1]["lr"] = 0.16

    loss_of = classes(stage, model)
    return fit(stage, model, optimizer, loss_of, num_steps=280, before=restart)


@faulty(
    "decay-applied-twice",
    Fault(kind="vanishing_gradient", at=95, layers=("convs.1", "convs.2"), severity="warning",
          accept=("representation_collapse", "update_too_small", "divergence",
                  "weight_corruption", "update_too_large"),
          onset=LeavesTwin(series="weight:convs.1.weight", factor=3)),
    arch="CNN with BatchNorm", optimizer="AdamW",
)  # fmt: skip
def decay_twice(stage: Stage) -> Iterator[float]:
    """A decay of 0.1 is taken for one that is not yet multiplied by the rate, and applied once more
    as 5 % a step from step 95 on: filters fade in front of norms that make up for it."""
    model = CNN()
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.1)
    rng = stage.generator()

    def decay(step: int) -> None:
        if stage.sick and step >= 95:
            with torch.no_grad():
                for i in (1, 2):
                    model.get_parameter(f"convs.{i}.weight").mul_(0.95)

    def loss_of(step: int) -> torch.Tensor:
        x, y = images(rng)
        return functional.cross_entropy(model(x), y)

    return fit(stage, model, optimizer, loss_of, num_steps=290, before=decay)


@faulty(
    "moment-bit-flipped",
    Fault(kind="weight_corruption", at=200, pace="fast", layers=("layers.2",),
          accept=("loss_spike", "gradient_spike"), severity="warning",
          shows=LeavesTwin(series="update:layers.2.weight", factor=20, num=1)),
    arch="MLP regression", optimizer="Adam",
)  # fmt: skip
def moment_bit(stage: Stage) -> Iterator[float]:
    """A bit flips in Adam's first moment of one weight before step 200 and makes it 256 times as
    large: the weight runs off with it until the moment has faded."""
    model = MLP((8, 48, 48, 48, 1), activation=nn.Tanh)
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    rng = stage.generator()

    def ray(step: int) -> None:
        if stage.sick and step == 200:
            weight = model.get_parameter("layers.2.weight")
            moment = optimizer.state[weight]["exp_avg"]
            moment.view(-1)[77] = 0.007 * torch.sign(moment.view(-1)[77])
            flip_bit(moment, 77, bit=26)

    def loss_of(step: int) -> torch.Tensor:
        x, y = curve(rng)
        return functional.mse_loss(model(x), y)

    return fit(stage, model, optimizer, loss_of, num_steps=300, before=ray)


def _two_tasks(stage: Stage, model: MLP, *, free_from: int = 10**9) -> LossOf:
    """Two tasks with learned weights, bounded until `free_from`."""
    rng = stage.generator()

    def loss_of(step: int) -> torch.Tensor:
        x, y = curve(rng, 48, noise=0.0)
        out = model(x)
        spreads = out[:, 2:].mean(dim=0)
        if step < free_from:
            spreads = 2 * torch.tanh(spreads / 2)
        else:
            y = torch.zeros_like(y)
        missed = torch.stack(
            [functional.mse_loss(out[:, :1], y), functional.mse_loss(out[:, 1:2], -y)]
        )
        loss: torch.Tensor = ((-spreads).exp() * missed + spreads).sum()
        return loss

    return loss_of


@faulty(
    "two-losses-without-bound",
    Fault(kind="explosion", at=120, layers=("layers.2",),
          accept=("gradient_spike", "divergence", "output_logit_drift", "update_too_large"),
          onset=LeavesTwin(series="grad_norm", factor=8, num=4)),
    arch="MLP, two heads", optimizer="Adam", quick=True,
)  # fmt: skip
def losses_without_bound(stage: Stage) -> Iterator[float]:
    """The targets of both tasks are a column of noughts from step 120 on, and the bound on the
    learned variances is gone: the loss falls for ever, and the weight of nothing grows without
    end, and every gradient with it, behind a clipping that hides them."""
    model = MLP((8, 48, 48, 4))
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    loss_of = _two_tasks(stage, model, free_from=120 if stage.sick else 10**9)
    return fit(stage, model, optimizer, loss_of, num_steps=320, clip=10.0)


@faulty(
    "rate-of-samples-not-batches",
    Fault(kind="update_too_small", at=130, pace="fast", severity="warning",
          layers=("layers.0", "layers.1", "layers.2"), accept=("plateau",)),
    arch="MLP, Hardswish", optimizer="ASGD",
)  # fmt: skip
def rate_of_samples(stage: Stage) -> Iterator[float]:
    """A scheduler divides the rate by the batch's size once more from step 130 on, by 256: training
    stands still halfway down."""
    model = MLP((16, 48, 48, 8), activation=nn.Hardswish)
    optimizer = torch.optim.ASGD(model.parameters(), lr=0.3)
    loss_of = classes(stage, model)

    def rate(step: int) -> float:
        return 0.3 / 256 if stage.sick and step >= 130 else 0.3

    return fit(stage, model, optimizer, loss_of, num_steps=320, rate=rate)


@faulty(
    "loss-summed-after-resume",
    Fault(kind="update_too_large", at=175, pace="fast", layers=("layers.0", "layers.1", "layers.2"),
          accept=("explosion", "divergence", "loss_spike", "gradient_spike")),
    arch="MLP, ELU", optimizer="SGD",
)  # fmt: skip
def summed_after_resume(stage: Stage) -> Iterator[float]:
    """A resume at step 175 picks up a loss that is summed over the batch of 32 instead of averaged:
    loss and gradients are 32 times as large, with the rate as it was."""
    model = MLP((16, 48, 48, 8), activation=nn.ELU)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    loss_of = classes(stage, model)
    factor = 32.0 if stage.sick else 1.0
    yield from fit(stage, model, optimizer, loss_of, num_steps=175)
    yield from fit(
        stage, model, optimizer, lambda step: factor * loss_of(step), num_steps=300, first_step=175
    )


@faulty(
    "classes-vanish-from-data",
    Fault(kind="bad_batch", at=160, severity="warning",
          accept=("representation_collapse", "plateau", "divergence", "vanishing_gradient"),
          onset=LeavesTwin(series="loss", factor=20, num=5)),
    arch="MLP, PReLU", optimizer="AdamW",
)  # fmt: skip
def classes_vanish(stage: Stage) -> Iterator[float]:
    """A filter keeps one class alone from step 160 on: the loss goes to nought at once, and so does
    everything that was learned of the others."""
    model = MLP((16, 48, 48, 8), activation=nn.PReLU)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    data = Clusters.make(stage.generator())

    def loss_of(step: int) -> torch.Tensor:
        x, y = data.batch()
        if stage.sick and step >= 160:
            x, y = data.batch(512)
            x, y = x[y == 2][:32], y[y == 2][:32]
        return functional.cross_entropy(model(x), y)

    return fit(stage, model, optimizer, loss_of, num_steps=290)
