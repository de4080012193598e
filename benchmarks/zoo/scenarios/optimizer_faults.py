"""Optimizers with a wrong setting, a stale state, or a healthy habit that looks wrong."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import nn
from torch.nn import functional

from benchmarks.zoo.data import Clusters, curve, text_batches
from benchmarks.zoo.faults import Fault
from benchmarks.zoo.models.mlp import MLP
from benchmarks.zoo.models.recurrent import Recurrent
from benchmarks.zoo.optimizers import Lion
from benchmarks.zoo.registry import faulty, healthy
from benchmarks.zoo.rules import LeavesTwin
from benchmarks.zoo.schedules import cyclic
from benchmarks.zoo.stage import Stage
from benchmarks.zoo.training import LossOf, fit


def _classify(stage: Stage, model: nn.Module) -> LossOf:
    data = Clusters.make(stage.generator())

    def loss_of(step: int) -> torch.Tensor:
        x, y = data.batch()
        return functional.cross_entropy(model(x), y)

    return loss_of


@healthy("lion-signs", arch="MLP", optimizer="Lion")
def lion_signs(stage: Stage) -> Iterator[float]:
    """Every weight moves by exactly the learning rate on every step, near a minimum too."""
    model = MLP(activation=nn.GELU)
    optimizer = Lion(model.parameters(), lr=3e-4)
    return fit(stage, model, optimizer, _classify(stage, model), num_steps=400)


@healthy("adadelta-cyclic", arch="MLP", optimizer="Adadelta")
def adadelta_cyclic(stage: Stage) -> Iterator[float]:
    """A learning rate that goes up and down tenfold in a triangle."""
    model = MLP()
    optimizer = torch.optim.Adadelta(model.parameters(), lr=1.0)
    rate = cyclic(0.2, 2.0, period=80)
    return fit(stage, model, optimizer, _classify(stage, model), num_steps=400, rate=rate)


@healthy("checkpoints-and-pauses", arch="GRU", optimizer="AdamW")
def checkpoints(stage: Stage) -> Iterator[float]:
    """A training that tells its checkpoints and evaluates in between, with clipping and decay."""
    model = Recurrent("gru")
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.1)
    draw = text_batches(stage.generator())
    with stage.watch(model, optimizer) as watch:
        for step in range(330):
            x, y = draw()
            loss = functional.cross_entropy(model(x).flatten(0, 1), y.flatten())
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            watch.grads_ready()
            nn.utils.clip_grad_norm_(model.parameters(), 0.5)
            optimizer.step()
            watch.step(loss)
            if step % 60 == 59:
                watch.checkpoint(f"step-{step}.pt")
                model.eval()
                with torch.no_grad():
                    model(x)
                model.train()
            yield float(loss.detach())


@faulty(
    "lion-rate-of-sgd",
    Fault(kind="update_too_large", accept=("plateau", "saturation", "dead_units"),
          onset=LeavesTwin(series="update:layers.1.weight", factor=20)),
    arch="MLP", optimizer="Lion",
)  # fmt: skip
def lion_rate_of_sgd(stage: Stage) -> Iterator[float]:
    """Lion with a learning rate of 0.05, as it was right for SGD: all weights jump by it on each
    step, and the loss jumps with them."""
    model = MLP()
    optimizer = Lion(model.parameters(), lr=0.05 if stage.sick else 5e-4)
    return fit(stage, model, optimizer, _classify(stage, model), num_steps=300)


@faulty(
    "adam-beta2-half",
    Fault(kind="update_too_large", at=130, pace="slow", severity="warning",
          accept=("loss_spike", "gradient_spike", "divergence"),
          onset=LeavesTwin(series="update:layers.1.weight", factor=2, num=3)),
    arch="MLP", optimizer="Adam beta2=0.5",
)  # fmt: skip
def beta2_half(stage: Stage) -> Iterator[float]:
    """A typing error makes beta2 0.5 from step 130 on: the second moment forgets at once, and
    updates no longer shrink with what is left to learn."""
    model = MLP()
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)

    def mistype(step: int) -> None:
        if stage.sick and step == 130:
            for group in optimizer.param_groups:
                group["betas"] = (0.9, 0.5)

    return fit(stage, model, optimizer, _classify(stage, model), num_steps=380, before=mistype)


@faulty(
    "adam-stale-second-moment",
    Fault(kind="update_too_small", at=150, severity="critical", accept=("plateau",),
          onset=LeavesTwin(series="update:layers.1.weight", factor=5)),
    arch="MLP regression", optimizer="Adam",
)  # fmt: skip
def stale_second_moment(stage: Stage) -> Iterator[float]:
    """The loss had been scaled by a thousand and is not from step 150 on: Adam's second moments are
    a million times too large and take thousands of steps to forget it."""
    model = MLP((8, 48, 48, 1), activation=nn.GELU)
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    rng = stage.generator()

    def loss_of(step: int) -> torch.Tensor:
        x, y = curve(rng)
        return functional.mse_loss(model(x), y)

    def inflate(step: int) -> None:
        # The same as a scaled loss, of which Adam's first moments and updates know nothing.
        if stage.sick and step == 150:
            for state in optimizer.state.values():
                state["exp_avg_sq"].mul_(1e6)

    return fit(stage, model, optimizer, loss_of, num_steps=380, before=inflate)


@faulty(
    "rmsprop-state-lost",
    Fault(kind="update_too_large", at=190, pace="fast", accept=("bad_batch",),
          severity="warning",
          shows=LeavesTwin(series="update:layers.1.weight", factor=3, num=1)),
    arch="MLP", optimizer="RMSprop",
)  # fmt: skip
def rmsprop_state_lost(stage: Stage) -> Iterator[float]:
    """The averages of squares are lost at a resume at step 190: the first update is ten times as
    large as it should be in every weight."""
    model = MLP(activation=nn.Tanh)
    optimizer = torch.optim.RMSprop(model.parameters(), lr=2e-3)

    def lose(step: int) -> None:
        if stage.sick and step == 190:
            for state in optimizer.state.values():
                state["square_avg"].zero_()

    return fit(stage, model, optimizer, _classify(stage, model), num_steps=340, before=lose)


@faulty(
    "sgd-decay-of-another-unit",
    Fault(kind="vanishing_gradient", at=140, layers=("layers.0", "layers.1"),
          accept=("representation_collapse", "plateau", "update_too_small", "dead_units"),
          onset=LeavesTwin(series="weight:layers.1.weight", factor=2)),
    arch="MLP", optimizer="SGD with decay",
)  # fmt: skip
def decay_of_another_unit(stage: Stage) -> Iterator[float]:
    """The weight decay of the first two layers is 0.5 instead of 0.0005 from step 140 on; they
    fade, and the gradients between them with them."""
    model = MLP((16, 48, 48, 8))
    optimizer = torch.optim.SGD(
        [{"params": model.layers[:2].parameters()}, {"params": model.layers[2].parameters()}],
        lr=0.05, momentum=0.9,
    )  # fmt: skip

    def strengthen(step: int) -> None:
        if stage.sick and step == 140:
            optimizer.param_groups[0]["weight_decay"] = 0.5

    return fit(stage, model, optimizer, _classify(stage, model), num_steps=360, before=strengthen)


@faulty(
    "rate-of-one-group-lost",
    Fault(kind="update_too_small", at=120, layers=("layers.0",), severity="warning",
          accept=("vanishing_gradient",), pace="slow",
          onset=LeavesTwin(series="update:layers.0.weight", factor=100)),
    arch="MLP", optimizer="AdamW, two groups",
)  # fmt: skip
def group_rate_lost(stage: Stage) -> Iterator[float]:
    """A scheduler knows only one of two groups, and the other's rate decays by 10 % a step from
    step 120 on: the first layer stops, and the layers above learn to live with it."""
    model = MLP((16, 64, 64, 8))
    optimizer = torch.optim.AdamW(
        [{"params": model.layers[1:].parameters()}, {"params": model.layers[0].parameters()}],
        lr=1e-3,
    )

    def decay(step: int) -> None:
        if stage.sick and step >= 120:
            optimizer.param_groups[1]["lr"] *= 0.9

    return fit(stage, model, optimizer, _classify(stage, model), num_steps=380, before=decay)
