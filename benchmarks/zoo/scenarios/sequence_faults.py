"""Sequences and sets in other networks than transformers, with their faults."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch.nn import functional

from benchmarks.zoo.data import text_batches
from benchmarks.zoo.faults import Fault
from benchmarks.zoo.meddling import scale, scale_gradient
from benchmarks.zoo.models.recurrent import Recurrent
from benchmarks.zoo.models.sequence import (
    Dilated,
    LinearReader,
    Pointer,
    Reservoir,
    SetNet,
    Translator,
)
from benchmarks.zoo.registry import faulty
from benchmarks.zoo.rules import Crosses, LeavesTwin
from benchmarks.zoo.scenarios.sequence_healthy import (
    Attended,
    citations,
    forecasts,
    recalls,
    shapes,
    sorts,
    translates,
    waves,
)
from benchmarks.zoo.stage import Stage
from benchmarks.zoo.training import fit


@faulty(
    "translator-encoder-saturated",
    Fault(kind="saturation", layers=("encoder",),
          accept=("vanishing_gradient", "plateau"),
          shows=LeavesTwin(series="weight:encoder.weight_hh_l0", factor=5)),
    arch="GRU seq2seq with attention", optimizer="Adam",
)  # fmt: skip
def encoder_saturated(stage: Stage) -> Iterator[float]:
    """The encoder was initialised with the gain of another framework's unit, twenty times too
    large: its gates are open or shut, its states at one or minus one."""
    model = Translator()
    if stage.sick:
        scale(model, "encoder", 20.0)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    return fit(stage, model, optimizer, translates(stage, model), num_steps=240, clip=1.0)


@faulty(
    "translator-query-detached",
    Fault(kind="vanishing_gradient", at=105, pace="fast", layers=("query",), severity="warning",
          accept=("update_too_small",)),
    arch="GRU seq2seq with attention", optimizer="RMSprop",
)  # fmt: skip
def query_detached(stage: Stage) -> Iterator[float]:
    """A profiler's context that turns gradients off stays around one linear layer from step 105
    on: what is behind it learns, the layer itself has a gradient of nought."""
    model = Translator()
    optimizer = torch.optim.RMSprop(model.parameters(), lr=2e-3)

    def forget(step: int) -> None:
        if stage.sick and step >= 105:
            scale_gradient(model, "query", 0.0)

    loss_of = translates(stage, model)
    return fit(stage, model, optimizer, loss_of, num_steps=250, with_gradients=forget, clip=1.0)


@faulty(
    "pointer-sharpness-annealed",
    Fault(kind="attention_logit_growth", at=100, severity="critical", layers=("query", "key"),
          accept=("gradient_spike", "loss_spike", "explosion", "divergence"),
          onset=LeavesTwin(series="attn_logit_max", factor=3, num=5)),
    arch="pointer network", optimizer="Adam",
)  # fmt: skip
def sharpness_annealed(stage: Stage) -> Iterator[float]:
    """The temperature of the pointer falls by 2.5 % a step from step 100 on and has no floor: what
    was a choice becomes a certainty, and each mistake costs more."""
    model = Pointer()
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)

    def cool(step: int) -> None:
        if stage.sick and step >= 100:
            model.sharpness *= 1.025

    def log() -> dict[str, Any]:
        return {"attn_logit_max": model.logit_max}

    loss_of = sorts(stage, model, longest=3)
    return fit(
        stage, model, optimizer, loss_of, num_steps=300, before=cool, log=log, clip=2.0
    )  # fmt: skip


@faulty(
    "dilated-one-level-hot",
    Fault(kind="update_too_large", at=130, pace="fast", layers=("filters.2",),
          accept=("gradient_spike",), severity="warning"),
    arch="dilated gated convolutions", optimizer="SGD momentum",
)  # fmt: skip
def one_level_hot(stage: Stage) -> Iterator[float]:
    """A custom kernel for one dilation sums over the batch instead of taking its mean: from step
    130 on the gradient of that level is thirty times too large."""
    model = Dilated()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.03, momentum=0.9)

    def hot(step: int) -> None:
        if stage.sick and step >= 130:
            scale_gradient(model, "filters.2", 30.0)

    loss_of = forecasts(stage, model)
    return fit(stage, model, optimizer, loss_of, num_steps=280, with_gradients=hot)


@faulty(
    "dilated-gates-close",
    Fault(kind="saturation", at=85, layers=("filters.1",),
          accept=("vanishing_gradient", "dead_units"), severity="warning",
          onset=LeavesTwin(series="activation:filters.1", factor=4)),
    arch="dilated gated convolutions", optimizer="NAdam",
)  # fmt: skip
def gates_close(stage: Stage) -> Iterator[float]:
    """A penalty on open gates of one level, meant for the first steps, is never taken back: from
    step 85 on their biases sink by 0.06 a step until all of them are shut."""
    model = Dilated()
    optimizer = torch.optim.NAdam(model.parameters(), lr=2e-3)
    bias = model.get_parameter("filters.1.bias")

    def sink(step: int) -> None:
        if stage.sick and step >= 85:
            with torch.no_grad():
                bias[16:].sub_(0.06)

    loss_of = forecasts(stage, model)
    return fit(stage, model, optimizer, loss_of, num_steps=300, after=sink)


@faulty(
    "dilated-offset-in-volts",
    Fault(kind="bad_batch", at=165, pace="fast", severity="warning", lasting=False,
          accept=("explosion", "divergence")),
    arch="dilated gated convolutions", optimizer="Adamax",
)  # fmt: skip
def offset_in_volts(stage: Stage) -> Iterator[float]:
    """A sensor's amplifier drifts off for six batches from step 165 on: an offset of 25 on every
    value."""
    model = Dilated()
    optimizer = torch.optim.Adamax(model.parameters(), lr=4e-3)
    rng = stage.generator()

    def loss_of(step: int) -> torch.Tensor:
        x = waves(rng)
        if stage.sick and 165 <= step < 171:
            x = x + 25.0
        return functional.mse_loss(model(x[:, None, :-1])[:, 0], x[:, 1:])

    return fit(stage, model, optimizer, loss_of, num_steps=290, clip=1.0)


@faulty(
    "linear-attention-memory-kept",
    Fault(kind="weight_corruption", at=200, pace="fast", layers=("mixers.0",),
          accept=("loss_spike",)),
    arch="linear attention", optimizer="AdamW",
)  # fmt: skip
def memory_kept(stage: Stage) -> Iterator[float]:
    """A merge of two checkpoints at step 200 takes the first mixer's projections from another
    training: the right shapes and sizes, but strange weights."""
    model = LinearReader(16)
    stranger = LinearReader(16)
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)

    def merge(step: int) -> None:
        if stage.sick and step == 200:
            with torch.no_grad():
                for mine, other in zip(
                    model.mixers[0].parameters(), stranger.mixers[0].parameters(), strict=True
                ):
                    mine.copy_(3 * other)

    return fit(stage, model, optimizer, recalls(stage, model), num_steps=320, before=merge)


@faulty(
    "reservoir-radius-above-one",
    Fault(kind="saturation", at=110, pace="fast", layers=("readout",),
          accept=("loss_spike", "bad_batch", "divergence")),
    arch="echo state network", optimizer="SGD",
)  # fmt: skip
def radius_above_one(stage: Stage) -> Iterator[float]:
    """The fixed recurrent matrix is rescaled to a radius of 12 instead of 0.9 at step 110: states
    jump between one and minus one, and tell nothing of the input."""
    model = Reservoir(size=64)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02)
    rng = stage.generator()

    def rescale(step: int) -> None:
        if stage.sick and step == 110:
            model.get_buffer("inner").mul_(12 / 0.9)

    def loss_of(step: int) -> torch.Tensor:
        x = waves(rng, length=24)
        return functional.mse_loss(model(x[:, :-1]), x[:, 1:])

    return fit(stage, model, optimizer, loss_of, num_steps=250, before=rescale)


@faulty(
    "graph-attention-sharpens",
    Fault(kind="attention_logit_growth", at=70, severity="warning",
          layers=("conv1",), accept=("weight_corruption", "explosion", "saturation"),
          onset=LeavesTwin(series="attn_logit_max", factor=1.6, num=3)),
    arch="graph attention", optimizer="Adam",
)  # fmt: skip
def graph_sharpens(stage: Stage) -> Iterator[float]:
    """The two score vectors of the first layer are normalised by the wrong norm and grow by 2.2 % a
    step from step 70 on: each node ends with one neighbour."""
    model = Attended()
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)

    def grow(step: int) -> None:
        if stage.sick and step >= 70:
            with torch.no_grad():
                for name in ("source", "target"):
                    model.get_parameter(f"conv1.{name}").mul_(1.022)

    def log() -> dict[str, Any]:
        return {"attn_logit_max": model.attn_logit_max()}

    loss_of = citations(stage, model)
    return fit(stage, model, optimizer, loss_of, num_steps=260, before=grow, log=log)


@faulty(
    "sets-momentum-corrupted",
    Fault(kind="update_too_large", at=175, pace="fast", layers=("phi.2",),
          accept=("weight_corruption",)),
    arch="deep sets", optimizer="SGD momentum",
)  # fmt: skip
def momentum_corrupted(stage: Stage) -> Iterator[float]:
    """The momentum of one matrix comes back from a checkpoint in the units of a summed loss at step
    175: four hundred times too large, and it takes tens of steps to fade."""
    model = SetNet()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)

    def corrupt(step: int) -> None:
        if stage.sick and step == 175:
            weight = model.get_parameter("phi.2.weight")
            optimizer.state[weight]["momentum_buffer"].mul_(400.0)

    loss_of = shapes(stage, model)
    return fit(
        stage, model, optimizer, loss_of, num_steps=300, before=corrupt, clip=1.0
    )  # fmt: skip


@faulty(
    "gru-head-not-in-optimizer",
    Fault(kind="update_too_small", at=120, pace="fast", layers=("head",), severity="warning",
          accept=("plateau", "vanishing_gradient"),
          shows=Crosses(series="update:head.weight", below=1e-12, num=5, since=120)),
    arch="GRU", optimizer="SGD momentum",
)  # fmt: skip
def head_not_in_optimizer(stage: Stage) -> Iterator[float]:
    """A restart at step 120 builds the head's group with a rate of nought: it has gradients as ever
    and does not move again, while everything below adapts to it."""
    model = Recurrent("gru", width=32)
    head = list(model.head.parameters())
    rest = [p for n, p in model.named_parameters() if not n.startswith("head")]
    optimizer = torch.optim.SGD([{"params": rest}, {"params": head}], lr=0.5, momentum=0.9)
    draw = text_batches(stage.generator(), context=16)

    def lose(step: int) -> None:
        if stage.sick and step == 120:
            optimizer.param_groups[1]["lr"] = 0.0

    def loss_of(step: int) -> torch.Tensor:
        x, y = draw()
        return functional.cross_entropy(model(x).flatten(0, 1), y.flatten())

    return fit(stage, model, optimizer, loss_of, num_steps=300, before=lose, clip=1.0)
