"""Faults of multi-layer perceptrons: activations, initial values, optimizers."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import nn
from torch.nn import functional

from benchmarks.zoo.data import Clusters, curve
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
    "mlp-relu-dying",
    Fault(kind="dead_units", at=120, severity="warning", layers=("layers.1", "acts.1"),
          onset=Crosses(series="activation:acts.1", statistic="zero_frac", above=0.85)),
    arch="MLP", optimizer="SGD momentum", quick=True,
)  # fmt: skip
def relu_dying(stage: Stage) -> Iterator[float]:
    """A faulty regulariser pulls the biases of the second layer down by 0.03 a step from step 120
    until its units are dead; the loss moves late."""
    model = MLP((16, 64, 64, 64, 8))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9)

    def pull(step: int) -> None:
        if stage.sick and step >= 120:
            with torch.no_grad():
                model.get_parameter("layers.1.bias").sub_(0.03)

    loss_of = _classify(stage, model)
    return fit(stage, model, optimizer, loss_of, num_steps=500, after=pull)


@faulty(
    "mlp-relu-born-dead",
    Fault(kind="dead_units", layers=("layers.2", "acts.2"), accept=("plateau",),
          onset=Crosses(series="activation:acts.2", statistic="zero_frac", above=0.98, num=3)),
    arch="MLP", optimizer="Adam",
)  # fmt: skip
def relu_born_dead(stage: Stage) -> Iterator[float]:
    """The biases of the third layer are initialised to -10: no unit of it is ever active."""
    model = MLP()
    if stage.sick:
        nn.init.constant_(model.get_parameter("layers.2.bias"), -10.0)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    return fit(stage, model, optimizer, _classify(stage, model), num_steps=350)


@faulty(
    "mlp-tanh-saturated",
    Fault(kind="saturation", layers=("layers.0", "acts.0"), severity="warning",
          onset=Crosses(series="activation:acts.0", above=0.95, num=3)),
    arch="MLP tanh", optimizer="SGD",
)  # fmt: skip
def tanh_saturated(stage: Stage) -> Iterator[float]:
    """The first layer is initialised with a standard deviation of 4: its tanh units sit at their
    limits from the start."""
    model = MLP(activation=nn.Tanh)
    if stage.sick:
        nn.init.normal_(model.get_parameter("layers.0.weight"), std=4.0)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    return fit(stage, model, optimizer, _classify(stage, model), num_steps=400)


@faulty(
    "mlp-tanh-drifts",
    Fault(severity="warning", kind="saturation", at=140, layers=("layers.1", "acts.1"),
          onset=Crosses(series="activation:acts.1", above=0.9)),
    arch="MLP tanh", optimizer="Adam",
)  # fmt: skip
def tanh_drifts(stage: Stage) -> Iterator[float]:
    """A decay with the wrong sign lets the second layer grow by 1.5 % a step from step 140: its
    tanh units drift to their limits while the loss hardly notices."""
    model = MLP((16, 64, 64, 64, 8), activation=nn.Tanh)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)

    def grow(step: int) -> None:
        if stage.sick and step >= 140:
            with torch.no_grad():
                model.get_parameter("layers.1.weight").mul_(1.015)

    loss_of = _classify(stage, model)
    return fit(stage, model, optimizer, loss_of, num_steps=480, after=grow)


class _Sigmoid(nn.Module):
    """What deep stacks were once made of."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Same shape as `x`."""
        return torch.sigmoid(x)


@faulty(
    "mlp-sigmoid-deep",
    Fault(kind="vanishing_gradient", layers=tuple(f"layers.{i}" for i in range(6)),
          accept=("plateau",),
          onset=Crosses(series="gradient:layers.0.weight", below=1e-7, num=3)),
    arch="MLP sigmoid, 12 layers", optimizer="SGD momentum",
)  # fmt: skip
def sigmoid_deep(stage: Stage) -> Iterator[float]:
    """Twelve layers of sigmoids at the default initial scale: the first layers get gradients that
    are a millionth of the last ones', and the loss stays where it is."""
    model = MLP((16, *[32] * 11, 8), activation=_Sigmoid if stage.sick else nn.SELU)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9)
    return fit(stage, model, optimizer, _classify(stage, model), num_steps=350)


@faulty(
    "mlp-adam-epsilon",
    Fault(kind="update_too_small", severity="critical", accept=("vanishing_gradient",),
          onset=LeavesTwin(series="update:layers.0.weight", factor=10, num=5)),
    arch="MLP regression", optimizer="Adam eps=1e-6",
)  # fmt: skip
def adam_epsilon(stage: Stage) -> Iterator[float]:
    """The loss is averaged over so much that gradients are 1e-9, far below Adam's epsilon of 1e-6:
    the update is nearly nought. With epsilon 1e-15 the same training learns."""
    model = MLP((8, 48, 48, 1), activation=nn.GELU)
    eps = 1e-6 if stage.sick else 1e-15
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, eps=eps)
    rng = stage.generator()

    def loss_of(step: int) -> torch.Tensor:
        x, y = curve(rng)
        return 1e-7 * functional.mse_loss(model(x), y)

    return fit(stage, model, optimizer, loss_of, num_steps=400)


@faulty(
    "mlp-layer-frozen",
    Fault(kind="vanishing_gradient", at=150, layers=("layers.1",), severity="warning",
          accept=("update_too_small",), pace="slow",
          shows=Crosses(series="gradient:layers.1.weight", below=1e-12, num=3)),
    arch="MLP", optimizer="AdamW", quick=True,
)  # fmt: skip
def layer_frozen(stage: Stage) -> Iterator[float]:
    """A hook that was meant for another experiment sets the gradient of the second layer to nought
    from step 150 on."""
    model = MLP((16, 64, 64, 64, 8))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)

    def nought(step: int) -> None:
        if stage.sick and step >= 150:
            for parameter in model.layers[1].parameters():
                if parameter.grad is not None:
                    parameter.grad.zero_()

    loss_of = _classify(stage, model)
    return fit(stage, model, optimizer, loss_of, num_steps=450, with_gradients=nought)


@faulty(
    "mlp-loss-sign",
    Fault(kind="divergence", at=200, accept=("explosion", "bad_batch"), pace="fast"),
    arch="MLP", optimizer="Adam",
)  # fmt: skip
def loss_sign(stage: Stage) -> Iterator[float]:
    """A refactoring turns the sign of the gradient from step 200 on: the loss is climbed."""
    model = MLP()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)

    def turn(step: int) -> None:
        if stage.sick and step >= 200:
            for parameter in model.parameters():
                if parameter.grad is not None:
                    parameter.grad.neg_()

    loss_of = _classify(stage, model)
    return fit(stage, model, optimizer, loss_of, num_steps=350, with_gradients=turn)


@faulty(
    "mlp-decay-too-strong",
    Fault(kind="representation_collapse", at=160, accept=("plateau", "vanishing_gradient"),
          layers=("layers.1", "layers.2"),
          onset=LeavesTwin(series="activation:layers.2", statistic="batch_std", factor=2)),
    arch="MLP tanh", optimizer="AdamW",
)  # fmt: skip
def decay_too_strong(stage: Stage) -> Iterator[float]:
    """From step 160 on the inner layers decay by 6 % a step instead of 0.01 %: their weights go to
    nought, and every input ends as the same vector."""
    model = MLP(activation=nn.Tanh)
    inner = [*model.layers[1].parameters(), *model.layers[2].parameters()]
    outer = [*model.layers[0].parameters(), *model.layers[3].parameters()]
    optimizer = torch.optim.AdamW([{"params": outer}, {"params": inner}], lr=1e-3)

    def strengthen(step: int) -> None:
        if stage.sick and step >= 160:
            optimizer.param_groups[1]["weight_decay"] = 60.0

    loss_of = _classify(stage, model)
    return fit(stage, model, optimizer, loss_of, num_steps=420, before=strengthen)


@faulty(
    "mlp-bit-flip",
    Fault(kind="weight_corruption", at=230, pace="fast", layers=("layers.2",),
          accept=("non_finite",)),
    arch="MLP", optimizer="Adam", quick=True,
)  # fmt: skip
def bit_flip(stage: Stage) -> Iterator[float]:
    """The highest exponent bit but one of one weight flips before step 230."""
    model = MLP(activation=nn.GELU)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)

    def flip(step: int) -> None:
        if stage.sick and step == 230:
            with torch.no_grad():
                weight = model.layers[2].weight
                assert isinstance(weight, nn.Parameter)
                weight[5, 7] = 2.0**24 * weight[5, 7].abs().clamp(min=1e-3)

    loss_of = _classify(stage, model)
    return fit(stage, model, optimizer, loss_of, num_steps=380, before=flip)
