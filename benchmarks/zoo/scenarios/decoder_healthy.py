"""Decoders of today's make on characters, healthy, under the recipes that look alarming."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from benchmarks.zoo.data import text_batches
from benchmarks.zoo.models.decoder import Decoder
from benchmarks.zoo.optimizers import Lion
from benchmarks.zoo.registry import healthy
from benchmarks.zoo.schedules import one_cycle, warmup_stable_decay
from benchmarks.zoo.stage import Stage
from benchmarks.zoo.training import LossOf, fit, log_z


def reads(
    stage: Stage, model: nn.Module, *, num: int = 8, context: int = 24, salt: int = 0
) -> tuple[LossOf, Callable[[], dict[str, Any]]]:
    """Next-character loss of a decoder, and what is logged beside it."""
    draw = text_batches(stage.generator(salt), num=num, context=context)
    logged: dict[str, Any] = {}

    def loss_of(step: int) -> torch.Tensor:
        x, y = draw()
        logits = model(x)
        logged["log_z"] = log_z(logits)
        if isinstance(model, Decoder):
            logged["attn_logit_max"] = model.attn_logit_max()
        return functional.cross_entropy(logits.flatten(0, 1), y.flatten())

    return loss_of, lambda: logged


@healthy("decoder-stable-decay", arch="RoPE decoder", optimizer="AdamW beta2=0.95")
def stable_decay(stage: Stage) -> Iterator[float]:
    """Warm-up, a long flat rate, and a fall to nought within the last fifth, where the loss drops
    once more and updates fade."""
    model = Decoder()
    optimizer = torch.optim.AdamW(model.parameters(), lr=4e-3, betas=(0.9, 0.95), weight_decay=0.1)
    rate = warmup_stable_decay(4e-3, num_steps=360, warmup=20, decay=80)
    loss_of, log = reads(stage, model)
    return fit(stage, model, optimizer, loss_of, num_steps=360, rate=rate, clip=1.0, log=log)


@healthy("decoder-biases-tied", arch="ALiBi decoder, tied embeddings", optimizer="Lion")
def biases_tied(stage: Stage) -> Iterator[float]:
    """One matrix is embedding and output at once, and every weight of it moves by the rate on each
    step, with a strong decay."""
    model = Decoder(rotary=False, tied=True)
    optimizer = Lion(model.parameters(), 6e-4, decay=0.3)
    loss_of, log = reads(stage, model)
    return fit(stage, model, optimizer, loss_of, num_steps=320, clip=1.0, log=log)


@healthy("decoder-one-cycle", arch="RoPE decoder, one group of keys", optimizer="NAdam")
def cycle(stage: Stage) -> Iterator[float]:
    """The rate climbs twentyfold within 100 steps and falls to a thousandth of its peak."""
    model = Decoder(layers=2, groups=1)
    optimizer = torch.optim.NAdam(model.parameters(), lr=8e-3)
    rate = one_cycle(8e-3, num_steps=340, climb=100)
    loss_of, log = reads(stage, model)
    return fit(stage, model, optimizer, loss_of, num_steps=340, rate=rate, clip=1.0, log=log)


@healthy("decoder-batch-ramp", arch="RoPE decoder", optimizer="AdamW")
def batch_ramp(stage: Stage) -> Iterator[float]:
    """The batch doubles every 70 steps, from 2 sentences to 32, and nobody says so: noise halves
    again and again."""
    model = Decoder(layers=2)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    sources = [reads(stage, model, num=2 << i, context=20, salt=i)[0] for i in range(5)]
    return fit(
        stage, model, optimizer, lambda step: sources[min(4, step // 70)](step), num_steps=350
    )


@healthy("decoder-rows-every-eight", arch="RoPE decoder", optimizer="AdamW")
def rows_every_eight(stage: Stage) -> Iterator[float]:
    """Only every eighth step is logged: a row holds what eight steps did, and step numbers jump by
    eight."""
    model = Decoder(layers=2, width=24)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    loss_of, _ = reads(stage, model, num=4, context=16)
    with stage.watch(model, optimizer) as watch:
        for step in range(1200):
            optimizer.zero_grad()
            loss = loss_of(step)
            torch.autograd.backward(loss)
            optimizer.step()
            if step % 8 == 0:
                watch.step(loss, step=step)
                yield float(loss.detach())


@healthy("decoder-average-evaluated", arch="ALiBi decoder", optimizer="RAdam, averaged weights")
def average_evaluated(stage: Stage) -> Iterator[float]:
    """Every 40 steps the average of the weights is put in place, evaluated, and taken out again."""
    model = Decoder(layers=2, rotary=False)
    average = copy.deepcopy(model)
    optimizer = torch.optim.RAdam(model.parameters(), lr=4e-3)
    loss_of, log = reads(stage, model)
    seen, _ = text_batches(stage.generator(9))()

    @torch.no_grad()
    def follow(step: int) -> None:
        for mean, now in zip(average.parameters(), model.parameters(), strict=True):
            mean.lerp_(now, 0.05)
        if step % 40 == 39:
            kept = [p.clone() for p in model.parameters()]
            model.load_state_dict(average.state_dict())
            model.eval()(seen)
            model.train()
            for now, before in zip(model.parameters(), kept, strict=True):
                now.copy_(before)

    return fit(stage, model, optimizer, loss_of, num_steps=330, after=follow, log=log)


@healthy("decoder-loss-times-1024", arch="RoPE decoder", optimizer="AdamW")
def times_1024(stage: Stage) -> Iterator[float]:
    """The loss is logged as the scaler made it, times 1024, and so are the gradients: thousands
    where others have units."""
    model = Decoder(layers=2)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, eps=1e-5)
    loss_of, _ = reads(stage, model)
    return fit(stage, model, optimizer, lambda step: 1024 * loss_of(step), num_steps=310)


@healthy("decoder-resumed-after-gap", arch="RoPE decoder", optimizer="AdamW")
def resumed_after_gap(stage: Stage) -> Iterator[float]:
    """Rows 150 to 239 were lost with a disk while training went on; the second attempt begins at
    step 240 with all of its state."""
    model = Decoder(layers=2)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    loss_of, log = reads(stage, model)
    yield from fit(stage, model, optimizer, loss_of, num_steps=150, log=log, clip=1.0)
    for step in range(150, 240):
        optimizer.zero_grad()
        torch.autograd.backward(loss_of(step))
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    yield from fit(
        stage, model, optimizer, loss_of, num_steps=400, first_step=240, log=log, clip=1.0
    )
