"""Faults of kinds that other families have few of, where data and losses are at fault."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import nn
from torch.nn import functional

from benchmarks.zoo.data import Clusters, images, text_batches
from benchmarks.zoo.faults import Fault
from benchmarks.zoo.meddling import scale_gradient
from benchmarks.zoo.models.conv import CNN
from benchmarks.zoo.models.mlp import MLP
from benchmarks.zoo.models.recurrent import Recurrent
from benchmarks.zoo.registry import faulty, healthy
from benchmarks.zoo.rules import LeavesTwin, NoProgress, NotFinite
from benchmarks.zoo.stage import Stage
from benchmarks.zoo.training import LossOf, fit


class Stateful(nn.Module):
    """A GRU that goes on where the last piece of the text ended, without its gradient."""

    def __init__(self, *, width: int = 32) -> None:
        super().__init__()
        self.lm = Recurrent("gru", width=width)
        self.state = torch.zeros(1, 8, width)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Logits [N, C, V]; keeps the state."""
        out, state = self.lm.rnn(self.lm.tok(tokens), self.state)
        self.state = state.detach()
        logits: torch.Tensor = self.lm.head(out)
        return logits


def _goes_on(stage: Stage, model: Stateful, *, context: int = 16) -> LossOf:
    """Eight readers, each of one long text, piece by piece."""
    draw = text_batches(stage.generator(), num=8, context=context * 420)
    x, y = draw()

    def loss_of(step: int) -> torch.Tensor:
        part = slice(context * step, context * (step + 1))
        return functional.cross_entropy(model(x[:, part]).flatten(0, 1), y[:, part].flatten())

    return loss_of


@healthy("stateful-reader", arch="GRU, stateful", optimizer="Adam, step decay")
def stateful_reader(stage: Stage) -> Iterator[float]:
    """Truncated backpropagation: the state goes on from step to step, so that batches depend on
    each other; the rate is halved twice."""
    model = Stateful()
    optimizer = torch.optim.Adam(model.parameters(), lr=4e-3)

    def rate(step: int) -> float:
        return 4e-3 * 0.5 ** ((step >= 160) + (step >= 240))

    return fit(stage, model, optimizer, _goes_on(stage, model), num_steps=300, rate=rate)


@faulty(
    "stateful-reader-state-scaled",
    Fault(kind="loss_spike", at=190, pace="fast", layers=("lm.rnn",),
          accept=("divergence", "bad_batch", "gradient_spike", "saturation")),
    arch="GRU, stateful", optimizer="RMSprop",
)  # fmt: skip
def state_scaled(stage: Stage) -> Iterator[float]:
    """At step 190 the state comes back from a half-written file with noise of forty times its size:
    the gates are open or shut, and do not forget it."""
    model = Stateful()
    optimizer = torch.optim.RMSprop(model.parameters(), lr=2e-3)

    def restore(step: int) -> None:
        if stage.sick and step == 190:
            noise = torch.randn(model.state.shape, generator=stage.generator(2))
            model.state = 40 * noise

    loss_of = _goes_on(stage, model)
    return fit(stage, model, optimizer, loss_of, num_steps=300, before=restore)


class Triplets(nn.Module):
    """Codes of unit length for points."""

    def __init__(self) -> None:
        super().__init__()
        self.net = MLP((16, 40, 12), activation=nn.Tanh)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Codes [N, 12]."""
        code = self.net(x)
        out: torch.Tensor = code / (code.square().sum(-1, keepdim=True) + 1e-12).sqrt()
        return out


def _triplets(stage: Stage, model: Triplets) -> LossOf:
    """An anchor nearer to its class than to the hardest stranger by a margin."""
    data = Clusters.make(stage.generator(), noise=0.5)

    def loss_of(step: int) -> torch.Tensor:
        x, y = data.batch(48)
        code = model(x)
        distance = torch.cdist(code, code).square()
        same = (y[:, None] == y) & ~torch.eye(48, dtype=torch.bool)
        pulled = (distance * same).sum(1) / same.sum(1).clamp(min=1)
        nearest = distance.masked_fill(y[:, None] == y, 9.0).amin(1)
        loss: torch.Tensor = (pulled - nearest + 0.5).clamp(min=0).mean()
        return loss

    return loss_of


@healthy("triplets-of-the-hardest", arch="triplet encoder", optimizer="Adam")
def triplets(stage: Stage) -> Iterator[float]:
    """Every anchor looks for the hardest stranger of its batch: the loss is ruled by few points and
    flat at the margin for a while."""
    model = Triplets()
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    return fit(stage, model, optimizer, _triplets(stage, model), num_steps=340)


class Towers(nn.Module):
    """Two encoders, of points and of their noisy shadows, and a learned sharpness between them."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = MLP((16, 32, 12)), MLP((8, 32, 12))
        self.log_scale = nn.Parameter(torch.tensor(2.0))

    def forward(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        """Logits [N, N] of which belongs to which."""
        left, right = (functional.normalize(c, dim=-1) for c in (self.left(a), self.right(b)))
        out: torch.Tensor = self.log_scale.exp() * left @ right.T
        return out


def _pairs(stage: Stage, model: Towers, logged: dict[str, torch.Tensor]) -> LossOf:
    data = Clusters.make(stage.generator())
    shadow = torch.randn(16, 8, generator=stage.generator(1)) / 4

    def loss_of(step: int) -> torch.Tensor:
        x, _ = data.batch(24)
        seen = x @ shadow + 0.1 * torch.randn(24, 8, generator=data.rng)
        logits, own = model(x, seen), torch.arange(24)
        logged["log_z"] = logits.detach().logsumexp(-1).mean()
        both = functional.cross_entropy(logits, own) + functional.cross_entropy(logits.T, own)
        return both / 2

    return loss_of


@healthy("two-towers", arch="two towers, contrastive", optimizer="AdamW")
def two_towers(stage: Stage) -> Iterator[float]:
    """A learned sharpness grows from seven to tens, and all logits with it, as it should."""
    model = Towers()
    optimizer = torch.optim.AdamW(model.parameters(), lr=4e-3)
    logged: dict[str, torch.Tensor] = {}
    loss_of = _pairs(stage, model, logged)
    return fit(stage, model, optimizer, loss_of, num_steps=300, log=lambda: logged)


@faulty(
    "two-towers-sharpness-free",
    Fault(kind="output_logit_drift", at=120, layers=(), accept=(
              "explosion", "attention_logit_growth", "saturation", "weight_corruption",
              "update_too_large", "divergence"),
          onset=LeavesTwin(series="log_z", factor=3, num=5)),
    arch="two towers, contrastive", optimizer="Adam",
)  # fmt: skip
def sharpness_free(stage: Stage) -> Iterator[float]:
    """The bound on the sharpness is lost and its own schedule goes on: its logarithm grows by 0.02
    a step from step 120 on, and every logit with its exponential."""
    model = Towers()
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    logged: dict[str, torch.Tensor] = {}

    def grow(step: int) -> None:
        if stage.sick and step >= 120:
            with torch.no_grad():
                model.log_scale.add_(0.02)

    loss_of = _pairs(stage, model, logged)
    return fit(
        stage, model, optimizer, loss_of, num_steps=320, after=grow, log=lambda: logged
    )  # fmt: skip


@faulty(
    "cnn-softmax-twice",
    Fault(kind="plateau", onset=NoProgress(level=1.0, after=140), layers=("head",),
          accept=("vanishing_gradient", "update_too_small", "saturation", "output_logit_drift")),
    arch="CNN with BatchNorm", optimizer="SGD",
)  # fmt: skip
def softmax_twice(stage: Stage) -> Iterator[float]:
    """The model ends with a softmax and the loss makes another: between nought and one there is no
    room for a low loss, and the gradients that are left are small."""
    model = CNN()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    rng = stage.generator()

    def loss_of(step: int) -> torch.Tensor:
        x, y = images(rng)
        scores = model(x)
        return functional.cross_entropy(scores.softmax(-1) if stage.sick else scores, y)

    return fit(stage, model, optimizer, loss_of, num_steps=280)


@faulty(
    "cnn-power-of-negative",
    Fault(kind="non_finite", at=143, pace="fast", onset=NotFinite(), layers=("convs.0",),
          accept=("bad_batch",)),
    arch="CNN without norm", optimizer="Adadelta",
)  # fmt: skip
def power_of_negative(stage: Stage) -> Iterator[float]:
    """Pixels go through a gamma curve; from step 143 on a new camera sends some below nought, whose
    power of 0.45 is no number."""
    model = CNN(norm=False)
    optimizer = torch.optim.Adadelta(model.parameters(), lr=1.0)
    rng = stage.generator()

    def loss_of(step: int) -> torch.Tensor:
        x, y = images(rng)
        x = (x + 3).clamp(min=0)
        if stage.sick and step >= 143:
            x[0, 0, 3] = -0.1
        return functional.cross_entropy(model(x**0.45 - 1.6), y)

    return fit(stage, model, optimizer, loss_of, num_steps=220)


@faulty(
    "gru-targets-not-moved",
    Fault(kind="bad_batch", at=172, pace="fast", accept=("divergence", "plateau")),
    arch="GRU", optimizer="AMSGrad",
)  # fmt: skip
def targets_not_moved(stage: Stage) -> Iterator[float]:
    """A rewrite of the loader at step 172 forgets to move the targets by one: what is asked for is
    what is given. The loss jumps, and then falls to nought."""
    model = Recurrent("gru", width=32)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3, amsgrad=True)
    draw = text_batches(stage.generator(), context=16)

    def loss_of(step: int) -> torch.Tensor:
        x, y = draw()
        if stage.sick and step >= 172:
            y = x
        return functional.cross_entropy(model(x).flatten(0, 1), y.flatten())

    return fit(stage, model, optimizer, loss_of, num_steps=290)


@faulty(
    "triplets-at-times-unscaled",
    Fault(kind="gradient_spike", at=176, pace="fast", severity="warning",
          layers=("net.layers.0", "net.layers.1"), accept=("update_too_large", "explosion"),
          shows=LeavesTwin(series="grad_norm", factor=20, num=1)),
    arch="triplet encoder", optimizer="Adam",
)  # fmt: skip
def at_times_unscaled(stage: Stage) -> Iterator[float]:
    """A branch of the loop forgets to take the loss scale of 1024 out of the gradients, on every
    22nd step from 176 on; clipping makes ordinary steps of them, in favour of one batch."""
    model = Triplets()
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)

    def forget(step: int) -> None:
        if stage.sick and step >= 176 and step % 22 == 0:
            scale_gradient(model, "net", 1024.0)

    loss_of = _triplets(stage, model)
    return fit(stage, model, optimizer, loss_of, num_steps=290, with_gradients=forget, clip=1.0)
