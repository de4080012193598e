"""Character language models: GPT with norms before and after, with the faults of large ones."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from benchmarks.zoo.data import copy_task, text_batches
from benchmarks.zoo.faults import Fault
from benchmarks.zoo.models.transformer import GPT
from benchmarks.zoo.registry import faulty, healthy
from benchmarks.zoo.rules import Crosses, LeavesTwin, NoProgress
from benchmarks.zoo.schedules import warmup_cosine
from benchmarks.zoo.stage import Stage
from benchmarks.zoo.training import LossOf, fit, log_z

Logged = Callable[[], dict[str, Any]]


def _reads(
    stage: Stage, model: GPT, *, context: int = 24, z_weight: float = 0.0
) -> tuple[LossOf, Logged]:
    """Next-character loss, and what a careful team logs beside it."""
    draw = text_batches(stage.generator(), context=context)
    logged: dict[str, Any] = {}

    def loss_of(step: int) -> torch.Tensor:
        x, y = draw()
        logits = model(x)
        logged.update(log_z=log_z(logits), attn_logit_max=model.attn_logit_max())
        loss = functional.cross_entropy(logits.flatten(0, 1), y.flatten())
        return loss + z_weight * logits.logsumexp(-1).square().mean() if z_weight else loss

    return loss_of, lambda: logged


@healthy("gpt-warmup-cosine", arch="GPT pre-norm", optimizer="AdamW", quick=True)
def warmup_and_cosine(stage: Stage) -> Iterator[float]:
    """The usual recipe: warm-up, cosine, clipping on most steps."""
    model = GPT()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, betas=(0.9, 0.95))
    rate = warmup_cosine(3e-3, num_steps=320)
    loss_of, log = _reads(stage, model)
    return fit(stage, model, optimizer, loss_of, num_steps=320, rate=rate, clip=0.5, log=log)


@healthy("gpt-longer-contexts-told", arch="GPT pre-norm with QK norm", optimizer="Adam")
def longer_contexts(stage: Stage) -> Iterator[float]:
    """The context grows from 8 to 16 to 32 characters, each time with a note."""
    model = GPT(layers=2, qk_norm=True)
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    sources = [_reads(stage, model, context=c) for c in (8, 16, 32)]

    def loss_of(step: int) -> torch.Tensor:
        return sources[min(2, step // 110)][0](step)

    notes = {110: "context 16", 220: "context 32"}
    return fit(stage, model, optimizer, loss_of, num_steps=330, notes=notes)


@healthy("gpt-resumed", arch="GPT pre-norm", optimizer="AdamW")
def resumed(stage: Stage) -> Iterator[float]:
    """The training is stopped at step 200 and resumed, with its optimizer, from the checkpoint of
    step 160: forty step numbers come twice."""
    model = GPT(layers=2)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    loss_of, log = _reads(stage, model)
    saved: dict[str, Any] = {}

    def save(step: int) -> None:
        if step == 160 and not saved:
            saved["model"] = {k: v.clone() for k, v in model.state_dict().items()}
            saved["optimizer"] = _copied(optimizer.state_dict())

    yield from fit(stage, model, optimizer, loss_of, num_steps=200, before=save, log=log)
    model.load_state_dict(saved["model"])
    optimizer.load_state_dict(saved["optimizer"])
    yield from fit(stage, model, optimizer, loss_of, num_steps=360, first_step=160, log=log)


def _copied(value: Any) -> Any:
    """A deep copy of an optimizer's state."""
    if isinstance(value, torch.Tensor):
        return value.clone()
    if isinstance(value, dict):
        return {key: _copied(item) for key, item in value.items()}
    return value


@healthy("post-norm-shallow", arch="post-norm transformer", optimizer="Adam")
def post_norm_shallow(stage: Stage) -> Iterator[float]:
    """Two layers, norms behind them, and a warm-up: the loss lies flat at first, then falls."""
    model = GPT(vocabulary=8, layers=2, pre=False, causal=False)
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    rate = warmup_cosine(2e-3, num_steps=420, warmup=60)
    rng = stage.generator()

    def loss_of(step: int) -> torch.Tensor:
        x, y = copy_task(rng)
        return functional.cross_entropy(model(x).flatten(0, 1), y.flatten())

    return fit(stage, model, optimizer, loss_of, num_steps=420, rate=rate)


@healthy("gpt-rotating-sources", arch="GPT pre-norm", optimizer="Adafactor")
def rotating_sources(stage: Stage) -> Iterator[float]:
    """Text, its reverse, and constant runs of one character take turns: three levels of loss."""
    model = GPT(layers=2)
    optimizer = torch.optim.Adafactor(model.parameters(), lr=0.02)
    draw = text_batches(stage.generator())

    def loss_of(step: int) -> torch.Tensor:
        x, y = draw()
        if step % 3 == 1:
            x, y = y.flip(1), x.flip(1)
        elif step % 3 == 2:
            x = y = x[:, :1].expand_as(x)
        return functional.cross_entropy(model(x).flatten(0, 1), y.flatten())

    return fit(stage, model, optimizer, loss_of, num_steps=390)


def _qkv_group(model: GPT, rate: float) -> torch.optim.AdamW:
    """AdamW with the weights of queries, keys and values as a second group."""
    qkv = [p for n, p in model.named_parameters() if "qkv" in n]
    rest = [p for n, p in model.named_parameters() if "qkv" not in n]
    return torch.optim.AdamW([{"params": rest}, {"params": qkv}], lr=rate, weight_decay=0.0)


@faulty(
    "gpt-attention-logits",
    Fault(kind="attention_logit_growth", at=100, severity="critical",
          layers=tuple(f"blocks.{i}.attn.qkv" for i in range(3)),
          accept=("update_too_large", "explosion"),
          onset=LeavesTwin(series="attn_logit_max", factor=3, num=5)),
    arch="GPT pre-norm", optimizer="AdamW", quick=True,
)  # fmt: skip
def attention_logits(stage: Stage) -> Iterator[float]:
    """Without QK norm, the rate of the QKV weights grows by 2 % a step from step 100 on: attention
    logits grow for a hundred steps before the loss tells."""
    model = GPT()
    optimizer = _qkv_group(model, 1e-3)

    def grow(step: int) -> None:
        if stage.sick and step >= 100:
            optimizer.param_groups[1]["lr"] = 1e-3 * 1.02 ** (step - 100)

    loss_of, log = _reads(stage, model)
    return fit(stage, model, optimizer, loss_of, num_steps=380, before=grow, log=log)


@faulty(
    "gpt-one-layer-attention",
    Fault(kind="attention_logit_growth", at=120, severity="warning", layers=("blocks.1.attn.qkv",),
          accept=("explosion", "weight_corruption"),
          onset=LeavesTwin(series="attn_logit_max", factor=3, num=5)),
    arch="GPT pre-norm", optimizer="Adam",
)  # fmt: skip
def one_layer_attention(stage: Stage) -> Iterator[float]:
    """One layer's QKV weights grow by 0.8 % a step from step 120 on, through a decay with the
    wrong sign: its attention becomes a hard choice."""
    model = GPT()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)

    def grow(step: int) -> None:
        if stage.sick and step >= 120:
            with torch.no_grad():
                model.get_parameter("blocks.1.attn.qkv.weight").mul_(1.008)

    loss_of, log = _reads(stage, model)
    return fit(stage, model, optimizer, loss_of, num_steps=400, after=grow, log=log)


@faulty(
    "gpt-z-loss-sign",
    Fault(kind="output_logit_drift", at=140, severity="critical", layers=("head",),
          onset=Crosses(series="log_z", above=6.5, since=140)),
    arch="GPT pre-norm", optimizer="AdamW",
)  # fmt: skip
def z_loss_sign(stage: Stage) -> Iterator[float]:
    """A reload of the configuration at step 140 turns the sign of the z-loss: the level of the
    output logits drifts away, which the cross-entropy cannot feel."""
    model = GPT(layers=2)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    draw = text_batches(stage.generator())
    logged: dict[str, Any] = {}

    def loss_of(step: int) -> torch.Tensor:
        x, y = draw()
        logits = model(x)
        logged.update(log_z=log_z(logits))
        z = 1e-2 * logits.logsumexp(-1).square().mean()
        z = -z if stage.sick and step >= 140 else z
        # The gradient is that of the sum; what is logged is the cross-entropy alone.
        loss = functional.cross_entropy(logits.flatten(0, 1), y.flatten())
        total: torch.Tensor = loss + z - z.detach()
        return total

    return fit(stage, model, optimizer, loss_of, num_steps=400, log=lambda: logged)


@faulty(
    "gpt-no-warmup",
    Fault(kind="update_too_large",
          accept=("divergence", "explosion", "attention_logit_growth", "plateau"),
          onset=LeavesTwin(series="activation:blocks.2", factor=2, num=2)),
    arch="GPT pre-norm", optimizer="Adam",
)  # fmt: skip
def no_warmup(stage: Stage) -> Iterator[float]:
    """A learning rate of 0.05 without any warm-up."""
    model = GPT()
    rate = 0.05 if stage.sick else 2e-3
    optimizer = torch.optim.Adam(model.parameters(), lr=rate)
    loss_of, log = _reads(stage, model)
    return fit(stage, model, optimizer, loss_of, num_steps=280, log=log)


@faulty(
    "gpt-warmup-never-ends",
    Fault(kind="divergence", at=60,
          accept=("update_too_large", "explosion", "attention_logit_growth", "loss_spike"),
          onset=LeavesTwin(series="update:blocks.0.mlp.up.weight", factor=6, num=5)),
    arch="GPT pre-norm", optimizer="AdamW",
)  # fmt: skip
def warmup_never_ends(stage: Stage) -> Iterator[float]:
    """The warm-up is exponential and has no end: the rate doubles every 35 steps."""
    model = GPT()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)

    def rate(step: int) -> float:
        return 3e-4 * math.exp((step if stage.sick else min(step, 60)) / 50)

    loss_of, log = _reads(stage, model)
    return fit(stage, model, optimizer, loss_of, num_steps=380, rate=rate, log=log)


@faulty(
    "gpt-embedding-grows",
    Fault(kind="explosion", at=100, severity="warning", layers=("tok",),
          accept=("update_too_large", "weight_corruption"),
          onset=LeavesTwin(series="weight:tok.weight", factor=5)),
    arch="GPT pre-norm", optimizer="AdamW",
)  # fmt: skip
def embedding_grows(stage: Stage) -> Iterator[float]:
    """The decay of the embedding has the wrong sign: it grows by 1.5 % a step, and the norms
    behind it hide that from the loss until the layers no longer matter."""
    model = GPT(layers=2)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)

    def grow(step: int) -> None:
        if stage.sick and step >= 100:
            with torch.no_grad():
                model.tok.weight.mul_(1.015)

    loss_of, log = _reads(stage, model)
    return fit(stage, model, optimizer, loss_of, num_steps=360, after=grow, log=log)


@faulty(
    "gpt-repeated-tokens",
    Fault(kind="bad_batch", at=210, pace="fast", severity="warning", lasting=False,
          accept=("update_too_large",)),
    arch="GPT pre-norm", optimizer="AdamW",
)  # fmt: skip
def repeated_tokens(stage: Stage) -> Iterator[float]:
    """Two batches of noise from a broken file: random characters at steps 210 and 211."""
    model = GPT(layers=2)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    draw, rng = text_batches(stage.generator()), stage.generator(1)

    def loss_of(step: int) -> torch.Tensor:
        x, y = draw()
        if stage.sick and step in (210, 211):
            x, y = (torch.randint(28, t.shape, generator=rng) for t in (x, y))
        return functional.cross_entropy(model(x).flatten(0, 1), y.flatten())

    return fit(stage, model, optimizer, loss_of, num_steps=340)


@faulty(
    "gpt-state-lost",
    Fault(kind="update_too_large", at=220, pace="fast", accept=("bad_batch",),
          shows=LeavesTwin(series="update:head.weight", factor=5, num=1)),
    arch="GPT pre-norm", optimizer="Adam", quick=True,
)  # fmt: skip
def state_lost(stage: Stage) -> Iterator[float]:
    """After a resume at step 220 the second moments are nought while the step count is kept: the
    bias correction does not help, and the first updates are thirty times too large."""
    model = GPT(layers=2)
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)

    def lose(step: int) -> None:
        if stage.sick and step == 220:
            for state in optimizer.state.values():
                state["exp_avg_sq"].zero_()

    loss_of, log = _reads(stage, model)
    return fit(stage, model, optimizer, loss_of, num_steps=360, before=lose, log=log)


@faulty(
    "gpt-feed-forward-grows",
    Fault(kind="explosion", at=90, layers=("blocks.1.mlp.down",), severity="warning",
          accept=("update_too_large",),
          onset=LeavesTwin(series="activation:blocks.1.mlp.down", factor=2)),
    arch="GPT pre-norm, 4 layers", optimizer="AdamW",
)  # fmt: skip
def feed_forward_grows(stage: Stage) -> Iterator[float]:
    """One layer's output matrix of the feed-forward part got into a parameter group whose rate
    grows by 2 % a step from step 90 on: massive activations in the residual stream."""
    model = GPT(layers=4)
    chosen = [p for n, p in model.named_parameters() if n.startswith("blocks.1.mlp.down")]
    rest = [p for n, p in model.named_parameters() if not n.startswith("blocks.1.mlp.down")]
    optimizer = torch.optim.AdamW([{"params": rest}, {"params": chosen}], lr=1e-3)

    def grow(step: int) -> None:
        if stage.sick and step >= 90:
            optimizer.param_groups[1]["lr"] = 1e-3 * 1.02 ** (step - 90)

    loss_of, log = _reads(stage, model)
    return fit(stage, model, optimizer, loss_of, num_steps=360, before=grow, log=log)


@faulty(
    "gpt-norm-gain-lost",
    Fault(kind="weight_corruption", at=200, pace="fast", layers=("blocks.2.norm2",),
          accept=("vanishing_gradient", "dead_units", "representation_collapse"),
          severity="warning",
          shows=LeavesTwin(series="activation:blocks.2.norm2", factor=10)),
    arch="GPT pre-norm", optimizer="SGD momentum",
)  # fmt: skip
def norm_gain_lost(stage: Stage) -> Iterator[float]:
    """A partial load of a checkpoint leaves the gain of one norm at a hundredth of its value from
    step 200 on: the layer behind it goes almost silent."""
    model = GPT()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)

    def lose(step: int) -> None:
        if stage.sick and step == 200:
            with torch.no_grad():
                model.get_parameter("blocks.2.norm2.weight").mul_(0.01)

    loss_of, log = _reads(stage, model)
    return fit(stage, model, optimizer, loss_of, num_steps=340, before=lose, log=log)


@faulty(
    "post-norm-deep",
    Fault(kind="plateau", accept=("vanishing_gradient", "representation_collapse"),
          onset=NoProgress(level=1.9, after=100)),
    arch="post-norm transformer, 10 layers", optimizer="Adam",
)  # fmt: skip
def post_norm_deep(stage: Stage) -> Iterator[float]:
    """Ten layers with norms behind them, a rate of 0.008 and no warm-up: stuck at the loss of a
    guess. With norms before the layers the same recipe learns."""
    model = GPT(vocabulary=8, width=24, layers=10, pre=not stage.sick, causal=False)
    optimizer = torch.optim.Adam(model.parameters(), lr=8e-3)
    rng = stage.generator()

    def loss_of(step: int) -> torch.Tensor:
        x, y = copy_task(rng)
        return functional.cross_entropy(model(x).flatten(0, 1), y.flatten())

    return fit(stage, model, optimizer, loss_of, num_steps=350)


@faulty(
    "gpt-first-block-detached",
    Fault(kind="vanishing_gradient", at=120, severity="warning",
          layers=("blocks.0.attn.qkv", "blocks.0.mlp.up"), accept=("update_too_small",),
          shows=Crosses(series="gradient:blocks.0.attn.qkv.weight", below=1e-12, num=3)),
    arch="GPT pre-norm", optimizer="RMSprop",
)  # fmt: skip
def first_block_detached(stage: Stage) -> Iterator[float]:
    """A `detach` that was left behind cuts the gradient below the second block from step 120 on;
    weights below it get a gradient of nought."""
    model = GPT()
    optimizer = torch.optim.RMSprop(model.parameters(), lr=1e-3)
    first = model.blocks[0]

    def cut(_: nn.Module, __: Any, output: torch.Tensor) -> torch.Tensor:
        return output.detach() + 0.0 * output if now["step"] >= 120 and stage.sick else output

    now = {"step": 0}
    first.register_forward_hook(cut)
    loss_of, log = _reads(stage, model)

    def counted(step: int) -> torch.Tensor:
        now["step"] = step
        return loss_of(step)

    return fit(stage, model, optimizer, counted, num_steps=360, log=log)
