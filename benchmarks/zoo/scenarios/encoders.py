"""Encoders, and encoders with decoders: masked words, latent goals, padding, learned distances."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from benchmarks.zoo.data import ALPHABET, text_batches
from benchmarks.zoo.faults import Fault
from benchmarks.zoo.models.decoder import Decoder
from benchmarks.zoo.models.language import EncoderDecoder
from benchmarks.zoo.models.transformer import GPT
from benchmarks.zoo.optimizers import Adan, LayerwiseAdam
from benchmarks.zoo.registry import faulty, healthy
from benchmarks.zoo.rules import Crosses, LeavesTwin
from benchmarks.zoo.scenarios.decoder_healthy import reads
from benchmarks.zoo.scenarios.fine_tuning import backwards, trained
from benchmarks.zoo.schedules import warmup_cosine
from benchmarks.zoo.stage import Stage
from benchmarks.zoo.training import LossOf, fit

MASK = len(ALPHABET)


class ReluForward(nn.Module):
    """A feed-forward layer whose hidden units are kept, for a penalty on them."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.up, self.act, self.down = nn.Linear(width, 96), nn.ReLU(), nn.Linear(96, width)
        self.hidden = torch.zeros(())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Same shape as `x`."""
        self.hidden = self.act(self.up(x))
        out: torch.Tensor = self.down(self.hidden)
        return out


def _masked(stage: Stage, model: nn.Module, *, num: int = 16) -> LossOf:
    """Guess the masked ones, a character in seven."""
    draw, rng = text_batches(stage.generator(), num=num), stage.generator(1)

    def loss_of(step: int) -> torch.Tensor:
        x, _ = draw()
        hidden = torch.rand(x.shape, generator=rng) < 0.15
        return functional.cross_entropy(model(x.masked_fill(hidden, MASK))[hidden], x[hidden])

    return loss_of


@healthy("masked-words-layerwise", arch="BERT-like encoder", optimizer="LAMB")
def masked_words(stage: Stage) -> Iterator[float]:
    """One character in seven is guessed, so that the loss is noisy, and lies flat for long at the
    odds of single letters; each tensor moves by a share of its own size."""
    model = GPT(vocabulary=MASK + 1, layers=2, causal=False)
    optimizer = LayerwiseAdam(model.parameters(), 3e-2)
    rate = warmup_cosine(3e-2, num_steps=480)
    loss_of = _masked(stage, model, num=32)
    return fit(stage, model, optimizer, loss_of, num_steps=480, rate=rate)


@faulty(
    "zero-matrices-never-move",
    Fault(kind="update_too_small", layers=("layers.0.attn.out", "layers.1.attn.out"),
          severity="warning", accept=("plateau", "vanishing_gradient"),
          onset=Crosses(series="update:layers.0.attn.out.weight", below=1e-9)),
    arch="RoPE decoder, outputs of attention begin at nought", optimizer="LAMB",
)  # fmt: skip
def zero_matrices(stage: Stage) -> Iterator[float]:
    """Each step is scaled by the size of its tensor, and a tensor of nought is no special case:
    the outputs of attention, which begin there, stay there, and no token sees another."""
    model = Decoder(layers=2)
    for attention in model.attentions():
        nn.init.zeros_(attention.out.weight)
    optimizer = LayerwiseAdam(model.parameters(), 2e-2, zero_safe=not stage.sick)
    loss_of, log = reads(stage, model)
    return fit(stage, model, optimizer, loss_of, num_steps=320, log=log)


@faulty(
    "hidden-penalty-kills-units",
    Fault(kind="dead_units", at=110, layers=("blocks.1.mlp",), severity="warning",
          accept=("vanishing_gradient", "representation_collapse"),
          onset=Crosses(series="activation:blocks.1.mlp.act", statistic="zero_frac", above=0.97,
                        since=110)),
    arch="BERT-like encoder, ReLU", optimizer="AdamW",
)  # fmt: skip
def hidden_penalty(stage: Stage) -> Iterator[float]:
    """For sparse inference a penalty on one layer's hidden units grows from step 110 on, summed
    over tokens where a mean was meant: unit after unit is silent on every token."""
    model = GPT(vocabulary=MASK + 1, layers=2, causal=False, inner=ReluForward)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    masked, layer = _masked(stage, model), model.get_submodule("blocks.1.mlp")
    assert isinstance(layer, ReluForward)

    def loss_of(step: int) -> torch.Tensor:
        loss = masked(step)
        weight = min(1.0, max(0.0, (step - 109) / 150)) if stage.sick else 0.0
        penalty = 0.1 * weight * layer.hidden.sum(-1).mean()
        return loss + penalty - penalty.detach() if weight else loss

    return fit(stage, model, optimizer, loss_of, num_steps=360)


@faulty(
    "reserved-tokens-drawn-large",
    Fault(kind="loss_spike", at=190, pace="fast", severity="warning", lasting=False,
          layers=("head",), accept=("weight_corruption", "output_logit_drift", "bad_batch")),
    arch="GPT pre-norm", optimizer="Adam",
)  # fmt: skip
def reserved_tokens(stage: Stage) -> Iterator[float]:
    """At step 190 twelve reserved tokens are taken into use: their rows of the output are drawn
    anew, with a deviation of one where the others' is a tenth, and they win everywhere at first."""
    model = GPT(vocabulary=len(ALPHABET) + 12, layers=2)
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    rng = stage.generator(2)

    @torch.no_grad()
    def draw(step: int) -> None:
        if stage.sick and step == 190:
            rows = torch.randn(12, 32, generator=rng)
            model.head.weight[len(ALPHABET) :] = rows
            model.head.bias[len(ALPHABET) :] = 0.0

    loss_of, _ = reads(stage, model)
    return fit(stage, model, optimizer, loss_of, num_steps=340, before=draw)


@faulty(
    "layer-rates-upside-down",
    Fault(kind="update_too_large", layers=("embed", "layers.0"),
          accept=("divergence", "loss_spike", "explosion"),
          onset=LeavesTwin(series="update:layers.0.mlp.down.weight", factor=5)),
    arch="RoPE decoder, fine-tuned", optimizer="AdamW, a group a layer",
)  # fmt: skip
def rates_upside_down(stage: Stage) -> Iterator[float]:
    """Fine-tuning with rates that are to fall by 2.5 a layer from the head down, but the exponent
    has the wrong sign: the embedding moves fastest, and what was learned is lost."""
    model = trained(stage, Decoder(layers=3), num_steps=250)
    parts = [model.lm_head, *reversed(list(model.layers)), model.embed]
    factor = 2.5 if stage.sick else 0.4
    optimizer = torch.optim.AdamW(
        [{"params": p.parameters(), "lr": 8e-3 * factor**i} for i, p in enumerate(parts)]
    )
    loss_of = backwards(stage, model)
    return fit(stage, model, optimizer, loss_of, num_steps=240, clip=1.0)


class Latent(nn.Module):
    """An encoder of masked text whose goal is what a slow copy makes of the whole (data2vec)."""

    def __init__(self) -> None:
        super().__init__()
        self.student = GPT(vocabulary=MASK + 1, layers=2, causal=False)
        self.student.head = nn.Linear(32, 32)
        self.guess = nn.Sequential(nn.Linear(32, 64), nn.GELU(), nn.Linear(64, 32))

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """A guess [N, C, D] for each place."""
        out: torch.Tensor = self.guess(self.student(tokens))
        return out


def _latent(
    stage: Stage, model: Latent, *, own_from: int | None = None
) -> tuple[LossOf, Callable[[int], None], Callable[[], dict[str, Any]]]:
    """The loss, what moves the teacher, and what is logged. From step `own_from` on the goal is
    the student's own, with its gradient."""
    draw, rng = text_batches(stage.generator()), stage.generator(1)
    teacher, logged = copy.deepcopy(model.student), dict[str, Any]()

    def loss_of(step: int) -> torch.Tensor:
        x, _ = draw()
        hidden = torch.rand(x.shape, generator=rng) < 0.3
        if own_from is not None and step >= own_from:
            goal = model.student(x)
        else:
            with torch.no_grad():
                goal = functional.layer_norm(teacher(x), (32,))
        logged["goal_std"] = goal.detach().std(dim=(0, 1)).mean()
        return functional.smooth_l1_loss(model(x.masked_fill(hidden, MASK))[hidden], goal[hidden])

    @torch.no_grad()
    def follow(step: int) -> None:
        for slow, fast in zip(teacher.parameters(), model.student.parameters(), strict=True):
            slow.lerp_(fast, 0.01)

    return loss_of, follow, lambda: logged


@healthy("latent-goals-move", arch="data2vec-like encoder", optimizer="NAdam")
def latent_goals(stage: Stage) -> Iterator[float]:
    """The goals come from a slow copy of the network and move with it: the loss falls fast, and
    then rises again for long while goals get richer."""
    model = Latent()
    optimizer = torch.optim.NAdam(model.parameters(), lr=1e-3)
    loss_of, follow, log = _latent(stage, model)
    return fit(stage, model, optimizer, loss_of, num_steps=300, after=follow, log=log)


@faulty(
    "latent-goals-are-ones-own",
    Fault(kind="representation_collapse", at=120, layers=("student.head",),
          onset=LeavesTwin(series="goal_std", factor=4, num=5)),
    arch="data2vec-like encoder", optimizer="NAdam",
)  # fmt: skip
def latent_own_goals(stage: Stage) -> Iterator[float]:
    """A refactoring at step 120 takes the goals from the student itself, unnormalised and with
    their gradient: to be alike everywhere is the cheapest answer, and the loss looks splendid."""
    model = Latent()
    optimizer = torch.optim.NAdam(model.parameters(), lr=1e-3)
    loss_of, follow, log = _latent(stage, model, own_from=120 if stage.sick else None)
    return fit(stage, model, optimizer, loss_of, num_steps=320, after=follow, log=log)


SYMBOLS = 8


def _reverses(
    stage: Stage, model: EncoderDecoder, *, counted_from: int | None = None, buckets: int = 6
) -> tuple[LossOf, Callable[[], dict[str, Any]]]:
    """Each symbol and its double, written backwards; a batch's texts are of one bucket of lengths.
    From step `counted_from` on all are padded to 24, and the padding counts."""
    rng = stage.generator()

    def loss_of(step: int) -> torch.Tensor:
        length = 3 + (7 * step) % buckets
        x = torch.randint(SYMBOLS, (16, length), generator=rng)
        y = x.flip(1)
        if counted_from is not None and step >= counted_from:
            x, y = (functional.pad(t, (0, 24 - length), value=SYMBOLS) for t in (x, y))
        return functional.cross_entropy(model(x, y).flatten(0, 1), y.flatten())

    return loss_of, lambda: {"attn_logit_max": model.attn_logit_max()}


@healthy("buckets-of-lengths", arch="T5-like encoder-decoder", optimizer="Adan")
def buckets(stage: Stage) -> Iterator[float]:
    """Texts of one length share a batch, and lengths take turns: short ones are learned long
    before long ones, so that the loss goes to and fro by more and more."""
    model = EncoderDecoder(symbols=SYMBOLS)
    loss_of, log = _reverses(stage, model)
    return fit(stage, model, Adan(model.parameters(), 4e-3), loss_of, num_steps=260, log=log)


@faulty(
    "padding-counts-as-text",
    Fault(kind="bad_batch", at=130, pace="fast", severity="warning",
          accept=("representation_collapse", "gradient_spike", "loss_spike")),
    arch="T5-like encoder-decoder", optimizer="AdamW",
)  # fmt: skip
def padding_counts(stage: Stage) -> Iterator[float]:
    """A new collator at step 130 pads each text to 24, and neither attention nor loss leaves the
    padding out: after a jump the loss is lower than ever, for most of it is padding."""
    model = EncoderDecoder(symbols=SYMBOLS)
    loss_of, log = _reverses(stage, model, counted_from=130 if stage.sick else None)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    return fit(stage, model, optimizer, loss_of, num_steps=280, log=log)


@faulty(
    "distance-biases-run",
    Fault(kind="attention_logit_growth", at=90, layers=("decoder.0.cross.bias",),
          accept=("update_too_large", "explosion"), severity="warning",
          onset=LeavesTwin(series="attn_logit_max", factor=3, num=5)),
    arch="T5-like encoder-decoder", optimizer="Adam",
)  # fmt: skip
def distance_biases(stage: Stage) -> Iterator[float]:
    """The biases of distances between text and goal have a decay of the wrong sign, 5 % a
    step, from the stage that begins at step 90: what is written looks at one distance alone."""
    model = EncoderDecoder(symbols=SYMBOLS)
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)

    @torch.no_grad()
    def grow(step: int) -> None:
        if stage.sick and step >= 90:
            model.get_parameter("decoder.0.cross.bias.weight").mul_(1.05)

    loss_of, log = _reverses(stage, model, buckets=4)
    return fit(stage, model, optimizer, loss_of, num_steps=280, after=grow, log=log)
