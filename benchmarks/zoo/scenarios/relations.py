"""Graphs, triples, clicks, trees and classes as directions, healthy and with faults in how they are
fed and kept."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional

from benchmarks.zoo.data import Clusters
from benchmarks.zoo.faults import Fault
from benchmarks.zoo.models.relations import Cross, Directions, Isomorphism, Translation, Trees
from benchmarks.zoo.registry import faulty, healthy
from benchmarks.zoo.rules import Crosses, LeavesTwin, NoProgress, ScalarsDiffer
from benchmarks.zoo.schedules import warm_restarts
from benchmarks.zoo.stage import Stage
from benchmarks.zoo.training import fit, log_z


@dataclass(frozen=True, slots=True, kw_only=True)
class Graphs:
    """Rings, chains and stars side by side: nodes [n, F], edges [2, E], whose node it is [n], and
    which of the three each graph is [N]."""

    nodes: torch.Tensor
    edges: torch.Tensor
    graph: torch.Tensor
    labels: torch.Tensor


def graphs(rng: torch.Generator, *, num: int = 12, smallest: int = 4, largest: int = 14) -> Graphs:
    """Draw graphs of sizes from `smallest` to `largest`."""
    labels = torch.randint(3, (num,), generator=rng)
    sizes = torch.randint(smallest, largest + 1, (num,), generator=rng)
    parts, graph, start = [], torch.repeat_interleave(torch.arange(num), sizes), 0
    for label, size in zip(labels.tolist(), sizes.tolist(), strict=True):
        node = torch.arange(1, size)
        other = torch.zeros_like(node) if label == 2 else node - 1
        pairs = torch.stack([node, other])
        if label == 0:
            pairs = torch.cat([pairs, torch.tensor([[0], [size - 1]])], dim=1)
        parts.append(torch.cat([pairs, pairs.flip(0)], dim=1) + start)
        start += size
    nodes = 1 + 0.5 * torch.randn(start, 6, generator=rng)
    return Graphs(nodes=nodes, edges=torch.cat(parts, 1), graph=graph, labels=labels)


def _told_apart(model: Isomorphism, drawn: Graphs, *, twice: float = 0.0) -> torch.Tensor:
    """The loss; a share `twice` of the edges is listed once more, or as often as it says."""
    num = drawn.edges.shape[1]
    edges = drawn.edges[:, torch.arange(round((1 + twice) * num)) * 7 % num]
    out = model(drawn.nodes, edges, drawn.graph, len(drawn.labels))
    return functional.cross_entropy(out, drawn.labels)


@healthy("graph-sums-of-all-sizes", arch="graph isomorphism network", optimizer="Adam")
def sums_of_all_sizes(stage: Stage) -> Iterator[float]:
    """Sums instead of means over graphs of four to forty nodes: sizes of activations and losses
    differ severalfold from batch to batch, as do the hubs' from those of all other nodes."""
    model = Isomorphism()
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    rng = stage.generator()

    def loss_of(step: int) -> torch.Tensor:
        largest = 40 if step % 4 == 1 else 12
        return _told_apart(model, graphs(rng, largest=largest))

    return fit(stage, model, optimizer, loss_of, num_steps=340, clip=1.0)


@faulty(
    "graph-edges-appended-again",
    Fault(kind="explosion", at=120, layers=("convs",), severity="warning",
          accept=("bad_batch", "divergence", "loss_spike", "gradient_spike"),
          onset=LeavesTwin(series="activation:convs.2.layers.1", factor=2.5, num=3)),
    arch="graph isomorphism network", optimizer="AdamW",
)  # fmt: skip
def edges_appended(stage: Stage) -> Iterator[float]:
    """A cache appends the edges of the graphs that it renews instead of replacing them, a third of
    all on each tenth step from step 120 on: sums over neighbours count ever more of them twice, and
    then again."""
    model = Isomorphism()
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    rng = stage.generator()

    def loss_of(step: int) -> torch.Tensor:
        renewed = max(0, (step - 120) // 10 + 1) if stage.sick else 0
        return _told_apart(model, graphs(rng), twice=0.3 * renewed)

    return fit(stage, model, optimizer, loss_of, num_steps=320, clip=1.0)


@faulty(
    "triples-lengths-never-renewed",
    Fault(kind="explosion", at=60, layers=("entities",), severity="warning",
          accept=("output_logit_drift", "divergence", "update_too_large"),
          onset=LeavesTwin(series="weight:entities.weight", factor=2, num=3)),
    arch="translations of things", optimizer="Adagrad",
)  # fmt: skip
def never_renewed(stage: Stage) -> Iterator[float]:
    """Things are brought back to length 1 after each step, until a change of the loop leaves that
    out from step 60 on. Longer is further apart: the margin is kept by size alone, and the loss
    falls better than ever."""
    model = Translation()
    optimizer = torch.optim.Adagrad(model.parameters(), lr=0.8)
    rng = stage.generator()

    def after(step: int) -> None:
        if not (stage.sick and step >= 60):
            model.renew()

    def loss_of(step: int) -> torch.Tensor:
        head = torch.randint(200, (64,), generator=rng)
        kind = torch.randint(6, (64,), generator=rng)
        tail = (head + 7 * (kind + 1)) % 200
        wrong = torch.randint(200, (64,), generator=rng)
        near, far = model(head, kind, tail), model(head, kind, wrong)
        return functional.softplus(4 * (1.0 + near - far)).mean()

    return fit(stage, model, optimizer, loss_of, num_steps=320, after=after)


def shopped(rng: torch.Generator, model: Cross, *, ids: int) -> Callable[[int], torch.Tensor]:
    """Whether something is bought, by its id and six numbers; the first of `ids` sell best."""
    worth = 2.0 * torch.randn(ids, generator=rng)

    def loss_of(step: int) -> torch.Tensor:
        item = (ids * torch.rand(64, generator=rng) ** 1.5).long()
        numbers = torch.randn(64, 6, generator=rng)
        odds = (worth[item] + numbers[:, 0] * numbers[:, 1]).sigmoid()
        bought = (torch.rand(64, generator=rng) < odds).float()
        return functional.binary_cross_entropy_with_logits(model(item, numbers), bought)

    return loss_of


@faulty(
    "cross-table-in-old-optimizer",
    Fault(kind="update_too_small", at=80, layers=("table",), severity="warning",
          accept=("vanishing_gradient", "plateau"),
          onset=Crosses(series="update:table.weight", below=1e-12, num=5, since=80)),
    arch="deep and cross network", optimizer="Adam",
)  # fmt: skip
def in_old_optimizer(stage: Stage) -> Iterator[float]:
    """The table of ids is made anew for a larger catalogue at step 80, with the old rows copied.
    The optimizer goes on with the tensor that it was given: the table never learns again. In the
    twin the rows are copied in place."""
    model = Cross(ids=120)
    optimizer = torch.optim.Adam(model.parameters(), lr=4e-3)

    def grow(step: int) -> None:
        if stage.sick and step == 80:
            model.table.weight = nn.Parameter(model.table.weight.detach().clone())

    loss_of = shopped(stage.generator(), model, ids=120)
    return fit(stage, model, optimizer, loss_of, num_steps=320, before=grow)


@faulty(
    "tastes-negatives-from-positives",
    Fault(kind="plateau", accept=("representation_collapse", "bad_batch", "vanishing_gradient"),
          onset=NoProgress(level=0.55, after=60)),
    arch="matrix factorization, pairwise", optimizer="Adam",
)  # fmt: skip
def negatives_from_positives(stage: Stage) -> Iterator[float]:
    """What a user did not choose should be drawn from all things, but the sampler draws it from the
    list of what that user chose: no order can be learned, and the loss stays at log 2."""
    model = nn.ModuleDict({"users": nn.Embedding(100, 12), "things": nn.Embedding(150, 12)})
    for table in model.parameters():
        nn.init.normal_(table, std=0.1)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    rng = stage.generator()

    def liked(user: torch.Tensor) -> torch.Tensor:
        return (user % 5) * 30 + (30 * torch.rand(len(user), generator=rng) ** 1.5).long()

    def loss_of(step: int) -> torch.Tensor:
        user = torch.randint(100, (128,), generator=rng)
        chosen, drawn = liked(user), torch.randint(150, (128,), generator=rng)
        if stage.sick:
            drawn = liked(user)
        who, good, bad = model["users"](user), model["things"](chosen), model["things"](drawn)
        return functional.softplus((who * (bad - good)).sum(1)).mean()

    return fit(stage, model, optimizer, loss_of, num_steps=300)


def _checksum(model: nn.Module) -> float:
    return float(sum(p.detach().double().sum() for p in model.parameters()))


@faulty(
    "cross-ranks-older-checkpoint",
    Fault(kind="replica_divergence", at=160, pace="fast", severity="warning",
          accept=("weight_corruption",),
          onset=ScalarsDiffer(first="weight_checksum_rank0", second="weight_checksum_rank1")),
    arch="deep and cross network, two ranks", optimizer="AdamW",
)  # fmt: skip
def older_checkpoint(stage: Stage) -> Iterator[float]:
    """Both ranks are stopped at step 160 and resumed with their optimizers; one reads the
    checkpoint of step 120, which its disk still had. Gradients are averaged as before, and the
    ranks never meet again."""
    models = [Cross()]
    models.append(copy.deepcopy(models[0]))
    optimizers = [torch.optim.AdamW(m.parameters(), lr=5e-3) for m in models]
    rngs = [stage.generator(), stage.generator()]
    losses_of = [shopped(r, m, ids=60) for r, m in zip(rngs, models, strict=True)]
    rngs[1].manual_seed(stage.seed + 78)
    older: dict[str, torch.Tensor] = {}
    for first, last in ((0, 160), (160, 320)):
        watches = [
            stage.watch(m, o, rank=r, world=2, first_step=first)
            for r, (m, o) in enumerate(zip(models, optimizers, strict=True))
        ]
        for step in range(first, last):
            if step == 120:
                older = copy.deepcopy(models[1].state_dict())
            if stage.sick and step == 160:
                models[1].load_state_dict(older)
            losses = [loss_of(step) for loss_of in losses_of]
            for model, loss in zip(models, losses, strict=True):
                model.zero_grad()
                torch.autograd.backward(loss)
            for a, b in zip(models[0].parameters(), models[1].parameters(), strict=True):
                assert a.grad is not None
                assert b.grad is not None
                mean = (a.grad + b.grad) / 2
                a.grad.copy_(mean)
                b.grad.copy_(mean)
            for r, watch in enumerate(watches):
                optimizers[r].step()
                watch.log(weight_checksum=_checksum(models[r]))
                watch.step(losses[r])
            yield float(torch.stack(losses).detach().mean())
        for watch in watches:
            watch.close()


@healthy("trees-get-sharper", arch="soft oblivious trees", optimizer="NAdam")
def get_sharper(stage: Stage) -> Iterator[float]:
    """Questions are made surer step by step, as planned, until nearly all gates are at nought or
    one and most leaves are never reached; the rate begins anew every 80 steps."""
    model = Trees()
    optimizer = torch.optim.NAdam(model.parameters(), lr=1e-2)
    rng = stage.generator()

    def sharpen(step: int) -> None:
        model.sharpness = 1.0 + 9.0 * min(1.0, step / 240)

    def loss_of(step: int) -> torch.Tensor:
        x = torch.randn(64, 8, generator=rng)
        y = (x[:, 0] > 0.3).float() + 2.0 * ((x[:, 1] < 0) & (x[:, 2] > 0)).float()
        return functional.mse_loss(model(x), y[:, None])

    rate = warm_restarts(1.5e-2, period=80)
    return fit(stage, model, optimizer, loss_of, num_steps=320, before=sharpen, rate=rate)


@healthy("directions-margin-grows", arch="classes as directions", optimizer="SGD momentum")
def margin_grows(stage: Stage) -> Iterator[float]:
    """The margin between classes grows from nought to its full width between steps 60 and 200, as
    planned: the loss climbs by a multiple all that while, as the task gets harder."""
    model = Directions()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    data = Clusters.make(stage.generator(), noise=0.4)

    def widen(step: int) -> None:
        model.margin = 0.4 * min(1.0, max(0.0, (step - 60) / 140))

    def loss_of(step: int) -> torch.Tensor:
        x, y = data.batch()
        return functional.cross_entropy(model(x, y), y)

    return fit(
        stage, model, optimizer, loss_of, num_steps=360, before=widen,
        log=lambda: {"margin": model.margin},
    )  # fmt: skip


@faulty(
    "directions-points-not-unit",
    Fault(kind="output_logit_drift", at=110, layers=("encoder.layers.2",), severity="warning",
          accept=("explosion", "divergence", "loss_spike"),
          onset=LeavesTwin(series="log_z", factor=1.8, num=5)),
    arch="classes as directions", optimizer="AdamW",
)  # fmt: skip
def points_not_unit(stage: Stage) -> Iterator[float]:
    """A resume at step 110 runs newer code that turns only classes into directions: the points'
    codes grow, without a bound, as that is the cheapest way to be sure."""
    model = Directions()
    model.margin = 0.2
    optimizer = torch.optim.AdamW(model.parameters(), lr=8e-3, weight_decay=1e-3)
    data = Clusters.make(stage.generator(), noise=0.6)
    seen = {"log_z": 0.0}

    def loss_of(step: int) -> torch.Tensor:
        model.unit = not (stage.sick and step >= 110)
        x, y = data.batch()
        logits = model(x, y)
        seen["log_z"] = float(log_z(logits))
        return functional.cross_entropy(logits, y)

    yield from fit(stage, model, optimizer, loss_of, num_steps=110, log=lambda: seen)
    yield from fit(
        stage, model, optimizer, loss_of, num_steps=360, first_step=110, log=lambda: seen
    )
