"""Seeing and hearing, healthy: objects that are rare, blocks that are left out, silence first."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch.nn import functional

from benchmarks.zoo.data import images
from benchmarks.zoo.models.perception import (
    Detector,
    Separator,
    Spotter,
    SqueezeBlock,
    SqueezeNet,
    decibels,
    detection_loss,
    scenes,
)
from benchmarks.zoo.registry import healthy
from benchmarks.zoo.schedules import one_cycle, step_decay
from benchmarks.zoo.stage import Stage
from benchmarks.zoo.training import LossOf, fit


@healthy("detector-rare-objects", arch="centre heatmap detector", optimizer="Adam")
def rare_objects(stage: Stage) -> Iterator[float]:
    """Four images a step, some steps with a single object and some without any: the loss is for
    each object, and jumps with their number."""
    model = Detector()
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    rng = stage.generator()

    def loss_of(step: int) -> torch.Tensor:
        return detection_loss(model, *scenes(rng, 4, most=2, empty=0.4))

    return fit(stage, model, optimizer, loss_of, num_steps=340, clip=10.0)


@healthy("squeeze-stochastic-depth", arch="ResNet, squeeze and excite", optimizer="SGD Nesterov")
def stochastic_depth(stage: Stage) -> Iterator[float]:
    """Each block is left out on a random step, the later ones on every second: then it has no
    gradient and no activation at all."""
    model = SqueezeNet()
    optimizer = torch.optim.SGD(
        model.parameters(), lr=0.05, momentum=0.9, nesterov=True, weight_decay=5e-4
    )
    rng, coins = stage.generator(), stage.generator(1)

    def leave_out(step: int) -> None:
        for i, block in enumerate(model.blocks):
            assert isinstance(block, SqueezeBlock)
            block.kept = float(torch.rand((), generator=coins)) >= 0.13 * (i + 1)

    def loss_of(step: int) -> torch.Tensor:
        x, y = images(rng, 16)
        return functional.cross_entropy(model(x), y)

    rate = step_decay(0.05, (180, 260), 0.2)
    return fit(
        stage, model, optimizer, loss_of, num_steps=320, before=leave_out, rate=rate,
    )  # fmt: skip


def speech(rng: torch.Generator, num: int = 16, *, said: int = 4, frames: int = 24) -> tuple[
    torch.Tensor, torch.Tensor
]:  # fmt: skip
    """Frames [N, T, 8] in which `said` of six symbols are heard, with silence between, and which
    they are [N, said], from 1 on."""
    symbols = torch.randint(1, 7, (num, said), generator=rng)
    voices = torch.sin(torch.arange(7)[:, None] * torch.arange(1, 9) * 0.9)
    voices[0] = 0.0
    slot = frames // said
    length = torch.randint(2, slot, (num, said, 1), generator=rng)
    heard = torch.where(torch.arange(slot) < length, symbols[..., None], 0).flatten(1)
    heard = functional.pad(heard, (0, frames - heard.shape[1]))
    return voices[heard] + 0.3 * torch.randn(num, frames, 8, generator=rng), symbols


def transcribed(model: Spotter, x: torch.Tensor, symbols: torch.Tensor) -> torch.Tensor:
    """The loss over all alignments; infinite where the symbols do not fit into the frames."""
    odds = model(x)
    lengths = [torch.full((len(x),), n) for n in (odds.shape[0], symbols.shape[1])]
    return functional.ctc_loss(odds, symbols, lengths[0], lengths[1])


@healthy("speech-blanks-first", arch="convolutions and GRU, CTC", optimizer="AdamW")
def blanks_first(stage: Stage) -> Iterator[float]:
    """Trained over all alignments: the loss falls fast while only blanks are said, stands still for
    a long time, and falls again once the first symbols are heard."""
    model = Spotter()
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=1e-2)
    rng = stage.generator()
    rate = one_cycle(4e-3, num_steps=360, climb=80)
    return fit(
        stage, model, optimizer, lambda step: transcribed(model, *speech(rng)), num_steps=360,
        rate=rate, clip=5.0,
    )  # fmt: skip


def voices(rng: torch.Generator, num: int = 8, *, length: int = 128) -> torch.Tensor:
    """Two voices [N, 2, T]: a low hum with a random phase, and a high one that swells."""
    time = torch.arange(length) / length
    phase = 6.3 * torch.rand(num, 2, 1, generator=rng)
    pitch = torch.tensor([[3.0], [21.0]]) * (1 + 0.3 * torch.rand(num, 2, 1, generator=rng))
    sound = torch.sin(6.28 * pitch * time + phase)
    swell = 0.6 + 0.4 * torch.sin(6.28 * time + phase[:, 1:])
    return sound * torch.cat([torch.ones_like(swell), swell], dim=1)


def separated(stage: Stage, model: Separator, *, silent: int | None = None) -> LossOf:
    """Minus the decibels of the better assignment of two voices, of 8 mixtures. On step `silent`
    the second voice of the first mixture is one that says nothing."""
    rng = stage.generator()

    def loss_of(step: int) -> torch.Tensor:
        true = voices(rng)
        noise = 0.02 * torch.randn(true.shape[0], true.shape[-1], generator=rng)
        if step == silent:
            true[0, 1] = 0.0
        made = model(true.sum(1) + noise)
        ways = torch.stack([decibels(made, t).mean(1) for t in (true, true.flip(1))])
        return -ways.amax(0).mean()

    return loss_of


@healthy("voices-in-decibels", arch="mask separator", optimizer="Adam")
def in_decibels(stage: Stage) -> Iterator[float]:
    """The loss is a logarithm that goes from above nought to far below it, and which voice is whose
    may change from one mixture to the next."""
    model = Separator()
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    return fit(stage, model, optimizer, separated(stage, model), num_steps=300, clip=5.0)
