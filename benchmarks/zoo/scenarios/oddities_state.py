"""Faults of kinds that other families have few of, where weights, ranks and precision are at
fault."""

from __future__ import annotations

import copy
from collections.abc import Iterator

import torch
from torch import nn
from torch.nn import functional

from benchmarks.zoo.data import curve, images, text_batches
from benchmarks.zoo.faults import Fault
from benchmarks.zoo.meddling import scale_gradient
from benchmarks.zoo.models.mlp import MLP
from benchmarks.zoo.models.recurrent import Recurrent
from benchmarks.zoo.models.transformer import ViT
from benchmarks.zoo.registry import faulty
from benchmarks.zoo.rules import Crosses, LeavesTwin, NoProgress, ScalarsDiffer
from benchmarks.zoo.scenarios.precision import half
from benchmarks.zoo.scenarios.regimes_healthy import classes
from benchmarks.zoo.stage import Stage
from benchmarks.zoo.training import fit, log_z


@faulty(
    "average-never-taken-out",
    Fault(kind="loss_spike", at=184, pace="fast", layers=("layers.0", "layers.1", "layers.2"),
          accept=("weight_corruption", "divergence")),
    arch="MLP, GELU", optimizer="RAdam, averaged weights",
)  # fmt: skip
def never_taken_out(stage: Stage) -> Iterator[float]:
    """Before step 184 the average of the weights is put in place for an evaluation and not taken
    out again; with a memory of two thousand steps it is little better than the first weights."""
    model = MLP((16, 48, 48, 8), activation=nn.GELU)
    average = copy.deepcopy(model)
    optimizer = torch.optim.RAdam(model.parameters(), lr=3e-3)

    @torch.no_grad()
    def follow(step: int) -> None:
        for mean, now in zip(average.parameters(), model.parameters(), strict=True):
            mean.lerp_(now, 5e-4)

    def evaluate(step: int) -> None:
        if stage.sick and step == 184:
            model.load_state_dict(average.state_dict())

    loss_of = classes(stage, model)
    return fit(stage, model, optimizer, loss_of, num_steps=290, before=evaluate, after=follow)


@faulty(
    "all-weights-alike",
    Fault(kind="plateau", onset=NoProgress(level=1.5, after=120),
          layers=("layers.0", "layers.1", "layers.2"),
          accept=("vanishing_gradient", "representation_collapse", "dead_units",
                  "update_too_small")),
    arch="MLP tanh", optimizer="NAdam", quick=True,
)  # fmt: skip
def all_weights_alike(stage: Stage) -> Iterator[float]:
    """An initialiser that was written for norms makes all weights of a layer 0.02: every unit is
    the same unit, gets the same gradient, and stays the same."""
    model = MLP((16, 48, 48, 8), activation=nn.Tanh)
    if stage.sick:
        for layer in model.layers:
            nn.init.constant_(layer.get_parameter("weight"), 0.02)
            nn.init.zeros_(layer.get_parameter("bias"))
    optimizer = torch.optim.NAdam(model.parameters(), lr=2e-3)
    return fit(stage, model, optimizer, classes(stage, model), num_steps=260)


@faulty(
    "vit-bias-level-rises",
    Fault(kind="output_logit_drift", at=105, layers=("head",), severity="warning",
          accept=("explosion", "weight_corruption"),
          onset=Crosses(series="log_z", above=8.0, num=5, since=105)),
    arch="ViT", optimizer="Adagrad",
)  # fmt: skip
def bias_level_rises(stage: Stage) -> Iterator[float]:
    """A correction for class frequencies is added to the head's biases on each step instead of once
    from step 105 on: all logits rise by 0.1 a step, which no loss can feel before float16 does."""
    model = ViT(layers=2)
    optimizer = torch.optim.Adagrad(model.parameters(), lr=0.02)
    rng = stage.generator()
    logged: dict[str, torch.Tensor] = {}

    def correct(step: int) -> None:
        if stage.sick and step >= 105:
            with torch.no_grad():
                model.head.bias.add_(0.1)

    def loss_of(step: int) -> torch.Tensor:
        x, y = images(rng)
        scores = model(x)
        logged["log_z"] = log_z(scores)
        return functional.cross_entropy(scores, y)

    return fit(
        stage, model, optimizer, loss_of, num_steps=290, after=correct, log=lambda: logged
    )  # fmt: skip


@faulty(
    "pruned-to-the-bone",
    Fault(kind="representation_collapse", at=115, layers=("layers.1",),
          accept=("vanishing_gradient", "divergence", "weight_corruption"),
          onset=LeavesTwin(series="weight:layers.1.weight", factor=1.5)),
    arch="MLP", optimizer="Adam with shrinkage",
)  # fmt: skip
def to_the_bone(stage: Stage) -> Iterator[float]:
    """The threshold of a layer's pruning is in per cent from step 115 on: forty times as high, it
    takes every weight to nought within some twenty steps, and what leaves the layer is its biases,
    whatever came in."""
    model = MLP((16, 64, 64, 8))
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)

    @torch.no_grad()
    def shrink(step: int) -> None:
        for i, layer in enumerate(model.layers):
            weight = layer.get_parameter("weight")
            far = 1.6e-2 if stage.sick and step >= 115 and i == 1 else 4e-4
            weight.copy_(weight.sign() * (weight.abs() - far).clamp(min=0))

    return fit(stage, model, optimizer, classes(stage, model), num_steps=290, after=shrink)


class HalfGelu(nn.Module):
    """A GELU that hands on half precision."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Same shape as `x`."""
        return half(functional.gelu(half(x)))


@faulty(
    "half-small-targets",
    Fault(kind="precision_underflow", layers=("layers.0", "layers.1", "layers.2"),
          accept=("vanishing_gradient", "plateau", "update_too_small"),
          onset=Crosses(series="activation_grad:layers.0", statistic="zero_frac", above=0.6,
                        num=4)),
    arch="MLP in float16", optimizer="RMSprop",
)  # fmt: skip
def small_targets(stage: Stage) -> Iterator[float]:
    """Targets in units of 0.00001, a small weight of the loss and no scaling: errors are soon so
    small that most gradients are below what float16 holds. The twin is trained in float32."""
    model = MLP((8, 40, 40, 40, 1), activation=HalfGelu if stage.sick else nn.GELU)
    optimizer = torch.optim.RMSprop(model.parameters(), lr=2e-4, eps=1e-16)
    rng = stage.generator()

    def loss_of(step: int) -> torch.Tensor:
        x, y = curve(rng, 64)
        return 3e-3 * functional.mse_loss(model(x), 1e-5 * y)

    return fit(stage, model, optimizer, loss_of, num_steps=320)


@faulty(
    "gru-one-step-of-noise",
    Fault(kind="gradient_spike", at=207, pace="fast", severity="warning", lasting=False,
          layers=("tok",), accept=("update_too_large", "loss_spike")),
    arch="GRU", optimizer="SGD Nesterov",
)  # fmt: skip
def one_step_of_noise(stage: Stage) -> Iterator[float]:
    """A buffer that was not cleared adds an old sum to the gradient of the embedding on step 207:
    five hundred times as large; clipping by the whole norm starves the other layers of that
    step."""
    model = Recurrent("gru", width=32)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5, momentum=0.9, nesterov=True)
    draw = text_batches(stage.generator(), context=16)

    def spill(step: int) -> None:
        if stage.sick and step == 207:
            scale_gradient(model, "tok", 500.0)

    def loss_of(step: int) -> torch.Tensor:
        x, y = draw()
        return functional.cross_entropy(model(x).flatten(0, 1), y.flatten())

    return fit(
        stage, model, optimizer, loss_of, num_steps=310, with_gradients=spill, clip=1.0
    )  # fmt: skip


def _two_ranks(stage: Stage, *, num_steps: int, other_rate: float, since: int) -> Iterator[float]:
    """Two replicas of a GRU; from `since` on the second one's rate is `other_rate`."""
    models = [Recurrent("gru", width=24)]
    models.append(copy.deepcopy(models[0]))
    optimizers = [torch.optim.Adam(m.parameters(), lr=3e-3) for m in models]
    draws = [text_batches(stage.generator(rank), num=6, context=14) for rank in range(2)]
    watches = [
        stage.watch(m, o, rank=r, world=2)
        for r, (m, o) in enumerate(zip(models, optimizers, strict=True))
    ]
    try:
        for step in range(num_steps):
            if stage.sick and step == since:
                optimizers[1].param_groups[0]["lr"] = other_rate
            losses = []
            for model, draw in zip(models, draws, strict=True):
                x, y = draw()
                model.zero_grad()
                losses.append(functional.cross_entropy(model(x).flatten(0, 1), y.flatten()))
                torch.autograd.backward(losses[-1])
            for a, b in zip(models[0].parameters(), models[1].parameters(), strict=True):
                assert a.grad is not None
                assert b.grad is not None
                mean = (a.grad + b.grad) / 2
                a.grad.copy_(mean)
                b.grad.copy_(mean)
            for rank, watch in enumerate(watches):
                optimizers[rank].step()
                total = sum(p.detach().double().sum() for p in models[rank].parameters())
                watch.log(weight_checksum=float(total))
                watch.step(losses[rank])
            yield float(torch.stack(losses).detach().mean())
    finally:
        for watch in watches:
            watch.close()


@faulty(
    "ranks-of-two-rates",
    Fault(kind="replica_divergence", at=125, pace="fast",
          layers=("rank1/tok", "rank1/rnn", "rank1/head"), accept=("update_too_large",),
          onset=ScalarsDiffer(first="weight_checksum_rank0", second="weight_checksum_rank1")),
    arch="GRU, two ranks", optimizer="Adam",
)  # fmt: skip
def two_rates(stage: Stage) -> Iterator[float]:
    """One machine reads an older configuration at a restart at step 125 and goes on with another
    learning rate: the same gradients, two networks."""
    return _two_ranks(stage, num_steps=230, other_rate=1.5e-3, since=125)


@faulty(
    "flat-temperature",
    Fault(kind="plateau", onset=NoProgress(level=2.9, after=110),
          accept=("vanishing_gradient", "update_too_small")),
    arch="MLP, supervised contrast", optimizer="SGD momentum",
)  # fmt: skip
def flat_temperature(stage: Stage) -> Iterator[float]:
    """The temperature of a contrastive loss is given as 15 where it is meant to be 0.15: all
    similarities are alike, and the loss stays near the logarithm of the batch's size."""
    model = MLP((8, 48, 16))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    rng = stage.generator()

    def loss_of(step: int) -> torch.Tensor:
        x = torch.randn(24, 8, generator=rng)
        a, b = (x + 0.2 * torch.randn(x.shape, generator=rng) for _ in range(2))
        left, right = (functional.normalize(model(v), dim=-1) for v in (a, b))
        return functional.cross_entropy(
            left @ right.T / (15.0 if stage.sick else 0.15), torch.arange(24)
        )

    return fit(stage, model, optimizer, loss_of, num_steps=240)
