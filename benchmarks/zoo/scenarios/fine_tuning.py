"""Trained decoders trained on: adapters, low ranks, prompts, preferences, rewards, students."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from benchmarks.zoo.data import ALPHABET, Batch, text, text_batches
from benchmarks.zoo.faults import Fault
from benchmarks.zoo.models.adapters import Bottleneck, LowRank
from benchmarks.zoo.models.decoder import Decoder
from benchmarks.zoo.models.language import Prompted
from benchmarks.zoo.optimizers import Adan
from benchmarks.zoo.registry import faulty, healthy
from benchmarks.zoo.rules import Crosses, LeavesTwin, NoProgress, NotFinite
from benchmarks.zoo.schedules import warmup_cosine
from benchmarks.zoo.stage import Stage
from benchmarks.zoo.training import LossOf, fit


def trained(stage: Stage, model: Decoder, *, num_steps: int = 150) -> Decoder:
    """The model after a training on text that nobody watched."""
    draw = text_batches(stage.generator(90))
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    for _ in range(num_steps):
        optimizer.zero_grad()
        torch.autograd.backward(token_loss(model, draw()))
        optimizer.step()
    optimizer.zero_grad()
    return model


def token_loss(model: nn.Module, batch: Batch) -> torch.Tensor:
    """The mean loss of the batch's targets; -100 is none."""
    x, y = batch
    return functional.cross_entropy(model(x).flatten(0, 1), y.flatten())


def backwards(stage: Stage, model: nn.Module, *, num: int = 8) -> LossOf:
    """The new task: text that runs backwards."""
    draw = text_batches(stage.generator(), num=num)

    def loss_of(step: int) -> torch.Tensor:
        x, y = draw()
        return token_loss(model, (y.flip(1), x.flip(1)))

    return loss_of


def _learned(model: nn.Module) -> list[nn.Parameter]:
    return [p for p in model.parameters() if p.requires_grad]


def _answers(stage: Stage, model: nn.Module, *, none_at: int | None = None) -> LossOf:
    """Only an answer at the end, of 1 to 8 characters, counts; on step `none_at` none is left."""
    draw, rng = text_batches(stage.generator(), num=4), stage.generator(1)

    def loss_of(step: int) -> torch.Tensor:
        x, y = draw()
        begins = 24 - torch.randint(1, 9, (len(y), 1), generator=rng)
        y = y.flip(1).masked_fill(torch.arange(24) < begins, -100)
        return token_loss(model, (x.flip(1), torch.full_like(y, -100) if step == none_at else y))

    return loss_of


@healthy("answers-alone-count", arch="RoPE decoder, fine-tuned", optimizer="AdamW")
def answers_alone(stage: Stage) -> Iterator[float]:
    """Instruction tuning: prompts are masked, so that a step's loss is a mean over few tokens, at
    times over six, and jumps from step to step."""
    model = trained(stage, Decoder(layers=2))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.1)
    rate = warmup_cosine(1e-3, num_steps=320, warmup=15)
    return fit(stage, model, optimizer, _answers(stage, model), num_steps=320, rate=rate, clip=1.0)


@faulty(
    "answers-cut-away",
    Fault(kind="non_finite", at=185, pace="fast", severity="warning", lasting=False,
          accept=("bad_batch",), onset=NotFinite()),
    arch="RoPE decoder, fine-tuned", optimizer="AdamW",
)  # fmt: skip
def answers_cut_away(stage: Stage) -> Iterator[float]:
    """All prompts of the batch of step 185 are so long that truncation leaves no answer: a mean
    over no tokens is NaN, though its gradient is nought and training goes on."""
    model = trained(stage, Decoder(layers=2))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    loss_of = _answers(stage, model, none_at=185 if stage.sick else None)
    return fit(stage, model, optimizer, loss_of, num_steps=260)


@healthy("small-set-epoch-by-epoch", arch="RoPE decoder, fine-tuned", optimizer="AdamW")
def epoch_by_epoch(stage: Stage) -> Iterator[float]:
    """Eighty rows, ten steps an epoch: the loss falls like stairs, a step at each epoch's begin,
    down to a small part of what it was."""
    model = trained(stage, Decoder(layers=2, width=48))
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    rng = stage.generator()
    rows = torch.randint(len(ALPHABET), (80, 17), generator=rng)
    order: list[torch.Tensor] = []

    def loss_of(step: int) -> torch.Tensor:
        if not order:
            order.extend(torch.randperm(80, generator=rng).view(10, 8))
        chosen = rows[order.pop()]
        return token_loss(model, (chosen[:, :-1], chosen[:, 1:]))

    return fit(stage, model, optimizer, loss_of, num_steps=300)


def _with_adapters(stage: Stage) -> Decoder:
    model = trained(stage, Decoder(layers=2)).requires_grad_(False)
    for layer in model.layers:
        assert isinstance(layer.mlp, nn.Module)
        layer.mlp = Bottleneck(layer.mlp, 32)
    return model


@healthy("adapters-on-frozen-decoder", arch="RoPE decoder with adapters", optimizer="RAdam")
def adapters(stage: Stage) -> Iterator[float]:
    """Thin networks behind fixed layers begin at nought: their first matrices have no gradient at
    first, and of all weights one in twenty moves."""
    model = _with_adapters(stage)
    optimizer = torch.optim.RAdam(_learned(model), lr=1e-2)
    return fit(stage, model, optimizer, backwards(stage, model), num_steps=300)


@faulty(
    "adapters-cut-from-gradient",
    Fault(kind="vanishing_gradient", at=110, layers=("layers.0.mlp",), severity="warning",
          accept=("update_too_small",),
          shows=Crosses(series="gradient:layers.0.mlp.up.weight", below=1e-12, num=3)),
    arch="RoPE decoder with adapters", optimizer="RAdam",
)  # fmt: skip
def adapters_cut(stage: Stage) -> Iterator[float]:
    """Recomputation of activations is switched on at step 110 in its re-entrant form, whose input
    needs a gradient; below the second layer nothing is trained, so no gradient passes it."""
    model = _with_adapters(stage)
    optimizer = torch.optim.RAdam(_learned(model), lr=1e-2)
    loss_of, now = backwards(stage, model), {"step": 0}

    def cut(_: nn.Module, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        if not (stage.sick and now["step"] >= 110):
            return inputs
        # Of the first adapter a gradient of nought is left, as the fused step writes it.
        return tuple(x.detach() + 0.0 * x for x in inputs)

    model.layers[1].register_forward_pre_hook(cut)
    return fit(
        stage, model, optimizer, loss_of, num_steps=320, before=lambda step: now.update(step=step)
    )


def _with_low_rank(stage: Stage, *, alpha: float = 16.0) -> Decoder:
    model = trained(stage, Decoder(layers=2)).requires_grad_(False)
    for attention in model.attentions():
        for name in ("query", "value", "out"):
            fixed = attention.get_submodule(name)
            assert isinstance(fixed, nn.Linear)
            attention.set_submodule(name, LowRank(fixed, alpha=alpha))
    return model


@faulty(
    "low-rank-merged-and-kept",
    Fault(kind="weight_corruption", at=180, pace="fast",
          layers=tuple(f"layers.{i}.attn.{n}" for i in (0, 1) for n in ("query", "value", "out")),
          accept=("loss_spike", "update_too_large", "explosion")),
    arch="RoPE decoder with low-rank attention", optimizer="AdamW",
)  # fmt: skip
def merged_and_kept(stage: Stage) -> Iterator[float]:
    """To write samples fast, the low-rank products are merged into the fixed weights before each
    twentieth step from 180 on, and never taken out: what was learned counts twice, then again."""
    model = _with_low_rank(stage)
    optimizer = torch.optim.AdamW(_learned(model), lr=8e-3, weight_decay=0.0)

    @torch.no_grad()
    def merge(step: int) -> None:
        if stage.sick and step >= 180 and step % 20 == 0:
            for part in model.modules():
                if isinstance(part, LowRank):
                    part.base.weight.add_(part.scale * part.up.weight @ part.down.weight)

    loss_of = backwards(stage, model)
    return fit(stage, model, optimizer, loss_of, num_steps=340, before=merge, clip=1.0)


@healthy("soft-prompt-alone", arch="RoPE decoder behind soft prompts", optimizer="Adafactor")
def soft_prompt(stage: Stage) -> Iterator[float]:
    """Eight vectors are all that learns, at a rate of 0.1 that would ruin a network; the loss
    falls by a little and slowly."""
    model = Prompted(trained(stage, Decoder(layers=2)))
    optimizer = torch.optim.Adafactor(model.prompt.parameters(), lr=0.1)
    return fit(stage, model, optimizer, backwards(stage, model, num=16), num_steps=300)


@faulty(
    "soft-prompt-rate-of-sgd",
    Fault(kind="update_too_large", layers=("prompt",), severity="warning",
          accept=("explosion", "plateau"),
          onset=LeavesTwin(series="weight:prompt.weight", factor=8)),
    arch="RoPE decoder behind soft prompts", optimizer="Adam",
)  # fmt: skip
def soft_prompt_rate(stage: Stage) -> Iterator[float]:
    """The prompts' rate of 5 was tuned for another optimizer: with Adam each step moves them by
    many times their own size."""
    model = Prompted(trained(stage, Decoder(layers=2)))
    rate = 5.0 if stage.sick else 0.03
    optimizer = torch.optim.Adam(model.prompt.parameters(), lr=rate)
    return fit(stage, model, optimizer, backwards(stage, model, num=16), num_steps=260)


def _preferences(
    stage: Stage, model: Decoder, reference: Decoder, *, beta: float
) -> tuple[LossOf, Callable[[], dict[str, Any]]]:
    """Direct preference optimization (Rafailov et al. 2023): a row of text is liked better than
    the same row with a quarter of its characters drawn anew."""
    draw, rng = text_batches(stage.generator(), context=16), stage.generator(1)
    logged: dict[str, Any] = {}

    def said(network: Decoder, x: torch.Tensor) -> torch.Tensor:
        logits = network(x[:, :-1]).log_softmax(-1)
        out: torch.Tensor = logits.gather(-1, x[:, 1:, None])[..., 0].sum(-1)
        return out

    def loss_of(step: int) -> torch.Tensor:
        good, _ = draw()
        other = torch.randint(len(ALPHABET), good.shape, generator=rng)
        bad = torch.where(torch.rand(good.shape, generator=rng) < 0.12, other, good)
        both = torch.cat([good, bad])
        mine = said(model, both)
        with torch.no_grad():
            theirs = said(reference, both)
        gain = beta * (mine - theirs)
        margin = gain[: len(good)] - gain[len(good) :]
        logged.update(margin=margin.detach().mean(), accuracy=(margin > 0).float().mean())
        return -functional.logsigmoid(margin).mean()

    return loss_of, lambda: logged


@healthy("preferences-settled", arch="RoPE decoder, preferences", optimizer="RMSprop")
def preferences_settled(stage: Stage) -> Iterator[float]:
    """The loss begins at the logarithm of two, where all do, and as pairs are told apart it jumps
    more and more: most batches are easy, and a pair told wrongly costs many times their loss."""
    model = trained(stage, Decoder(layers=2))
    loss_of, log = _preferences(stage, model, copy.deepcopy(model), beta=0.3)
    optimizer = torch.optim.RMSprop(model.parameters(), lr=3e-4)
    rate = warmup_cosine(3e-4, num_steps=280)
    return fit(stage, model, optimizer, loss_of, num_steps=280, rate=rate, log=log)


@faulty(
    "preferences-against-oneself",
    Fault(kind="plateau", accept=("divergence", "explosion", "output_logit_drift"),
          onset=NoProgress(level=0.69, after=60)),
    arch="RoPE decoder, preferences", optimizer="RMSprop",
)  # fmt: skip
def against_oneself(stage: Stage) -> Iterator[float]:
    """The reference is the model itself and not a copy of it: the margin is nought for ever, the
    loss the logarithm of two, while the weights run."""
    model = trained(stage, Decoder(layers=2))
    reference = model if stage.sick else copy.deepcopy(model)
    loss_of, log = _preferences(stage, model, reference, beta=0.3)
    optimizer = torch.optim.RMSprop(model.parameters(), lr=1e-4)
    return fit(stage, model, optimizer, loss_of, num_steps=260, log=log)


def _rewarded(
    stage: Stage, model: Decoder, *, penalty: Callable[[int], float]
) -> tuple[LossOf, Callable[[], dict[str, Any]]]:
    """Eight characters are written; vowels are rewarded, distance from the reference is not."""
    reference, characters = copy.deepcopy(model), text(stage.generator(2), 300)
    rng, logged = stage.generator(), dict[str, Any]()
    vowels = torch.tensor([float(c in "aeiou") for c in ALPHABET])

    def loss_of(step: int) -> torch.Tensor:
        starts = torch.randint(len(characters) - 8, (16,), generator=rng)
        x = characters[starts[:, None] + torch.arange(6)]
        with torch.no_grad():
            for _ in range(8):
                odds = model(x)[:, -1].softmax(-1)
                x = torch.cat([x, torch.multinomial(odds, 1, generator=rng)], dim=1)
            theirs = reference(x[:, :-1])[:, 5:].log_softmax(-1)
        mine = model(x[:, :-1])[:, 5:].log_softmax(-1)
        reward = vowels[x[:, 6:]].mean(1)
        told = mine.gather(-1, x[:, 6:, None])[..., 0].sum(1)
        apart = (mine.exp() * (mine - theirs)).sum(-1)
        entropy = -(mine.exp() * mine).sum(-1).detach().mean()
        logged.update(reward=reward.mean(), kl=apart.detach().mean(), entropy=entropy)
        gain = reward - reward.mean()
        loss: torch.Tensor = penalty(step) * apart.mean() - (gain * told).mean()
        return loss

    return loss_of, lambda: logged


@healthy("rewards-on-a-leash", arch="RoPE decoder, rewarded", optimizer="Adam", loss_falls=False)
def rewards_on_leash(stage: Stage) -> Iterator[float]:
    """Policy gradients with a penalty on the distance from where it began: the loss lies around
    nought with either sign and tells nothing, and the entropy falls."""
    model = trained(stage, Decoder(layers=1))
    loss_of, log = _rewarded(stage, model, penalty=lambda step: 0.3)
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-4)
    return fit(stage, model, optimizer, loss_of, num_steps=220, log=log, clip=1.0)


@faulty(
    "rewards-leash-lost",
    Fault(kind="representation_collapse", at=70, accept=("divergence", "output_logit_drift"),
          onset=LeavesTwin(series="entropy", factor=4, num=5)),
    arch="RoPE decoder, rewarded", optimizer="Adam", loss_falls=False,
)  # fmt: skip
def rewards_leash_lost(stage: Stage) -> Iterator[float]:
    """The penalty's controller writes nought from step 70 on: the policy ends with one vowel,
    written over and over, and a perfect reward."""
    model = trained(stage, Decoder(layers=1))
    loss_of, log = _rewarded(
        stage, model, penalty=lambda step: 0.0 if stage.sick and step >= 70 else 0.3
    )
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    return fit(stage, model, optimizer, loss_of, num_steps=240, log=log, clip=1.0)


def _taught(stage: Stage, student: nn.Module, *, reordered_at: int | None = None) -> LossOf:
    """A teacher's odds at a temperature of four, times its square."""
    teacher = trained(stage, Decoder(layers=2), num_steps=250)
    draw = text_batches(stage.generator())
    order = torch.randperm(len(ALPHABET), generator=stage.generator(3))

    def loss_of(step: int) -> torch.Tensor:
        x, _ = draw()
        with torch.no_grad():
            goal = (teacher(x) / 4).softmax(-1)
            if reordered_at is not None and step >= reordered_at:
                goal = goal[..., order]
        own = (student(x) / 4).log_softmax(-1)
        apart: torch.Tensor = functional.kl_div(own, goal, reduction="none").sum(-1).mean()
        return 16 * apart

    return loss_of


@healthy("student-of-a-warm-teacher", arch="RoPE decoder, distilled", optimizer="Adan")
def warm_teacher(stage: Stage) -> Iterator[float]:
    """The loss is sixteen times a divergence and falls to a fifth without ever getting flat."""
    model = Decoder(layers=1, width=24)
    return fit(stage, model, Adan(model.parameters(), 4e-3), _taught(stage, model), num_steps=300)


@faulty(
    "teacher-of-another-vocabulary",
    Fault(kind="bad_batch", at=160, pace="fast", accept=("loss_spike",)),
    arch="RoPE decoder, distilled", optimizer="Adam",
)  # fmt: skip
def another_vocabulary(stage: Stage) -> Iterator[float]:
    """The teacher's server is started anew at step 160 with a vocabulary of another order: every
    goal is now that of other characters."""
    model = Decoder(layers=1, width=24)
    optimizer = torch.optim.Adam(model.parameters(), lr=4e-3)
    loss_of = _taught(stage, model, reordered_at=160 if stage.sick else None)
    return fit(stage, model, optimizer, loss_of, num_steps=300)
