"""Recurrent, state-space and convolutional sequence models."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import nn
from torch.nn import functional

from benchmarks.zoo.data import copy_task, text_batches
from benchmarks.zoo.faults import Fault
from benchmarks.zoo.models.recurrent import Recurrent, StateSpace
from benchmarks.zoo.registry import faulty, healthy
from benchmarks.zoo.rules import Crosses, LeavesTwin, NotFinite
from benchmarks.zoo.stage import Stage
from benchmarks.zoo.training import LossOf, fit


def _reads(stage: Stage, model: nn.Module, *, context: int = 20) -> LossOf:
    draw = text_batches(stage.generator(), context=context)

    def loss_of(step: int) -> torch.Tensor:
        x, y = draw()
        return functional.cross_entropy(model(x).flatten(0, 1), y.flatten())

    return loss_of


@healthy("lstm-clipped", arch="LSTM, 2 layers", optimizer="Adam")
def lstm_clipped(stage: Stage) -> Iterator[float]:
    """Clipping at 0.25 acts on nearly every step."""
    model = Recurrent("lstm", layers=2)
    optimizer = torch.optim.Adam(model.parameters(), lr=4e-3)
    return fit(stage, model, optimizer, _reads(stage, model), num_steps=330, clip=0.25)


@healthy("gru-accumulation", arch="GRU", optimizer="RMSprop")
def gru_accumulation(stage: Stage) -> Iterator[float]:
    """Three micro-batches a step, and a loss that is only that of the last one."""
    model = Recurrent("gru")
    optimizer = torch.optim.RMSprop(model.parameters(), lr=2e-3)
    one = _reads(stage, model)

    def loss_of(step: int) -> torch.Tensor:
        for _ in range(2):
            torch.autograd.backward(one(step) / 3)
        return one(step) / 3

    return fit(stage, model, optimizer, loss_of, num_steps=320)


@healthy("ssm-text", arch="diagonal state space", optimizer="AdamW")
def ssm_text(stage: Stage) -> Iterator[float]:
    """A gated linear recurrence whose decays are learned with everything else."""
    model = StateSpace()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    return fit(stage, model, optimizer, _reads(stage, model), num_steps=300, clip=1.0)


@faulty(
    "rnn-no-clipping",
    Fault(kind="divergence", at=80, accept=("update_too_large", "gradient_spike"),
          onset=LeavesTwin(series="update:rnn.weight_hh_l0", factor=10)),
    arch="RNN", optimizer="SGD momentum", quick=True,
)  # fmt: skip
def rnn_no_clipping(stage: Stage) -> Iterator[float]:
    """The learning rate ramps up from step 80 on, and nothing clips the gradients through time."""
    model = Recurrent("rnn")
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    loss_of = _reads(stage, model, context=40)

    def rate(step: int) -> float:
        return 0.05 * (1.015 ** max(0, step - 80) if stage.sick else 1.0)

    return fit(stage, model, optimizer, loss_of, num_steps=350, rate=rate)


@faulty(
    "lstm-forget-gates-open",
    Fault(kind="saturation", at=100, layers=("rnn",), severity="warning",
          accept=("explosion", "weight_corruption"),
          onset=LeavesTwin(series="weight:rnn.bias_ih_l0", factor=6)),
    arch="LSTM", optimizer="Adam",
)  # fmt: skip
def forget_gates_open(stage: Stage) -> Iterator[float]:
    """A faulty regulariser pushes the biases of the forget gates up by 0.04 a step from step 100
    on: nothing is forgotten any more."""
    model = Recurrent("lstm")
    optimizer = torch.optim.Adam(model.parameters(), lr=4e-3)

    def push(step: int) -> None:
        if stage.sick and step >= 100:
            with torch.no_grad():
                model.rnn.bias_ih_l0[40:80].add_(0.04)

    return fit(stage, model, optimizer, _reads(stage, model), num_steps=360, after=push)


@faulty(
    "lstm-matrix-rescaled",
    Fault(kind="weight_corruption", at=190, pace="fast", layers=("rnn",), accept=("saturation",)),
    arch="LSTM, 2 layers", optimizer="AdamW",
)  # fmt: skip
def matrix_rescaled(stage: Stage) -> Iterator[float]:
    """A reload at step 190 applies a scale of quantisation twice: one recurrent matrix is ten
    times too large."""
    model = Recurrent("lstm", layers=2)
    optimizer = torch.optim.AdamW(model.parameters(), lr=4e-3)

    def rescale(step: int) -> None:
        if stage.sick and step == 190:
            with torch.no_grad():
                model.rnn.weight_hh_l1.mul_(10.0)

    return fit(stage, model, optimizer, _reads(stage, model), num_steps=330, before=rescale)


@faulty(
    "ssm-decay-above-one",
    Fault(kind="explosion", at=110, layers=("layers.1",),
          accept=("weight_corruption", "loss_spike"),
          onset=LeavesTwin(series="activation:layers.1.leave", factor=3)),
    arch="diagonal state space", optimizer="AdamW",
)  # fmt: skip
def decay_above_one(stage: Stage) -> Iterator[float]:
    """The decays of the second layer are pushed up by 0.008 a step from step 110 on and not
    clamped: beyond one the state grows along the sequence."""
    model = StateSpace()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)

    def push(step: int) -> None:
        if stage.sick and step >= 110:
            with torch.no_grad():
                model.get_parameter("layers.1.decay").add_(0.008)

    loss_of = _reads(stage, model)
    return fit(stage, model, optimizer, loss_of, num_steps=330, after=push, clip=1.0)


@faulty(
    "gru-embedding-row",
    Fault(kind="weight_corruption", at=170, pace="fast", layers=("tok",), severity="warning",
          shows=LeavesTwin(series="weight:tok.weight", factor=1.5, num=1)),
    arch="GRU", optimizer="Adam",
)  # fmt: skip
def embedding_row(stage: Stage) -> Iterator[float]:
    """A fault of the memory overwrites the embedding of one letter with 20 before step 170."""
    model = Recurrent("gru")
    optimizer = torch.optim.Adam(model.parameters(), lr=4e-3)

    def overwrite(step: int) -> None:
        if stage.sick and step == 170:
            with torch.no_grad():
                model.tok.weight[6] = 20.0

    return fit(stage, model, optimizer, _reads(stage, model), num_steps=320, before=overwrite)


class ConvSeq2Seq(nn.Module):
    """Convolutions over a sequence, and attention from every output place to every input place."""

    def __init__(self, *, width: int = 32, symbols: int = 8, length: int = 8) -> None:
        super().__init__()
        self.tok = nn.Embedding(symbols, width)
        self.place = nn.Parameter(0.3 * torch.randn(length, width))
        self.encode = nn.ModuleList(nn.Conv1d(width, width, 3, padding=1) for _ in range(2))
        self.query = nn.Linear(width, width)
        self.decode = nn.Conv1d(width, width, 3, padding=1)
        self.head = nn.Linear(width, symbols)

    def forward(self, x: torch.Tensor, hidden: torch.Tensor) -> torch.Tensor:
        """Logits [N, C, V] for symbols [N, C]; `hidden` [N, C] marks what attention may not see."""
        memory = (self.tok(x) + self.place).transpose(1, 2)
        for conv in self.encode:
            memory = memory + torch.relu(conv(memory))
        memory = memory.transpose(1, 2)
        scores = self.query(self.place) @ memory.transpose(1, 2) / memory.shape[-1] ** 0.5
        weights = scores.masked_fill(hidden[:, None], float("-inf")).softmax(dim=-1)
        mixed = (weights @ memory).transpose(1, 2)
        out: torch.Tensor = self.head((mixed + torch.relu(self.decode(mixed))).transpose(1, 2))
        return out


def _reverses(stage: Stage, model: nn.Module, *, bad_step: int | None = None) -> LossOf:
    rng = stage.generator()

    def loss_of(step: int) -> torch.Tensor:
        x, y = copy_task(rng, 32)
        hidden = torch.zeros_like(x, dtype=torch.bool)
        if step == bad_step:
            hidden[4] = True
        return functional.cross_entropy(model(x, hidden).flatten(0, 1), y.flatten())

    return loss_of


@healthy("seq2seq-reverse", arch="convolutional seq2seq", optimizer="ASGD")
def seq2seq_reverse(stage: Stage) -> Iterator[float]:
    """A task with a long flat part before the attention finds its places."""
    model = ConvSeq2Seq()
    optimizer = torch.optim.ASGD(model.parameters(), lr=0.3)
    return fit(stage, model, optimizer, _reverses(stage, model), num_steps=450, clip=1.0)


@faulty(
    "seq2seq-masked-row",
    Fault(kind="non_finite", at=200, pace="fast", shows=NotFinite()),
    arch="convolutional seq2seq", optimizer="Adam",
)  # fmt: skip
def masked_row(stage: Stage) -> Iterator[float]:
    """At step 200 a sample of nothing but padding comes: a softmax over minus infinity is NaN."""
    model = ConvSeq2Seq()
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    bad_step = 200 if stage.sick else None
    loss_of = _reverses(stage, model, bad_step=bad_step)
    return fit(stage, model, optimizer, loss_of, num_steps=300)


@faulty(
    "lstm-head-silent",
    Fault(kind="update_too_small", at=140, severity="warning", layers=("head",),
          accept=("vanishing_gradient",),
          shows=Crosses(series="update:head.weight", below=1e-9, num=5)),
    arch="LSTM", optimizer="NAdam",
)  # fmt: skip
def head_silent(stage: Stage) -> Iterator[float]:
    """A new parameter group was added for the head at step 140 with a rate of 1e-12."""
    model = Recurrent("lstm")
    body = [*model.tok.parameters(), *model.rnn.parameters()]
    groups = [{"params": body}, {"params": list(model.head.parameters())}]
    optimizer = torch.optim.NAdam(groups, lr=4e-3)

    def silence(step: int) -> None:
        if stage.sick and step == 140:
            optimizer.param_groups[1]["lr"] = 1e-12

    return fit(stage, model, optimizer, _reads(stage, model), num_steps=330, before=silence)
