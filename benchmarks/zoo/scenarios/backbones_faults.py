"""Image networks of many makes, with faults of their loops, buffers and branches."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from benchmarks.zoo.data import images
from benchmarks.zoo.faults import Fault
from benchmarks.zoo.meddling import groups, scale
from benchmarks.zoo.models.backbones import (
    Automaton,
    Capsules,
    ConvNext,
    DenseNet,
    Mobile,
    PixelNet,
    Segmenter,
)
from benchmarks.zoo.optimizers import LayerwiseScaled, SharpnessAware
from benchmarks.zoo.registry import faulty
from benchmarks.zoo.rules import LeavesTwin
from benchmarks.zoo.scenarios.backbones_healthy import (
    blobs,
    dice,
    margin_of,
    names_stripes,
    pixels_of,
)
from benchmarks.zoo.stage import Stage
from benchmarks.zoo.training import fit


@faulty(
    "convnext-gain-decays",
    Fault(kind="vanishing_gradient", at=95, severity="warning", layers=("stages.1",),
          accept=("update_too_small", "representation_collapse", "weight_corruption"),
          onset=LeavesTwin(series="gradient:stages.1.pw1.weight", factor=5, num=4)),
    arch="ConvNeXt-like", optimizer="AdamW",
)  # fmt: skip
def gain_decays(stage: Stage) -> Iterator[float]:
    """The gain of one block decays by 6 % a step from step 95 on, in a group that was meant for
    none: the block falls silent behind its shortcut, and its layers get no gradient."""
    model = ConvNext(gain=0.3)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)

    def decay(step: int) -> None:
        if stage.sick and step >= 95:
            with torch.no_grad():
                model.get_parameter("stages.1.gain").mul_(0.94)

    loss_of = names_stripes(stage, model)
    return fit(stage, model, optimizer, loss_of, num_steps=290, before=decay)


@faulty(
    "mobile-buffers-forgotten",
    Fault(kind="weight_corruption", at=150, pace="fast", severity="warning",
          layers=("blocks.0",), accept=("divergence", "saturation")),
    arch="inverted residuals", optimizer="AdamW",
)  # fmt: skip
def buffers_forgotten(stage: Stage) -> Iterator[float]:
    """A restart at step 150 loads parameters without buffers and leaves evaluation mode on: the
    first block's norms divide by one instead of by what they had seen."""
    model = Mobile()
    optimizer = torch.optim.AdamW(model.parameters(), lr=4e-3)

    def restart(step: int) -> None:
        if stage.sick and step == 150:
            for module in model.get_submodule("blocks.0").modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.reset_running_stats()
                    module.eval()

    loss_of = names_stripes(stage, model)
    return fit(stage, model, optimizer, loss_of, num_steps=300, before=restart)


@faulty(
    "mobile-filter-exponents",
    Fault(kind="weight_corruption", at=177, pace="fast", severity="warning",
          layers=("blocks.1.depthwise",), accept=("loss_spike", "gradient_spike"),
          shows=LeavesTwin(series="weight:blocks.1.depthwise.weight", factor=4)),
    arch="inverted residuals", optimizer="SGD momentum",
)  # fmt: skip
def filter_exponents(stage: Stage) -> Iterator[float]:
    """A stuck line of a memory adds six to the exponents of one depthwise filter's nine weights
    before step 177: sixty-four times as large, and batch norm makes a plausible channel of it."""
    model = Mobile()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)

    def stick(step: int) -> None:
        if stage.sick and step == 177:
            with torch.no_grad():
                model.get_parameter("blocks.1.depthwise.weight")[4].mul_(64.0)

    loss_of = names_stripes(stage, model)
    return fit(stage, model, optimizer, loss_of, num_steps=290, before=stick)


@faulty(
    "dense-net-gradients-kept",
    Fault(kind="explosion", at=155, layers=("convs", "enter", "fc"),
          accept=("update_too_large", "gradient_spike", "divergence", "loss_spike"),
          onset=LeavesTwin(series="grad_norm", factor=5, num=5)),
    arch="DenseNet-like", optimizer="SGD",
)  # fmt: skip
def gradients_kept(stage: Stage) -> Iterator[float]:
    """A refactoring drops the call that clears gradients: from step 155 on each one adds to all
    that came before."""
    model = DenseNet()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.06)
    loss_of = names_stripes(stage, model)
    with stage.watch(model, optimizer) as watch:
        for step in range(300):
            if not (stage.sick and step >= 155):
                optimizer.zero_grad()
            loss = loss_of(step)
            torch.autograd.backward(loss)
            optimizer.step()
            watch.step(loss)
            yield float(loss.detach())


@faulty(
    "capsules-routing-hard",
    Fault(kind="saturation", at=110, severity="warning", layers=("primary",),
          accept=("representation_collapse", "vanishing_gradient", "explosion",
                  "attention_logit_growth"),
          onset=LeavesTwin(series="gradient:votes", factor=1.6, num=3)),
    arch="capsule network", optimizer="Adam",
)  # fmt: skip
def routing_hard(stage: Stage) -> Iterator[float]:
    """The sharpness of the routing grows by 4 % a step from step 110 on, with an annealing that has
    no end: shares become nought or one."""
    model = Capsules()
    optimizer = torch.optim.Adam(model.parameters(), lr=4e-3)

    def anneal(step: int) -> None:
        if stage.sick and step >= 110:
            model.sharpness *= 1.04

    loss_of = margin_of(stage, model)
    return fit(stage, model, optimizer, loss_of, num_steps=300, before=anneal)


@faulty(
    "segmenter-side-branch-off",
    Fault(kind="vanishing_gradient", at=135, pace="fast", layers=("side",),
          accept=("loss_spike", "update_too_small"), severity="warning"),
    arch="segmenter, dilated", optimizer="Adam", quick=True,
)  # fmt: skip
def side_branch_off(stage: Stage) -> Iterator[float]:
    """An ablation's switch is left on at a restart at step 135: the branch at full size is
    multiplied by nought, and gets gradients of nought."""
    model = Segmenter()
    optimizer = torch.optim.Adam(model.parameters(), lr=4e-3)
    rng = stage.generator()

    def switch(step: int) -> None:
        if stage.sick and step == 135:
            model.side_weight = 0.0

    def loss_of(step: int) -> torch.Tensor:
        x, inside = blobs(rng)
        return 1 + dice(model(x), inside)

    return fit(stage, model, optimizer, loss_of, num_steps=280, before=switch)


@faulty(
    "segmenter-masks-inverted",
    Fault(kind="bad_batch", at=190, pace="fast", severity="warning", lasting=False,
          accept=("divergence",)),
    arch="segmenter, dilated", optimizer="AdamW",
)  # fmt: skip
def masks_inverted(stage: Stage) -> Iterator[float]:
    """Three batches come from an annotator who painted the background, at steps 190 to 192."""
    model = Segmenter()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    rng = stage.generator()

    def loss_of(step: int) -> torch.Tensor:
        x, inside = blobs(rng, 12)
        if stage.sick and 190 <= step < 193:
            inside = 1 - inside
        return functional.binary_cross_entropy_with_logits(model(x), inside)

    return fit(stage, model, optimizer, loss_of, num_steps=310)


@faulty(
    "pixels-one-big-step",
    Fault(kind="dead_units", at=140, pace="fast", layers=("first", "rest", "acts"),
          accept=("loss_spike", "update_too_large", "gradient_spike", "divergence")),
    arch="masked convolutions", optimizer="SGD",
)  # fmt: skip
def one_big_step(stage: Stage) -> Iterator[float]:
    """On step 140 alone the rate is 300 times as high, from a scheduler that was stepped with a
    loss instead of an epoch: most ReLU units are thrown to where they never fire."""
    model = PixelNet()
    optimizer = torch.optim.SGD(model.parameters(), lr=4e-4)
    loss_of = pixels_of(stage, model)

    def rate(step: int) -> float:
        return 0.12 if stage.sick and step == 140 else 4e-4

    return fit(stage, model, optimizer, loss_of, num_steps=260, rate=rate)


@faulty(
    "automaton-too-fast",
    Fault(kind="update_too_large", at=125, pace="fast", layers=("perceive", "update"),
          accept=("non_finite",)),
    arch="cellular automaton", optimizer="Adam",
)  # fmt: skip
def too_fast(stage: Stage) -> Iterator[float]:
    """From step 125 on the rate is thirty times as high: a network that is run through itself
    sixteen times answers by blowing up again and again."""
    model = Automaton()
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    rng = stage.generator()
    goal = blobs(stage.generator(1), 1)[1]

    def loss_of(step: int) -> torch.Tensor:
        cells = torch.zeros(4, 8, 12, 12)
        cells[:, :, 6, 6] = 1.0
        rounds = int(torch.randint(8, 17, (1,), generator=rng))
        return functional.mse_loss(model(cells, rounds)[:, :1], goal.expand(4, -1, -1, -1))

    def rate(step: int) -> float:
        return 6e-2 if stage.sick and step >= 125 else 2e-3

    return fit(stage, model, optimizer, loss_of, num_steps=230, rate=rate, clip=1.0)


@faulty(
    "sharpness-never-back",
    Fault(kind="divergence", at=120, layers=("convs",),
          accept=("update_too_large", "explosion", "weight_corruption", "loss_spike")),
    arch="DenseNet-like", optimizer="SAM on SGD momentum",
)  # fmt: skip
def never_back(stage: Stage) -> Iterator[float]:
    """From step 120 on the weights are not brought back from where the loss is worst nearby: each
    step climbs by rho, and descends by less."""
    model = DenseNet(layers=3)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9)
    rng = stage.generator()
    last: dict[str, Any] = {}

    def loss_of(step: int) -> torch.Tensor:
        last["x"], last["y"] = images(rng)
        return again()

    def again() -> torch.Tensor:
        return functional.cross_entropy(model(last["x"]), last["y"])

    sam = SharpnessAware(model, again, rho=0.12)

    def climb(step: int) -> None:
        sam.comes_back = not (stage.sick and step >= 120)
        sam(step)

    return fit(stage, model, optimizer, loss_of, num_steps=250, with_gradients=climb)


@faulty(
    "layerwise-rate-forgets-size",
    Fault(kind="update_too_large", at=160, pace="fast", severity="warning",
          layers=("blocks.1.project",),
          accept=("weight_corruption",)),
    arch="inverted residuals", optimizer="LARS",
)  # fmt: skip
def forgets_size(stage: Stage) -> Iterator[float]:
    """One tensor's size is taken from a sharded copy from step 160 on, and is 60 times its own: so
    are its updates."""
    model = Mobile(blocks=2)
    optimizer = LayerwiseScaled(groups(model, "blocks.1.project", 4e-3), 4e-3)
    loss_of = names_stripes(stage, model, smoothing=0.1)

    def reshard(step: int) -> None:
        if stage.sick and step == 160:
            optimizer.param_groups[1]["least"] = 60.0

    return fit(stage, model, optimizer, loss_of, num_steps=290, before=reshard)


@faulty(
    "convnext-stem-shrinks",
    Fault(kind="weight_corruption", at=185, pace="fast", layers=("stem",), severity="warning",
          accept=("loss_spike", "vanishing_gradient"),
          shows=LeavesTwin(series="weight:stem.weight", factor=4, num=1)),
    arch="ConvNeXt-like", optimizer="Adagrad",
)  # fmt: skip
def stem_shrinks(stage: Stage) -> Iterator[float]:
    """A conversion of the checkpoint at step 185 divides the stem by 12 once more."""
    model = ConvNext(gain=0.3)
    optimizer = torch.optim.Adagrad(model.parameters(), lr=0.01)

    def convert(step: int) -> None:
        if stage.sick and step == 185:
            scale(model, "stem", 1 / 12)

    loss_of = names_stripes(stage, model)
    return fit(stage, model, optimizer, loss_of, num_steps=290, before=convert)
