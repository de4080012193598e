"""State spaces, exponential gates, memories, experts and tags: faults of long and odd sequences."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from benchmarks.zoo.data import ALPHABET, Batch, text, text_batches
from benchmarks.zoo.faults import Fault
from benchmarks.zoo.models.language import (
    ExponentialLayer,
    Remembering,
    SelectiveLayer,
    Stack,
    Tagger,
    TwoExperts,
)
from benchmarks.zoo.models.recurrent import Recurrent
from benchmarks.zoo.models.transformer import GPT
from benchmarks.zoo.registry import faulty, healthy
from benchmarks.zoo.rules import LeavesTwin, NoProgress, NotFinite
from benchmarks.zoo.scenarios.decoder_healthy import reads
from benchmarks.zoo.schedules import warmup_cosine
from benchmarks.zoo.stage import Stage
from benchmarks.zoo.training import LossOf, fit


@healthy("selective-scan-text", arch="selective state space", optimizer="AdamW beta2=0.95")
def selective_scan(stage: Stage) -> Iterator[float]:
    """Step sizes, inputs and outputs of the recurrence depend on the token, and products of three
    learned things make gradients of single tensors jump."""
    model = Stack([SelectiveLayer(32) for _ in range(2)])
    optimizer = torch.optim.AdamW(model.parameters(), lr=4e-3, betas=(0.9, 0.95))
    loss_of, _ = reads(stage, model, context=16)
    rate = warmup_cosine(4e-3, num_steps=280)
    return fit(stage, model, optimizer, loss_of, num_steps=280, rate=rate, clip=1.0)


@faulty(
    "selective-steps-of-nought",
    Fault(kind="vanishing_gradient", layers=("layers.0", "layers.1"), severity="warning",
          accept=("plateau", "update_too_small", "dead_units"),
          onset=LeavesTwin(series="gradient:layers.0.write.weight", factor=20)),
    arch="selective state space", optimizer="Adam",
)  # fmt: skip
def steps_of_nought(stage: Stage) -> Iterator[float]:
    """The biases of the step sizes were to be the inverse softplus of 0.05 to 0.5, but the
    logarithm of a logarithm was taken: steps are nearly nought, nothing is written, and what the
    scan would learn from is a thousandth."""
    model = Stack([SelectiveLayer(32) for _ in range(2)])
    if stage.sick:
        for layer in model.layers:
            assert isinstance(layer, SelectiveLayer)
            nn.init.constant_(layer.delta.bias, -11.0)
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    loss_of, _ = reads(stage, model, context=16)
    return fit(stage, model, optimizer, loss_of, num_steps=260)


@faulty(
    "gate-without-its-maximum",
    Fault(kind="precision_overflow", at=130, pace="fast", layers=("layers.1",),
          accept=("non_finite",), onset=NotFinite()),
    arch="exponential gates", optimizer="AdamW",
)  # fmt: skip
def gate_without_maximum(stage: Stage) -> Iterator[float]:
    """A fused kernel takes over one layer at step 130, which holds the exponential gate in float16
    and leaves out the running maximum: with gates around nine, one token in some is infinite."""
    model = Stack([ExponentialLayer(32, level=9.5), ExponentialLayer(32, level=9.5)])
    optimizer = torch.optim.AdamW(model.parameters(), lr=4e-3)
    layer = model.layers[1]
    assert isinstance(layer, ExponentialLayer)

    def fuse(step: int) -> None:
        layer.stable = not (stage.sick and step >= 130)

    loss_of, _ = reads(stage, model, context=16)
    return fit(stage, model, optimizer, loss_of, num_steps=200, before=fuse, clip=1.0)


@healthy("segments-remembered", arch="decoder with a memory of segments", optimizer="Adam")
def segments(stage: Stage) -> Iterator[float]:
    """Eight texts are read on and on, each segment with the last one in memory; every 40 steps
    all begin a new text with none, and the loss is higher for a step."""
    model = Remembering()
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    characters = text(stage.generator(), 3000)
    starts = torch.zeros(8, dtype=torch.long)
    rng = stage.generator(1)

    def loss_of(step: int) -> torch.Tensor:
        if step % 40 == 0:
            model.memory = []
            starts.copy_(torch.randint(len(characters) - 700, (8,), generator=rng))
        rows = characters[starts[:, None] + torch.arange(17)]
        starts.add_(16)
        return functional.cross_entropy(model(rows[:, :-1]).flatten(0, 1), rows[:, 1:].flatten())

    return fit(stage, model, optimizer, loss_of, num_steps=320, clip=1.0)


@faulty(
    "state-not-handed-on",
    Fault(kind="plateau", accept=("vanishing_gradient",), onset=NoProgress(level=1.95, after=120)),
    arch="GRU, stateful", optimizer="AdamW",
)  # fmt: skip
def state_not_handed_on(stage: Stage) -> Iterator[float]:
    """The first of sixteen characters is asked for at the end; the sequence is fed in pieces of
    four, and each begins with a fresh state in place of the last one's: nobody can know."""
    model = Recurrent("gru", width=32)
    optimizer = torch.optim.AdamW(model.parameters(), lr=6e-3)
    rng = stage.generator()

    def loss_of(step: int) -> torch.Tensor:
        x = torch.randint(8, (32, 16), generator=rng)
        x[:, 1:] += 8
        state: torch.Tensor | None = None
        for piece in model.tok(x).split(4, dim=1):
            read, state = model.rnn(piece, None if stage.sick else state)
        return functional.cross_entropy(model.head(read[:, -1]), x[:, 0])

    return fit(stage, model, optimizer, loss_of, num_steps=300, clip=1.0)


def _with_experts(
    stage: Stage, *, jitter: float = 0.0
) -> tuple[GPT, list[TwoExperts], LossOf, Callable[[], dict[str, Any]]]:
    model = GPT(layers=2, inner=TwoExperts)
    experts = [m for m in model.modules() if isinstance(m, TwoExperts)]
    for e in experts:
        e.jitter = jitter
    draw = text_batches(stage.generator())

    def loss_of(step: int) -> torch.Tensor:
        x, y = draw()
        loss = functional.cross_entropy(model(x).flatten(0, 1), y.flatten())
        return loss + 0.01 * torch.stack([e.balance for e in experts]).sum()

    def log() -> dict[str, Any]:
        return {
            "router_z": max(float(e.router_z.detach()) for e in experts),
            "least_load": min(float(e.load.min()) for e in experts),
        }

    return model, experts, loss_of, log


@healthy("two-experts-and-jitter", arch="mixture of top-two experts", optimizer="AdamW")
def experts_jitter(stage: Stage) -> Iterator[float]:
    """Routing with noise, which ends at step 200 with a note, and a bound on each expert's load,
    beyond which tokens are dropped: gradients of single experts come and go."""
    model, experts, loss_of, log = _with_experts(stage, jitter=0.5)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)

    def quiet(step: int) -> None:
        if step == 200:
            for e in experts:
                e.jitter = 0.0

    return fit(
        stage, model, optimizer, loss_of, num_steps=320, before=quiet, log=log,
        notes={200: "routing without noise"},
    )  # fmt: skip


@faulty(
    "router-sure-of-itself",
    Fault(kind="saturation", at=120, layers=("blocks.1.mlp.router",), severity="warning",
          accept=("explosion", "update_too_large", "output_logit_drift", "dead_units"),
          onset=LeavesTwin(series="router_z", factor=20, num=5)),
    arch="mixture of top-two experts", optimizer="AdamW",
)  # fmt: skip
def router_sure(stage: Stage) -> Iterator[float]:
    """The penalty on router logits of one layer has the wrong sign from step 120 on: they grow
    without bound, choices become certain, and the router's own gradient goes."""
    model, experts, both, log = _with_experts(stage)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)

    def loss_of(step: int) -> torch.Tensor:
        loss = both(step)
        z = 1e-3 * experts[1].router_z
        z = -10 * z if stage.sick and step >= 120 else z
        return loss + z - z.detach()

    return fit(stage, model, optimizer, loss_of, num_steps=340, log=log)


BLANK = 6


def _spoken(
    stage: Stage, model: Tagger, *, cut_at: int | None = None
) -> tuple[LossOf, Callable[[], dict[str, Any]]]:
    """Five or fewer sounds of two to four frames each, to be written down without their times.
    On step `cut_at` only three frames of each are left."""
    rng, logged = stage.generator(), dict[str, Any]()
    shapes = torch.randn(BLANK, 8, generator=stage.generator(5))

    def loss_of(step: int) -> torch.Tensor:
        words = torch.randint(BLANK, (16, 5), generator=rng)
        lengths = torch.randint(2, 5, (16, 5), generator=rng)
        ends = lengths.cumsum(1)
        place = (torch.arange(20)[None, :, None] >= ends[:, None]).sum(-1)
        sound = shapes[words.gather(1, place.clamp(max=4))] * (place < 5)[..., None]
        frames = sound + 0.5 * torch.randn(16, 20, 8, generator=rng)
        if step == cut_at:
            frames = frames[:, :3]
        odds = model(frames).log_softmax(-1)
        logged["blank_share"] = (odds.argmax(-1) == BLANK).float().mean()
        return functional.ctc_loss(
            odds.transpose(0, 1), words, torch.full((16,), frames.shape[1]),
            torch.full((16,), 5), blank=BLANK,
        )  # fmt: skip

    return loss_of, lambda: logged


@healthy("nothing-but-blanks-at-first", arch="BiLSTM, CTC", optimizer="Adam")
def blanks_at_first(stage: Stage) -> Iterator[float]:
    """Alignment-free training as it always goes: the loss falls steeply, lies flatter while
    the network says little but blanks, and falls again once it dares to speak."""
    model = Tagger(8, BLANK + 1, words=False)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    loss_of, log = _spoken(stage, model)
    return fit(stage, model, optimizer, loss_of, num_steps=380, log=log, clip=5.0)


@faulty(
    "text-longer-than-sound",
    Fault(kind="non_finite", at=240, pace="fast", accept=("bad_batch",), onset=NotFinite()),
    arch="BiLSTM, CTC", optimizer="Adam",
)  # fmt: skip
def text_longer(stage: Stage) -> Iterator[float]:
    """The recordings of step 240 were cut to three frames while five sounds are to be written: no
    alignment exists, the loss is infinite, and its gradient goes into the weights."""
    model = Tagger(8, BLANK + 1, words=False)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    loss_of, log = _spoken(stage, model, cut_at=240 if stage.sick else None)
    return fit(stage, model, optimizer, loss_of, num_steps=320, log=log, clip=5.0)


@faulty(
    "one-endless-sentence",
    Fault(kind="gradient_spike", at=170, pace="fast", severity="warning", lasting=False,
          layers=("chain",), accept=("bad_batch", "loss_spike", "update_too_large"),
          shows=LeavesTwin(series="gradient:chain.steps", factor=8, num=1)),
    arch="BiLSTM with a chain of tags", optimizer="SGD momentum",
)  # fmt: skip
def endless_sentence(stage: Stage) -> Iterator[float]:
    """Three batches from step 170 on hold a file that was never split into sentences; losses are
    sums over a sentence, nothing is clipped, and the tags' transitions get most of it."""
    model = Tagger(len(ALPHABET), 4)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    draw = text_batches(stage.generator())
    endless = text_batches(stage.generator(1), context=300)

    def batch(step: int) -> Batch:
        x, _ = draw()
        if stage.sick and 170 <= step < 173:
            x, _ = endless()
        spaces = (x == 0).long()
        tags = 2 * (x == 1).long() + spaces
        tags[:, 1:] = torch.where(spaces[:, :-1] == 1, 3, tags[:, 1:])
        return x, tags

    def loss_of(step: int) -> torch.Tensor:
        x, tags = batch(step)
        loss: torch.Tensor = model.chain(model(x), tags).mean() / 4
        return loss

    return fit(stage, model, optimizer, loss_of, num_steps=320)
