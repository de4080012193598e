"""Tables, words, coordinates and tasks, with faults of data, groups and signs."""

from __future__ import annotations

import copy
from collections.abc import Iterator

import torch
from torch import nn
from torch.nn import functional

from benchmarks.zoo.data import Clusters
from benchmarks.zoo.faults import Fault
from benchmarks.zoo.meddling import groups, scale
from benchmarks.zoo.models.mlp import MLP
from benchmarks.zoo.models.tables import (
    Highway,
    Hyper,
    Pairs,
    Radial,
    Siamese,
    Sines,
    TabularTransformer,
    WideDeep,
)
from benchmarks.zoo.registry import faulty
from benchmarks.zoo.rules import LeavesTwin, NoProgress, NotFinite
from benchmarks.zoo.scenarios.tables_healthy import (
    clicks,
    neighbours,
    painting,
    rows,
    surface,
    tasks,
    views,
)
from benchmarks.zoo.stage import Stage
from benchmarks.zoo.training import fit


@faulty(
    "clicks-rare-embedding-rate",
    Fault(kind="explosion", at=80, layers=("embeds.2",), severity="warning",
          accept=("update_too_large", "weight_corruption"),
          onset=LeavesTwin(series="weight:embeds.2.weight", factor=3)),
    arch="wide and deep, embeddings", optimizer="SGD, two groups",
)  # fmt: skip
def rare_embedding_rate(stage: Stage) -> Iterator[float]:
    """A group for one embedding has a decay of -15 instead of 0.15 from step 80 on: its rows grow
    by 1.5 % a step, drawn or not."""
    model = WideDeep()
    optimizer = torch.optim.SGD(groups(model, "embeds.2", 1e-3))
    optimizer.param_groups[0]["lr"] = 0.05

    def mistype(step: int) -> None:
        if stage.sick and step >= 80:
            optimizer.param_groups[1]["weight_decay"] = -15.0

    loss_of = clicks(stage, model, rare=1.0)
    return fit(stage, model, optimizer, loss_of, num_steps=330, before=mistype)


@faulty(
    "clicks-moments-of-nought",
    Fault(kind="update_too_large", at=166, pace="fast", layers=("fc1",), severity="warning",
          accept=("weight_corruption",)),
    arch="wide and deep, embeddings", optimizer="Adam",
)  # fmt: skip
def moments_of_nought(stage: Stage) -> Iterator[float]:
    """A partial restore at step 166 fills the second moments of one layer with noughts: what is
    left to divide by is epsilon, and the update is as large as it can get."""
    model = WideDeep()
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3, betas=(0.9, 0.999))

    def restore(step: int) -> None:
        if stage.sick and step == 166:
            for parameter in model.fc1.parameters():
                optimizer.state[parameter]["exp_avg_sq"].zero_()

    loss_of = clicks(stage, model, rare=2.0)
    return fit(stage, model, optimizer, loss_of, num_steps=280, before=restore)


@faulty(
    "rows-column-of-noise",
    Fault(kind="bad_batch", at=155, pace="fast", severity="warning", lasting=False,
          accept=("explosion", "saturation")),
    arch="tabular transformer", optimizer="AdamW",
)  # fmt: skip
def column_of_noise(stage: Stage) -> Iterator[float]:
    """A join by the wrong key for nine batches from step 155 on: the targets belong to other rows,
    and are five times as large."""
    model = TabularTransformer()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    right, rng = rows(stage, model), stage.generator(4)

    def loss_of(step: int) -> torch.Tensor:
        loss = right(step)
        if stage.sick and 155 <= step < 164:
            x = torch.randn(48, 10, generator=rng)
            loss = functional.smooth_l1_loss(model(x), 5 * torch.randn(48, 1, generator=rng))
        return loss

    return fit(stage, model, optimizer, loss_of, num_steps=270)


@faulty(
    "rows-norm-gains-grow",
    Fault(kind="explosion", at=65, layers=("blocks.0.norm1",), severity="warning",
          accept=("attention_logit_growth", "saturation", "weight_corruption"),
          onset=LeavesTwin(series="activation:blocks.0.norm1", factor=3)),
    arch="tabular transformer", optimizer="NAdam",
)  # fmt: skip
def norm_gains_grow(stage: Stage) -> Iterator[float]:
    """The gains of a norm got into a group whose decay is of the wrong sign: from step 65 on they
    grow by 2 % a step, and the attention behind them gets sharper and sharper."""
    model = TabularTransformer()
    optimizer = torch.optim.NAdam(model.parameters(), lr=2e-3)

    def grow(step: int) -> None:
        if stage.sick and step >= 65:
            scale(model, "blocks.0.norm1", 1.02)

    return fit(stage, model, optimizer, rows(stage, model), num_steps=260, before=grow)


@faulty(
    "words-without-negatives",
    Fault(kind="representation_collapse", at=110, layers=("word", "near"),
          accept=("output_logit_drift", "explosion"),
          onset=LeavesTwin(series="loss", factor=8, num=5)),
    arch="skip-gram", optimizer="Adagrad", quick=True,
)  # fmt: skip
def without_negatives(stage: Stage) -> Iterator[float]:
    """The sampler of negatives returns nothing from step 110 on: the loss is better than ever,
    while every word moves to the same place."""
    model = Pairs()
    optimizer = torch.optim.Adagrad(model.parameters(), lr=0.2)
    since = 110 if stage.sick else 10**9
    loss_of = neighbours(stage, model, without_from=since)
    return fit(stage, model, optimizer, loss_of, num_steps=320)


@faulty(
    "radial-units-too-narrow",
    Fault(kind="dead_units", at=70, layers=("centres", "sharpness"),
          accept=("vanishing_gradient", "representation_collapse", "divergence", "saturation"),
          onset=LeavesTwin(series="units_fired", factor=1.1, num=3)),
    arch="radial basis network", optimizer="Adam",
)  # fmt: skip
def too_narrow(stage: Stage) -> Iterator[float]:
    """An annealing makes every unit narrower by 6 % a step from step 70 on and never stops: one
    after another meets no point any more."""
    model = Radial()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)

    def narrow(step: int) -> None:
        if stage.sick and step >= 70:
            with torch.no_grad():
                model.sharpness.mul_(1.06)

    return fit(
        stage, model, optimizer, surface(stage, model), num_steps=280, before=narrow,
        log=lambda: {"units_fired": model.fired},
    )  # fmt: skip


@faulty(
    "picture-omega-everywhere",
    Fault(kind="plateau", layers=("layers",), onset=NoProgress(level=0.3, after=120),
          accept=("saturation", "divergence", "explosion", "update_too_large")),
    arch="sines of coordinates", optimizer="Adam",
)  # fmt: skip
def omega_everywhere(stage: Stage) -> Iterator[float]:
    """The layers are initialised as for tanh, with the sines' speed of 60 left in: every sine goes
    round many times between two pixels, and there is nothing smooth to follow."""
    model = Sines(omega=60.0 if stage.sick else 12.0)
    if stage.sick:
        for layer in model.layers:
            nn.init.xavier_normal_(layer.get_parameter("weight"), gain=5 / 3)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    return fit(stage, model, optimizer, painting(stage, model), num_steps=260)


@faulty(
    "highway-gates-never-open",
    Fault(kind="vanishing_gradient", at=60, layers=("layers.3", "layers.4"), severity="warning",
          accept=("saturation", "dead_units"),
          onset=LeavesTwin(series="gradient:layers.3.weight", factor=30, num=4)),
    arch="highway network", optimizer="Adam",
)  # fmt: skip
def gates_never_open(stage: Stage) -> Iterator[float]:
    """A regulariser pulls the biases of two gates down by 0.12 a step from step 60 on: both layers
    are carried around, and get next to no gradient."""
    model = Highway()
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    data = Clusters.make(stage.generator())

    def pull(step: int) -> None:
        if stage.sick and step >= 60:
            with torch.no_grad():
                for i in (3, 4):
                    model.get_parameter(f"gates.{i}.bias").sub_(0.12)

    def loss_of(step: int) -> torch.Tensor:
        x, y = data.batch()
        return functional.cross_entropy(model(x), y)

    return fit(stage, model, optimizer, loss_of, num_steps=270, after=pull)


@faulty(
    "written-weights-too-large",
    Fault(kind="explosion", layers=("write",),
          accept=("divergence", "update_too_large", "saturation", "gradient_spike"),
          shows=LeavesTwin(series="activation:write", factor=10)),
    arch="hypernetwork", optimizer="SGD momentum", quick=True,
)  # fmt: skip
def written_too_large(stage: Stage) -> Iterator[float]:
    """The layer that writes weights is initialised for activations, forty times too large for
    weights: the first losses are thousands."""
    model = Hyper()
    if stage.sick:
        scale(model, "write", 40.0)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    return fit(stage, model, optimizer, tasks(stage, model), num_steps=240, clip=1.0)


@faulty(
    "siamese-gradient-not-stopped",
    Fault(kind="representation_collapse", at=100, layers=("encoder",),
          onset=LeavesTwin(series="code_spread", factor=1.6, num=5)),
    arch="siamese with predictor", optimizer="SGD momentum", quick=True,
)  # fmt: skip
def gradient_not_stopped(stage: Stage) -> Iterator[float]:
    """A rewrite of the loss at step 100 lets the gradient into the goal: the two views agree soon
    and perfectly, and so does everything else."""
    model = Siamese()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-3)
    since = 100 if stage.sick else 10**9
    return fit(
        stage, model, optimizer, views(stage, model, stops_until=since), num_steps=420,
        log=lambda: {"code_spread": model.spread},
    )  # fmt: skip


@faulty(
    "few-shot-away-from-tasks",
    Fault(kind="divergence", at=90, accept=("explosion", "update_too_large", "loss_spike",
                                            "gradient_spike"),
          onset=LeavesTwin(series="loss", factor=3, num=4),
          layers=("layers.0", "layers.1", "layers.2")),
    arch="MLP, Reptile", optimizer="Reptile on SGD",
)  # fmt: skip
def away_from_tasks(stage: Stage) -> Iterator[float]:
    """The outer step has the wrong sign from step 90 on: the start of each task is moved away from
    where the last one ended."""
    model = MLP((1, 32, 32, 1))
    slow = copy.deepcopy(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    rng = stage.generator()
    task = {"phase": 0.0}

    @torch.no_grad()
    def outer(step: int) -> None:
        if step % 5 == 0:
            share = -1.5 if stage.sick and step >= 90 else 0.2
            for mean, now in zip(slow.parameters(), model.parameters(), strict=True):
                mean.lerp_(now, share)
            model.load_state_dict(slow.state_dict())
            task["phase"] = float(0.8 * torch.rand((), generator=rng))

    def loss_of(step: int) -> torch.Tensor:
        x = 4 * torch.rand(32, 1, generator=rng) - 2
        return functional.mse_loss(model(x), torch.sin(2 * x + task["phase"]))

    return fit(stage, model, optimizer, loss_of, num_steps=300, before=outer, clip=1.0)


@faulty(
    "risks-without-bound",
    Fault(kind="non_finite", at=182, pace="fast", layers=("layers.0", "layers.1", "layers.2"),
          onset=NotFinite(), accept=("bad_batch",)),
    arch="survival MLP", optimizer="AdamW",
)  # fmt: skip
def risks_without_bound(stage: Stage) -> Iterator[float]:
    """A Cox loss exponentiates risks without taking their maximum away; at step 182 a patient's age
    comes in days, and the exponential of it is infinite."""
    model = MLP((6, 32, 32, 1))
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    rng = stage.generator()

    def loss_of(step: int) -> torch.Tensor:
        x = torch.randn(32, 6, generator=rng)
        life = torch.rand(32, generator=rng).log().neg() * (-x[:, 0]).exp()
        if stage.sick and step == 182:
            x[5, 0] = 12000.0
            x[5, 1] = -9000.0
        risk = model(x)[life.argsort(descending=True), 0]
        loss: torch.Tensor = (risk.exp().cumsum(0).log() - risk).mean()
        return loss

    return fit(stage, model, optimizer, loss_of, num_steps=260)
