"""Vision transformers and mixers."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import nn
from torch.nn import functional

from benchmarks.zoo.data import images
from benchmarks.zoo.faults import Fault
from benchmarks.zoo.models.transformer import Mixer, ViT
from benchmarks.zoo.optimizers import OrthogonalMomentum
from benchmarks.zoo.registry import faulty, healthy
from benchmarks.zoo.rules import Crosses, LeavesTwin
from benchmarks.zoo.schedules import warmup_cosine
from benchmarks.zoo.stage import Stage
from benchmarks.zoo.training import LossOf, fit


def _classify(stage: Stage, model: nn.Module, *, smoothing: float = 0.0, num: int = 16) -> LossOf:
    rng = stage.generator()

    def loss_of(step: int) -> torch.Tensor:
        x, y = images(rng, num)
        return functional.cross_entropy(model(x), y, label_smoothing=smoothing)

    return loss_of


@healthy("vit-smoothing-dropout", arch="ViT", optimizer="AdamW")
def smoothing_and_dropout(stage: Stage) -> Iterator[float]:
    """Label smoothing keeps the loss high, dropout keeps it noisy."""
    model = ViT()
    model.dropout.p = 0.2
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    rate = warmup_cosine(2e-3, num_steps=350)
    loss_of = _classify(stage, model, smoothing=0.2)
    return fit(stage, model, optimizer, loss_of, num_steps=350, rate=rate, clip=1.0)


@healthy("mixer-orthogonal", arch="MLP-Mixer", optimizer="Muon")
def mixer_orthogonal(stage: Stage) -> Iterator[float]:
    """Updates of every matrix have the same size at each step, whatever the gradient's is."""
    model = Mixer()
    optimizer = OrthogonalMomentum(model.parameters(), lr=0.01)
    rate = warmup_cosine(0.01, num_steps=320)
    return fit(stage, model, optimizer, _classify(stage, model), num_steps=320, rate=rate)


@healthy("vit-batch-grows-told", arch="ViT", optimizer="Adam")
def batch_grows(stage: Stage) -> Iterator[float]:
    """The batch grows fourfold at step 180, with a note: all noise halves at once."""
    model = ViT(layers=2)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    small, large = _classify(stage, model, num=8), _classify(stage, model, num=32)

    def loss_of(step: int) -> torch.Tensor:
        return (small if step < 180 else large)(step)

    notes = {180: "batch size 8 -> 32"}
    return fit(stage, model, optimizer, loss_of, num_steps=340, notes=notes)


@faulty(
    "vit-patch-gradient-spike",
    Fault(kind="gradient_spike", at=210, pace="fast", severity="warning", lasting=False,
          layers=("patch",), shows=LeavesTwin(series="gradient:patch.weight", factor=50, num=1)),
    arch="ViT", optimizer="AdamW",
)  # fmt: skip
def patch_gradient_spike(stage: Stage) -> Iterator[float]:
    """A faulty kernel multiplies the gradient of the patch embedding by 3000 on one step; clipping
    contains it."""
    model = ViT()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)

    def spike(step: int) -> None:
        if stage.sick and step == 210 and model.patch.weight.grad is not None:
            model.patch.weight.grad.mul_(3000)

    loss_of = _classify(stage, model)
    return fit(stage, model, optimizer, loss_of, num_steps=340, with_gradients=spike, clip=1.0)


@faulty(
    "vit-epsilon-one",
    Fault(kind="update_too_small", severity="critical", accept=("vanishing_gradient",),
          onset=LeavesTwin(series="update:blocks.0.mlp.up.weight", factor=10, num=5)),
    arch="ViT", optimizer="Adam eps=1",
)  # fmt: skip
def epsilon_one(stage: Stage) -> Iterator[float]:
    """Adam's epsilon is 1, as a configuration for another network had it: updates are a hundredth
    of what the learning rate says."""
    model = ViT()
    eps = 1.0 if stage.sick else 1e-8
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, eps=eps)
    return fit(stage, model, optimizer, _classify(stage, model), num_steps=320)


@faulty(
    "mixer-token-mixing-dead",
    Fault(kind="vanishing_gradient", at=130, severity="warning",
          layers=("token_mix.1",), accept=("dead_units", "update_too_small", "weight_corruption"),
          onset=LeavesTwin(series="activation:token_mix.1.down", factor=20)),
    arch="MLP-Mixer", optimizer="AdamW",
)  # fmt: skip
def token_mixing_dead(stage: Stage) -> Iterator[float]:
    """One token-mixing layer decays by 4 % a step from step 130 on; the shortcut around it hides
    that it is gone."""
    model = Mixer()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)

    def shrink(step: int) -> None:
        if stage.sick and step >= 130:
            with torch.no_grad():
                for parameter in model.token_mix[1].parameters():
                    parameter.mul_(0.96)

    return fit(stage, model, optimizer, _classify(stage, model), num_steps=340, after=shrink)


@faulty(
    "mixer-unscaled-momentum",
    Fault(kind="update_too_large", accept=("saturation",),
          onset=LeavesTwin(series="update:head.weight", factor=10, num=1)),
    arch="MLP-Mixer", optimizer="Muon",
)  # fmt: skip
def unscaled_momentum(stage: Stage) -> Iterator[float]:
    """Orthogonal updates with the learning rate of plain momentum, fifty times too high."""
    model = Mixer()
    optimizer = OrthogonalMomentum(model.parameters(), lr=0.5 if stage.sick else 0.01)
    return fit(stage, model, optimizer, _classify(stage, model), num_steps=260)


@faulty(
    "vit-attention-on-one-patch",
    Fault(kind="attention_logit_growth", at=120, severity="warning",
          layers=("blocks.0.attn.qkv",), accept=("explosion", "weight_corruption"),
          onset=Crosses(series="activation:blocks.0.attn.qkv", statistic="abs_max", above=25.0)),
    arch="ViT", optimizer="SGD momentum",
)  # fmt: skip
def attention_on_one_patch(stage: Stage) -> Iterator[float]:
    """The first layer's queries and keys grow by 1.2 % a step from step 120 on; nothing is logged
    of the attention, so that only the layer's own outputs tell."""
    model = ViT()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)

    def grow(step: int) -> None:
        if stage.sick and step >= 120:
            with torch.no_grad():
                model.get_parameter("blocks.0.attn.qkv.weight")[:48].mul_(1.012)

    return fit(stage, model, optimizer, _classify(stage, model), num_steps=380, after=grow)
