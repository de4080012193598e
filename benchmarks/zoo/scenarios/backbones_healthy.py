"""Image networks of many makes, healthy, with losses that are negative, masked, mixed or rare."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from benchmarks.zoo.data import Batch, images
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
from benchmarks.zoo.registry import healthy
from benchmarks.zoo.schedules import warmup_cosine
from benchmarks.zoo.stage import Stage
from benchmarks.zoo.training import LossOf, fit


def names_stripes(
    stage: Stage, model: nn.Module, *, num: int = 16, smoothing: float = 0.0
) -> LossOf:
    """Cross-entropy of the angle of stripes."""
    rng = stage.generator()

    def loss_of(step: int) -> torch.Tensor:
        x, y = images(rng, num)
        return functional.cross_entropy(model(x), y, label_smoothing=smoothing)

    return loss_of


def blobs(rng: torch.Generator, num: int = 8, *, size: int = 12) -> Batch:
    """Discs on noise [N, 1, size, size], and which pixels they cover, a tenth or so."""
    line = torch.arange(size, dtype=torch.float32)
    y, x = torch.meshgrid(line, line, indexing="ij")
    at = 2 + (size - 4) * torch.rand(num, 2, 1, 1, generator=rng)
    radius = 1.2 + 1.2 * torch.rand(num, 1, 1, generator=rng)
    inside = ((y - at[:, 0]).square() + (x - at[:, 1]).square() < radius.square()).float()
    noise = torch.randn(num, size, size, generator=rng)
    return (inside + 0.4 * noise)[:, None], inside[:, None]


def dice(logits: torch.Tensor, inside: torch.Tensor) -> torch.Tensor:
    """Minus the overlap of a predicted and a true mask: between -1 and 0."""
    odds = logits.sigmoid()
    both = (odds * inside).sum(dim=(1, 2, 3))
    return -((2 * both + 1) / (odds.sum(dim=(1, 2, 3)) + inside.sum(dim=(1, 2, 3)) + 1)).mean()


@healthy("convnext-silent-blocks", arch="ConvNeXt-like", optimizer="AdamW")
def silent_blocks(stage: Stage) -> Iterator[float]:
    """Every block's gain starts at a thousandth: blocks say nothing at first, have gradients of
    nothing, and come alive one after another."""
    model = ConvNext()
    optimizer = torch.optim.AdamW(model.parameters(), lr=4e-3, weight_decay=0.05)
    rate = warmup_cosine(4e-3, num_steps=300, warmup=25)
    return fit(stage, model, optimizer, names_stripes(stage, model), num_steps=300, rate=rate)


@healthy("mobile-one-class-in-fifty", arch="inverted residuals", optimizer="RMSprop centered")
def one_in_fifty(stage: Stage) -> Iterator[float]:
    """One image in fifty is positive: most batches have a loss near nought, some one of several
    units, and batch norm over sixteen images."""
    model = Mobile(classes=2)
    optimizer = torch.optim.RMSprop(model.parameters(), lr=5e-4, alpha=0.95, centered=True)
    rng = stage.generator()

    def loss_of(step: int) -> torch.Tensor:
        x, _ = images(rng, 16)
        y = (torch.rand(16, generator=rng) < 0.02).long()
        x = torch.where(y[:, None, None, None] == 1, x.abs() + 0.5, x)
        return functional.cross_entropy(model(x), y)

    return fit(stage, model, optimizer, loss_of, num_steps=360)


@healthy("dense-net-mixed-images", arch="DenseNet-like", optimizer="SGD Nesterov")
def mixed_images(stage: Stage) -> Iterator[float]:
    """Two images are laid over each other at a random share: the floor of the loss is another one
    at each step, and high."""
    model = DenseNet()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.08, momentum=0.9, nesterov=True)
    rng = stage.generator()

    def loss_of(step: int) -> torch.Tensor:
        x, y = images(rng, 16)
        share = float(torch.rand(1, generator=rng))
        scores = model(share * x + (1 - share) * x.flip(0))
        first, second = (
            functional.cross_entropy(scores, y),
            functional.cross_entropy(scores, y.flip(0)),
        )
        return share * first + (1 - share) * second

    return fit(stage, model, optimizer, loss_of, num_steps=340)


@healthy("capsules-agree", arch="capsule network", optimizer="Adamax", quick=True)
def capsules_agree(stage: Stage) -> Iterator[float]:
    """Routing by agreement: shares between capsules change within one forward pass, and lengths
    saturate by design."""
    model = Capsules()
    optimizer = torch.optim.Adamax(model.parameters(), lr=8e-3)
    return fit(stage, model, optimizer, margin_of(stage, model), num_steps=280)


def margin_of(stage: Stage, model: Capsules) -> LossOf:
    """The margin loss of capsules' lengths."""
    rng = stage.generator()

    def loss_of(step: int) -> torch.Tensor:
        x, y = images(rng)
        true = functional.one_hot(y, 6)
        length = model(x)
        missed = true * (0.9 - length).clamp(min=0).square()
        wrong = 0.5 * (1 - true) * (length - 0.1).clamp(min=0).square()
        loss: torch.Tensor = (missed + wrong).sum(-1).mean()
        return loss

    return loss_of


@healthy("segmenter-negative-dice", arch="segmenter, dilated", optimizer="NAdam")
def negative_dice(stage: Stage) -> Iterator[float]:
    """The loss is minus an overlap: it starts near nought and falls to minus one, while nine
    pixels in ten are empty."""
    model = Segmenter()
    optimizer = torch.optim.NAdam(model.parameters(), lr=4e-3)
    rng = stage.generator()

    def loss_of(step: int) -> torch.Tensor:
        x, inside = blobs(rng)
        return dice(model(x), inside)

    return fit(stage, model, optimizer, loss_of, num_steps=320)


@healthy("pixels-one-by-one", arch="masked convolutions", optimizer="Adadelta")
def pixels_one_by_one(stage: Stage) -> Iterator[float]:
    """An autoregressive model of binary stripes, its loss summed over pixels: a hundred units, with
    a floor that depends on the image."""
    model = PixelNet()
    optimizer = torch.optim.Adadelta(model.parameters(), lr=1.0)
    return fit(stage, model, optimizer, pixels_of(stage, model), num_steps=300)


def pixels_of(stage: Stage, model: PixelNet) -> LossOf:
    """Minus the log-likelihood of an image's signs, summed over pixels."""
    rng = stage.generator()

    def loss_of(step: int) -> torch.Tensor:
        x, _ = images(rng, 12)
        signs = (x > 0).float()
        return functional.binary_cross_entropy_with_logits(model(signs), signs) * 144

    return loss_of


@healthy("automaton-grows", arch="cellular automaton", optimizer="Adam, gradients of length 1")
def automaton_grows(stage: Stage) -> Iterator[float]:
    """Eight to sixteen rounds of one small network through itself, and each gradient made to the
    length of one: spikes of the loss are part of it."""
    return _automaton(stage)


def _automaton(stage: Stage) -> Iterator[float]:
    model = Automaton()
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    rng = stage.generator()
    goal = blobs(stage.generator(1), 1)[1]

    def loss_of(step: int) -> torch.Tensor:
        cells = torch.zeros(4, 8, 12, 12)
        cells[:, :, 6, 6] = 1.0
        rounds = int(torch.randint(8, 17, (1,), generator=rng))
        return functional.mse_loss(model(cells, rounds)[:, :1], goal.expand(4, -1, -1, -1))

    def unit(step: int) -> None:
        for p in model.parameters():
            if p.grad is not None:
                p.grad.div_(p.grad.norm() + 1e-8)

    return fit(stage, model, optimizer, loss_of, num_steps=260, with_gradients=unit)


@healthy("dense-net-sharpness-aware", arch="DenseNet-like", optimizer="SAM on SGD momentum")
def sharpness_aware(stage: Stage) -> Iterator[float]:
    """Each step goes uphill first and takes its gradient there: two passes through every hook, and
    weights that are elsewhere while they are measured."""
    model = DenseNet(layers=3)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    rng = stage.generator()
    last: dict[str, Any] = {}

    def loss_of(step: int) -> torch.Tensor:
        last["x"], last["y"] = images(rng)
        return again()

    def again() -> torch.Tensor:
        return functional.cross_entropy(model(last["x"]), last["y"])

    sam = SharpnessAware(model, again, rho=0.1)
    return fit(stage, model, optimizer, loss_of, num_steps=280, with_gradients=sam)


@healthy("mobile-layerwise-rates", arch="inverted residuals", optimizer="LARS")
def layerwise(stage: Stage) -> Iterator[float]:
    """Every tensor moves by the same share of itself on each step, whatever its gradient is."""
    model = Mobile(blocks=2)
    optimizer = LayerwiseScaled(model.parameters(), 4e-3)
    rate = warmup_cosine(4e-3, num_steps=320)
    loss_of = names_stripes(stage, model, num=24, smoothing=0.1)
    return fit(stage, model, optimizer, loss_of, num_steps=320, rate=rate)
