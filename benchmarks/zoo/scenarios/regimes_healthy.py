"""Small networks under rare optimizers, schedules and ways of logging, healthy."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import nn
from torch.nn import functional

from benchmarks.zoo.data import Clusters, curve
from benchmarks.zoo.models.mlp import MLP
from benchmarks.zoo.optimizers import AdaBelief, RootPreconditioned, SignMomentum
from benchmarks.zoo.registry import healthy
from benchmarks.zoo.schedules import one_cycle, warmup_stable_decay
from benchmarks.zoo.stage import Stage
from benchmarks.zoo.training import LossOf, fit


def classes(stage: Stage, model: nn.Module, *, num: int = 32, noise: float = 0.7) -> LossOf:
    """Cross-entropy of the class of a point."""
    data = Clusters.make(stage.generator(), noise=noise)

    def loss_of(step: int) -> torch.Tensor:
        x, y = data.batch(num)
        return functional.cross_entropy(model(x), y)

    return loss_of


@healthy("roots-every-25-steps", arch="MLP, GELU", optimizer="Shampoo")
def roots(stage: Stage) -> Iterator[float]:
    """The preconditioner is taken anew every 25 steps: updates halve at once each time, with the
    gradients as they were."""
    model = MLP((16, 40, 40, 8), activation=nn.GELU)
    optimizer = RootPreconditioned(model.parameters(), 0.02, every=25)
    return fit(stage, model, optimizer, classes(stage, model), num_steps=300)


@healthy("sign-momentum-cycle", arch="MLP, SELU", optimizer="sign momentum")
def signs(stage: Stage) -> Iterator[float]:
    """Signs only, at a rate that climbs twentyfold and falls again: every update has the rate's
    size and no other."""
    model = MLP((16, 40, 40, 8), activation=nn.SELU)
    optimizer = SignMomentum(model.parameters(), 2e-3)
    rate = one_cycle(2e-3, num_steps=300, climb=90)
    return fit(stage, model, optimizer, classes(stage, model), num_steps=300, rate=rate)


@healthy("belief-on-easy-data", arch="MLP, Mish", optimizer="AdaBelief")
def belief(stage: Stage) -> Iterator[float]:
    """Where gradients agree with each other this optimizer takes steps many times larger than Adam
    would: updates grow while gradients fall."""
    model = MLP((16, 32, 32, 8), activation=nn.Mish)
    optimizer = AdaBelief(model.parameters(), 1e-3)
    loss_of = classes(stage, model, num=128, noise=0.3)
    return fit(stage, model, optimizer, loss_of, num_steps=320)


@healthy("rate-from-the-loss", arch="MLP regression", optimizer="SGD, Polyak's rate")
def polyak(stage: Stage) -> Iterator[float]:
    """The rate of each step is the loss over the squared gradient, at most 0.2: it changes tenfold
    from one step to the next."""
    model = MLP((8, 48, 48, 1), activation=nn.Tanh)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    rng, last = stage.generator(), [1.0]

    def loss_of(step: int) -> torch.Tensor:
        x, y = curve(rng)
        loss = functional.mse_loss(model(x), y)
        last[0] = float(loss.detach())
        return loss

    def set_by_loss(step: int) -> None:
        square = sum(float(p.grad.square().sum()) for p in model.parameters() if p.grad is not None)
        optimizer.param_groups[0]["lr"] = min(0.2, 0.5 * last[0] / (square + 1e-8))

    return fit(stage, model, optimizer, loss_of, num_steps=340, with_gradients=set_by_loss)


@healthy("weights-pruned-away", arch="MLP", optimizer="Adam with shrinkage")
def pruned(stage: Stage) -> Iterator[float]:
    """A proximal L1 step sets ever more weights to exactly nought, nine in ten at the end: weights,
    gradients and units fade as intended."""
    model = MLP((16, 64, 64, 8))
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)

    @torch.no_grad()
    def shrink(step: int) -> None:
        for layer in model.layers:
            weight = layer.get_parameter("weight")
            weight.copy_(weight.sign() * (weight.abs() - 4e-4).clamp(min=0))

    return fit(stage, model, optimizer, classes(stage, model), num_steps=340, after=shrink)


@healthy("only-biases-learn", arch="MLP, frozen weights", optimizer="Adadelta")
def only_biases(stage: Stage) -> Iterator[float]:
    """All matrices are frozen as drawn and have no gradient; the biases alone learn, and lift the
    activations far from where they were."""
    model = MLP((16, 96, 96, 8))
    for layer in model.layers:
        layer.get_parameter("weight").requires_grad_(False)
    biases = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.Adadelta(biases, lr=2.0)
    return fit(stage, model, optimizer, classes(stage, model), num_steps=320)


@healthy("two-losses-below-nought", arch="MLP, two heads", optimizer="AdamW")
def below_nought(stage: Stage) -> Iterator[float]:
    """Two tasks weighed by learned variances: the loss falls through nought, and one task's weight
    becomes fifty times the other's."""
    model = MLP((8, 48, 48, 4))
    optimizer = torch.optim.AdamW(model.parameters(), lr=4e-3, weight_decay=0.0)
    rng = stage.generator()

    def loss_of(step: int) -> torch.Tensor:
        x, y = curve(rng, 48, noise=0.02)
        out = model(x)
        spreads = out[:, 2:].mean(dim=0)
        missed = torch.stack(
            [functional.mse_loss(out[:, :1], y), functional.mse_loss(out[:, 1:2], 20 * y)]
        )
        loss: torch.Tensor = ((-spreads).exp() * missed + spreads).sum()
        return loss

    return fit(stage, model, optimizer, loss_of, num_steps=360, clip=10.0)


@healthy("layers-with-own-rates", arch="MLP, 6 layers", optimizer="Adam, a group a layer")
def own_rates(stage: Stage) -> Iterator[float]:
    """Layer-wise rates: each layer learns at 0.6 times the rate of the one above it, so that the
    first one's updates are a thirteenth of the last one's."""
    model = MLP((16, 32, 32, 32, 32, 32, 8), activation=nn.SiLU)
    top = len(model.layers) - 1
    optimizer = torch.optim.Adam(
        [
            {"params": layer.parameters(), "lr": 4e-3 * 0.6 ** (top - i)}
            for i, layer in enumerate(model.layers)
        ]
    )
    return fit(stage, model, optimizer, classes(stage, model), num_steps=320)


@healthy("nothing-but-losses", arch="MLP", optimizer="SGD by hand", quick=True)
def nothing_but_losses(stage: Stage) -> Iterator[float]:
    """The loop moves weights itself and gives the watch no optimizer: no rate, no gradients and no
    updates are known, only activations, weights and the loss."""
    model = MLP((16, 48, 48, 8))
    loss_of = classes(stage, model)
    with stage.watch(model) as watch:
        for step in range(300):
            model.zero_grad()
            loss = loss_of(step)
            torch.autograd.backward(loss)
            with torch.no_grad():
                for p in model.parameters():
                    if p.grad is not None:
                        p.sub_(0.15 * p.grad)
            watch.step(loss)
            yield float(loss.detach())


@healthy("rows-at-odd-times", arch="MLP regression", optimizer="NAdam")
def odd_times(stage: Stage) -> Iterator[float]:
    """Rows come whenever ten seconds were over, after 2 to 12 steps: neither regular nor many, with
    gradients on every third row only."""
    model = MLP((8, 48, 48, 1), activation=nn.SiLU)
    optimizer = torch.optim.NAdam(model.parameters(), lr=2e-3)
    rng, clock = stage.generator(), stage.generator(5)
    due = 0
    with stage.watch(model, optimizer, gradient_every=3) as watch:
        for step in range(1700):
            x, y = curve(rng, 16, noise=0.3)
            loss = functional.mse_loss(model(x), y)
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            optimizer.step()
            if step == due:
                due += int(torch.randint(2, 13, (1,), generator=clock))
                watch.step(loss, step=step)
                yield float(loss.detach())


@healthy("gradients-with-noise", arch="MLP", optimizer="SGD with annealed noise")
def noisy_gradients(stage: Stage) -> Iterator[float]:
    """Differential privacy in the small: clipped to one, with noise of many times the gradient's
    size that is annealed away in the last third."""
    model = MLP((16, 48, 48, 8))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.5)
    noise = stage.generator(7)
    rate = warmup_stable_decay(0.1, num_steps=340, warmup=5, decay=110)

    def add(step: int) -> None:
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for p in model.parameters():
            if p.grad is not None:
                p.grad.add_(0.05 * torch.randn(p.shape, generator=noise))

    loss_of = classes(stage, model)
    return fit(stage, model, optimizer, loss_of, num_steps=340, with_gradients=add, rate=rate)


@healthy("harder-day-by-day", arch="MLP", optimizer="RMSprop with momentum")
def day_by_day(stage: Stage) -> Iterator[float]:
    """The noise of the data grows from step 120 to 260, as a note says at its start: the loss turns
    and climbs slowly to a new floor, below where it began, and every gradient grows with it."""
    model = MLP((16, 48, 48, 8))
    optimizer = torch.optim.RMSprop(model.parameters(), lr=6e-4, momentum=0.8)
    data = Clusters.make(stage.generator(), noise=0.4)

    def loss_of(step: int) -> torch.Tensor:
        x, y = data.batch(48)
        share = min(1.0, max(0.0, (step - 120) / 140))
        x = x + 0.8 * share * torch.randn(x.shape, generator=data.rng)
        return functional.cross_entropy(model(x), y)

    notes = {120: "from here to step 260 the data get noisier"}
    return fit(stage, model, optimizer, loss_of, num_steps=340, notes=notes)
