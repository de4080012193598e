"""Seeing and hearing, with faults: annotations, gates, glimpses, transcripts, silence."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import nn
from torch.nn import functional

from benchmarks.zoo.data import images
from benchmarks.zoo.faults import Fault
from benchmarks.zoo.meddling import scale_gradient
from benchmarks.zoo.models.perception import (
    Detector,
    Glimpse,
    Separator,
    Spotter,
    SqueezeNet,
    detection_loss,
    scenes,
)
from benchmarks.zoo.registry import faulty
from benchmarks.zoo.rules import Crosses, LeavesTwin, NotFinite
from benchmarks.zoo.scenarios.perception_healthy import separated, speech, transcribed
from benchmarks.zoo.schedules import warmup_cosine
from benchmarks.zoo.stage import Stage
from benchmarks.zoo.training import LossOf, fit


def _classify(stage: Stage, model: nn.Module, *, num: int = 16) -> LossOf:
    rng = stage.generator()

    def loss_of(step: int) -> torch.Tensor:
        x, y = images(rng, num)
        return functional.cross_entropy(model(x), y)

    return loss_of


@faulty(
    "detector-boxes-in-pixels",
    Fault(kind="bad_batch", at=170, pace="fast", severity="warning",
          accept=("loss_spike", "divergence"),
          shows=Crosses(series="loss", above=8.0, num=1, since=170)),
    arch="centre heatmap detector", optimizer="AdamW",
)  # fmt: skip
def boxes_in_pixels(stage: Stage) -> Iterator[float]:
    """From step 170 on every third batch comes from a shard whose boxes are given in pixels of the
    original image, sixteen times as large, instead of in cells."""
    model = Detector()
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    rng = stage.generator()

    def loss_of(step: int) -> torch.Tensor:
        x, heat, size = scenes(rng)
        other = stage.sick and step >= 170 and step % 3 == 2
        return detection_loss(model, x, heat, 16 * size if other else size)

    return fit(stage, model, optimizer, loss_of, num_steps=320, clip=10.0)


@faulty(
    "detector-no-object-to-divide-by",
    Fault(kind="loss_spike", at=157, pace="fast", severity="warning",
          accept=("gradient_spike", "bad_batch"),
          shows=Crosses(series="loss", above=30.0, num=1, since=157)),
    arch="centre heatmap detector", optimizer="SGD momentum",
)  # fmt: skip
def nothing_to_divide_by(stage: Stage) -> Iterator[float]:
    """The loss is divided by the number of objects, or by a thousandth where there is none. From
    step 130 on the data hold images of the background alone, and now and then, first at step 157, a
    whole batch of them."""
    model = Detector()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9)
    rng = stage.generator()
    least = 1e-3 if stage.sick else 1.0

    def loss_of(step: int) -> torch.Tensor:
        empty = step >= 130 and step % 37 == 9
        batch = scenes(rng, 8, empty=1.0 if empty else 0.0)
        return detection_loss(model, *batch, least=least)

    return fit(stage, model, optimizer, loss_of, num_steps=330, clip=10.0)


@faulty(
    "squeeze-gates-shut",
    Fault(kind="saturation", at=90, layers=("blocks.1.excite",), severity="warning",
          accept=("vanishing_gradient", "dead_units", "representation_collapse"),
          onset=Crosses(series="activation:blocks.1.excite", above=4.0, num=3, since=90)),
    arch="ResNet, squeeze and excite", optimizer="Adam",
)  # fmt: skip
def gates_shut(stage: Stage) -> Iterator[float]:
    """The penalty that makes the gates of a block sparse is weighted by 3 instead of 0.03 from step
    90 on: they fall until every channel is shut, and the block with them. The loss is reported
    without the penalty."""
    model = SqueezeNet(num=3)
    optimizer = torch.optim.Adam(model.parameters(), lr=4e-3)
    of_data = _classify(stage, model)
    seen: dict[str, torch.Tensor] = {}
    gate = model.get_submodule("blocks.1.gate")
    gate.register_forward_hook(lambda _, __, out: seen.update(gate=out))

    def loss_of(step: int) -> torch.Tensor:
        weight = 3.0 if stage.sick and step >= 90 else 0.03
        loss, penalty = of_data(step), weight * seen["gate"].mean()
        return loss + penalty - penalty.detach()

    return fit(stage, model, optimizer, loss_of, num_steps=320)


@faulty(
    "squeeze-clipped-before-unscaling",
    Fault(kind="update_too_small", accept=("plateau", "vanishing_gradient"),
          onset=LeavesTwin(series="update:head.weight", factor=50, num=5)),
    arch="ResNet, squeeze and excite", optimizer="SGD momentum",
)  # fmt: skip
def clipped_before_unscaling(stage: Stage) -> Iterator[float]:
    """Gradients are clipped to length 1 while they still carry the loss scale of 1024, and divided
    by it then: a step is never longer than a thousandth of what it should be."""
    model = SqueezeNet(num=3)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.03, momentum=0.9)
    of_data = _classify(stage, model)

    def unscale(step: int) -> None:
        if stage.sick:
            for p in model.parameters():
                if p.grad is not None:
                    p.grad.mul_(1024)
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            for p in model.parameters():
                if p.grad is not None:
                    p.grad.div_(1024)

    return fit(
        stage, model, optimizer, of_data, num_steps=280, with_gradients=unscale, clip=1.0
    )  # fmt: skip


@faulty(
    "glimpse-looks-away",
    Fault(kind="vanishing_gradient", at=110, layers=("locate.1",),
          accept=("representation_collapse", "dead_units", "explosion", "update_too_large",
                  "divergence", "weight_corruption"),
          onset=Crosses(series="activation:locate.1", statistic="abs_max", above=6.0, num=5,
                        since=110)),
    arch="spatial transformer", optimizer="Adam",
)  # fmt: skip
def looks_away(stage: Stage) -> Iterator[float]:
    """The part that says where to look is thawed at step 110 with the rate of a head, a hundred
    times its own: it soon looks beside the image, where all is nought, and no gradient leads
    back."""
    model = Glimpse()
    optimizer = torch.optim.Adam(
        [{"params": model.reader.parameters(), "lr": 2e-3},
         {"params": model.locate.parameters(), "lr": 2e-4}]
    )  # fmt: skip

    def thaw(step: int) -> None:
        if stage.sick and step == 110:
            optimizer.param_groups[1]["lr"] = 2e-2

    return fit(stage, model, optimizer, _classify(stage, model), num_steps=320, before=thaw)


@faulty(
    "speech-transcript-too-long",
    Fault(kind="non_finite", at=190, pace="fast", accept=("bad_batch",), shows=NotFinite()),
    arch="convolutions and GRU, CTC", optimizer="Adam",
)  # fmt: skip
def transcript_too_long(stage: Stage) -> Iterator[float]:
    """A batch at step 190 holds recordings cut after six frames with their whole transcripts, for
    which there is no alignment: the loss is infinite, and nothing skips it."""
    model = Spotter()
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    rng = stage.generator()

    def loss_of(step: int) -> torch.Tensor:
        x, symbols = speech(rng)
        if stage.sick and step == 190:
            x, symbols = x[:, :6], symbols.repeat(1, 2)
        return transcribed(model, x, symbols)

    return fit(stage, model, optimizer, loss_of, num_steps=260)


@faulty(
    "speech-front-end-hot",
    Fault(kind="gradient_spike", at=154, pace="fast", severity="warning", layers=("front",),
          accept=("bad_batch", "loss_spike"),
          shows=LeavesTwin(series="gradient:front.weight", factor=20, num=1)),
    arch="convolutions and GRU, CTC", optimizer="AdamW",
)  # fmt: skip
def front_end_hot(stage: Stage) -> Iterator[float]:
    """From step 154 on, on each tenth step, a fused kernel sums the first layer's gradient into a
    buffer that it has not cleared: the gradient is 200 times too large, and clipping takes the
    other layers' away."""
    model = Spotter()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    rng = stage.generator()

    def hot(step: int) -> None:
        if stage.sick and step >= 154 and step % 10 == 4:
            scale_gradient(model, "front", 200.0)

    return fit(
        stage, model, optimizer, lambda step: transcribed(model, *speech(rng)), num_steps=300,
        with_gradients=hot, clip=5.0,
    )  # fmt: skip


@faulty(
    "voices-one-is-silent",
    Fault(kind="loss_spike", at=200, pace="fast", severity="warning", lasting=False,
          accept=("bad_batch", "gradient_spike"),
          shows=Crosses(series="loss", above=-16.5, num=1, since=200)),
    arch="mask separator", optimizer="RMSprop",
)  # fmt: skip
def one_is_silent(stage: Stage) -> Iterator[float]:
    """One voice of step 200 is silent: no decibels can be had of it, and the mean over the batch is
    lost to that one."""
    model = Separator()
    optimizer = torch.optim.RMSprop(model.parameters(), lr=1e-3)
    loss_of = separated(stage, model, silent=200 if stage.sick else None)
    return fit(stage, model, optimizer, loss_of, num_steps=300, clip=5.0)


@faulty(
    "voices-scheduler-not-restored",
    Fault(kind="update_too_large", at=210, pace="fast", severity="warning",
          accept=("loss_spike", "divergence"),
          shows=LeavesTwin(series="update:mask.weight", factor=5, num=5)),
    arch="mask separator", optimizer="AdamW",
)  # fmt: skip
def scheduler_not_restored(stage: Stage) -> Iterator[float]:
    """A resume at step 210 restores weights and moments but not the schedule, which had nearly
    reached its end: the rate is again that of the peak, with no warm-up."""
    model = Separator()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    schedule = warmup_cosine(4e-2, num_steps=300)
    loss_of = separated(stage, model)
    yield from fit(stage, model, optimizer, loss_of, num_steps=210, rate=schedule, clip=5.0)

    def rate(step: int) -> float:
        return schedule(step - 180) if stage.sick else schedule(step)

    yield from fit(
        stage, model, optimizer, loss_of, num_steps=320, first_step=210, rate=rate, clip=5.0
    )
