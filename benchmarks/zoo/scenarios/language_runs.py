"""How language models are run: ranks, shards, half precision, checkpoints, newer optimizers."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from benchmarks.zoo.data import text_batches
from benchmarks.zoo.faults import Fault
from benchmarks.zoo.meddling import groups
from benchmarks.zoo.models.decoder import Decoder
from benchmarks.zoo.models.language import SelectiveLayer, Stack
from benchmarks.zoo.models.recurrent import Recurrent
from benchmarks.zoo.models.transformer import GPT, FeedForward
from benchmarks.zoo.optimizers import OrthogonalMomentum, ScheduleFree
from benchmarks.zoo.registry import faulty, healthy
from benchmarks.zoo.rules import Crosses, LeavesTwin, ScalarsDiffer
from benchmarks.zoo.scenarios.decoder_healthy import reads
from benchmarks.zoo.scenarios.fine_tuning import trained
from benchmarks.zoo.schedules import warmup_stable_decay
from benchmarks.zoo.stage import Stage
from benchmarks.zoo.training import fit


@healthy("decoder-without-schedule", arch="ALiBi decoder", optimizer="schedule-free Adam")
def without_schedule(stage: Stage) -> Iterator[float]:
    """The rate never falls; the weights are drawn to a running mean, so that updates get smaller
    by themselves while the loss goes on falling."""
    model = Decoder(layers=2, rotary=False)
    optimizer = ScheduleFree(model.parameters(), 1.5e-2)
    loss_of, log = reads(stage, model)
    return fit(stage, model, optimizer, loss_of, num_steps=320, log=log)


@healthy("blocks-skipped-at-random", arch="GPT pre-norm, layers dropped", optimizer="Muon")
def blocks_skipped(stage: Stage) -> Iterator[float]:
    """Each block's feed-forward part is left out on three steps in ten: its gradients are nought
    then, and the loss is higher, while orthogonal updates are as large as ever."""
    model = GPT(layers=4, inner=Skipped)
    matrices = [p for n, p in model.named_parameters() if "blocks" in n]
    others = [p for n, p in model.named_parameters() if "blocks" not in n]
    optimizer = OrthogonalMomentum(matrices, 0.01)
    optimizer.add_param_group({"params": others, "lr": 0.5})
    skipped = [m for m in model.modules() if isinstance(m, Skipped)]
    rng = stage.generator(1)

    def choose(step: int) -> None:
        for part, odds in zip(skipped, torch.rand(len(skipped), generator=rng), strict=True):
            part.share = 0.0 if odds < 0.3 else 1.0

    loss_of, _ = reads(stage, model)
    return fit(stage, model, optimizer, loss_of, num_steps=280, before=choose)


class Skipped(FeedForward):
    """A feed-forward layer that may be silent."""

    share = 1.0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Same shape as `x`."""
        return super().forward(x) * self.share


def _ranks(
    stage: Stage,
    *,
    num_steps: int,
    reduced: bool = True,
    meet: Callable[[int, list[Decoder]], None] | None = None,
) -> Iterator[float]:
    """Two ranks, each with its own text; gradients are averaged where `reduced`, and `meet` acts
    on the weights behind a step. Sums of the weights are logged where they are to be equal."""
    models = [Decoder(layers=1)]
    models.append(copy.deepcopy(models[0]))
    optimizers = [torch.optim.AdamW(m.parameters(), lr=4e-3) for m in models]
    draws = [text_batches(stage.generator(r), num=4, context=16) for r in range(2)]
    pairs = enumerate(zip(models, optimizers, strict=True))
    watches = [stage.watch(m, o, rank=r, world=2) for r, (m, o) in pairs]
    try:
        for step in range(num_steps):
            losses = []
            for model, draw in zip(models, draws, strict=True):
                x, y = draw()
                model.zero_grad()
                losses.append(functional.cross_entropy(model(x).flatten(0, 1), y.flatten()))
                torch.autograd.backward(losses[-1])
            for a, b in zip(models[0].parameters(), models[1].parameters(), strict=True):
                assert a.grad is not None
                assert b.grad is not None
                if reduced:
                    mean = (a.grad + b.grad) / 2
                    a.grad.copy_(mean)
                    b.grad.copy_(mean)
            for optimizer in optimizers:
                optimizer.step()
            if meet is not None:
                meet(step, models)
            for model, watch, loss in zip(models, watches, losses, strict=True):
                if reduced:
                    total = sum(p.detach().double().sum() for p in model.parameters())
                    watch.log(weight_checksum=float(total))
                watch.step(loss)
            yield float(torch.stack(losses).detach().mean())
    finally:
        for watch in watches:
            watch.close()


@healthy("ranks-meet-every-twelve", arch="RoPE decoder, two ranks", optimizer="AdamW, local steps")
def meet_every_twelve(stage: Stage) -> Iterator[float]:
    """Local steps (DiLoCo in its plainest form): each rank learns on its own, and every twelve
    steps both take the mean of their weights, which moves them at once."""

    @torch.no_grad()
    def meet(step: int, models: list[Decoder]) -> None:
        if step % 12 == 11:
            for a, b in zip(models[0].parameters(), models[1].parameters(), strict=True):
                a.lerp_(b, 0.5)
                b.copy_(a)

    return _ranks(stage, num_steps=300, reduced=False, meet=meet)


@faulty(
    "shard-never-sent",
    Fault(kind="replica_divergence", at=140, severity="warning",
          layers=("rank1/layers.0.mlp",), accept=("update_too_small",),
          onset=ScalarsDiffer(first="weight_checksum_rank0", second="weight_checksum_rank1")),
    arch="RoPE decoder, two ranks", optimizer="AdamW, sharded",
)  # fmt: skip
def shard_never_sent(stage: Stage) -> Iterator[float]:
    """Each rank steps a shard of the weights and sends it to the other; from step 140 on that of
    the feed-forward layer is not sent: the second rank keeps what it had."""
    kept: list[torch.Tensor] = []

    @torch.no_grad()
    def meet(step: int, models: list[Decoder]) -> None:
        mine = list(models[1].get_submodule("layers.0.mlp").parameters())
        if stage.sick and step >= 140:
            for p, old in zip(mine, kept, strict=True):
                p.copy_(old)
        else:
            kept[:] = [p.clone() for p in mine]

    return _ranks(stage, num_steps=320, meet=meet)


@faulty(
    "second-moments-in-half",
    Fault(kind="precision_underflow", at=150, pace="fast",
          accept=("update_too_large", "divergence", "explosion", "loss_spike"),
          shows=LeavesTwin(series="update:embed.weight", factor=10, num=2)),
    arch="RoPE decoder", optimizer="Adam, state in float16",
)  # fmt: skip
def moments_in_half(stage: Stage) -> Iterator[float]:
    """The loss has a weight of an eighth, as in a mixture. To save memory the state of Adam
    is held in float16 from step 150 on: squares of small gradients are flushed to nought, and
    where they were divided by, steps are huge."""
    model = Decoder(layers=2)
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)

    def hold(step: int) -> None:
        if stage.sick and step >= 150:
            for state in optimizer.state.values():
                for name in ("exp_avg", "exp_avg_sq"):
                    state[name].copy_(state[name].half())

    loss_of, log = reads(stage, model)
    return fit(
        stage, model, optimizer, lambda step: loss_of(step) / 8, num_steps=300, before=hold, log=log
    )


@faulty(
    "clipped-before-unscaled",
    Fault(kind="update_too_small", at=120, severity="warning",
          accept=("vanishing_gradient", "plateau"),
          shows=LeavesTwin(series="update:head.weight", factor=20)),
    arch="LSTM, 2 layers", optimizer="SGD Nesterov, scaled loss",
)  # fmt: skip
def clipped_before_unscaled(stage: Stage) -> Iterator[float]:
    """From step 120 on the loss is scaled by 4096 for float16 and gradients are unscaled, but
    clipping comes first: lengths of thousands are cut to one, and then divided."""
    model = Recurrent("lstm", layers=2)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0, momentum=0.9, nesterov=True)
    loss_of, _ = reads(stage, model)
    with stage.watch(model, optimizer) as watch:
        for step in range(340):
            scale = 4096.0 if step >= 120 else 1.0
            optimizer.zero_grad()
            loss = loss_of(step)
            torch.autograd.backward(loss * scale)
            if stage.sick:
                nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            for p in model.parameters():
                if p.grad is not None:
                    p.grad.div_(scale)
            if not stage.sick:
                nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            watch.step(loss)
            yield float(loss.detach())


@faulty(
    "restored-but-for-prefixes",
    Fault(kind="weight_corruption", at=200, pace="fast",
          layers=tuple(f"layers.{i}" for i in range(2)),
          accept=("loss_spike", "update_too_large", "bad_batch")),
    arch="selective state space", optimizer="AdamW",
)  # fmt: skip
def restored_prefixes(stage: Stage) -> Iterator[float]:
    """After a stop at step 200 names in the checkpoint have a prefix that the layers' lack, and
    loading is not strict: embedding and head come back, all layers begin anew, and the
    optimizer's state is that of the old ones."""
    model = Stack([SelectiveLayer(32) for _ in range(2)])
    fresh = Stack([SelectiveLayer(32) for _ in range(2)])
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    loss_of, _ = reads(stage, model, context=16)
    yield from fit(stage, model, optimizer, loss_of, num_steps=200, clip=1.0)
    if stage.sick:
        model.layers.load_state_dict(fresh.layers.state_dict())
    yield from fit(stage, model, optimizer, loss_of, num_steps=320, first_step=200, clip=1.0)


@faulty(
    "forgetting-without-bound",
    Fault(kind="divergence", at=120,
          accept=("explosion", "output_logit_drift", "update_too_large"),
          onset=LeavesTwin(series="loss", factor=2, num=5)),
    arch="ALiBi decoder, fine-tuned", optimizer="RAdam",
)  # fmt: skip
def forgetting(stage: Stage) -> Iterator[float]:
    """From step 120 on eight texts are to be forgotten, by climbing their loss beside what is
    learned. Nothing bounds the climb, and after a while all else is forgotten with it."""
    model = trained(stage, Decoder(layers=2, rotary=False))
    optimizer = torch.optim.RAdam(model.parameters(), lr=2e-3)
    loss_of, _ = reads(stage, model)
    secret, known = text_batches(stage.generator(4))()

    def both(step: int) -> torch.Tensor:
        loss = loss_of(step)
        if stage.sick and step >= 120:
            told = functional.cross_entropy(model(secret).flatten(0, 1), known.flatten())
            loss = loss - told + told.detach()
        return loss

    return fit(stage, model, optimizer, both, num_steps=300)


@faulty(
    "head-decay-of-another-sign",
    Fault(kind="output_logit_drift", at=110, layers=("lm_head",), severity="warning",
          accept=("explosion", "divergence"),
          onset=LeavesTwin(series="logit_size", factor=2.5, num=5)),
    arch="RoPE decoder", optimizer="AdamW, two groups",
)  # fmt: skip
def head_decay(stage: Stage) -> Iterator[float]:
    """The output matrix has a group of its own, whose decay is negative from step 110 on after an
    edit of the configuration: logits grow, and each mistake costs more."""
    model = Decoder(layers=2)
    optimizer = torch.optim.AdamW(groups(model, "lm_head", 2e-3))
    draw, logged = text_batches(stage.generator()), dict[str, Any]()

    def turn(step: int) -> None:
        if stage.sick and step >= 110:
            optimizer.param_groups[1]["weight_decay"] = -8.0

    def loss_of(step: int) -> torch.Tensor:
        x, y = draw()
        logits = model(x)
        logged["logit_size"] = logits.detach().square().mean().sqrt()
        return functional.cross_entropy(logits.flatten(0, 1), y.flatten())

    return fit(stage, model, optimizer, loss_of, num_steps=320, before=turn, log=lambda: logged)


@faulty(
    "rate-per-micro-batch",
    Fault(kind="update_too_small", severity="warning", accept=("plateau",),
          onset=Crosses(series="lr", below=1e-5)),
    arch="ALiBi decoder", optimizer="AdamW, accumulated",
)  # fmt: skip
def rate_per_micro_batch(stage: Stage) -> Iterator[float]:
    """Four micro-batches a step, and the schedule is stepped by each of them: the rate's last
    stage, planned for step 240, is over at step 60, and the rest is trained at a rate of nought."""
    model = Decoder(layers=1, rotary=False)
    optimizer = torch.optim.AdamW(model.parameters(), lr=4e-3)
    planned = warmup_stable_decay(4e-3, num_steps=240, warmup=1, decay=180)
    one, _ = reads(stage, model, num=2)

    def loss_of(step: int) -> torch.Tensor:
        return torch.stack([one(step) for _ in range(4)]).mean()

    def rate(step: int) -> float:
        return max(0.0, planned(4 * step if stage.sick else step))

    return fit(stage, model, optimizer, loss_of, num_steps=240, rate=rate)
