"""Flows, critics without a bound, and decisions with a temperature or a distribution."""

from __future__ import annotations

import copy
from collections.abc import Iterator

import torch
from torch import nn
from torch.nn import functional

from benchmarks.zoo.faults import Fault
from benchmarks.zoo.models.makers import ReturnAtoms, SoftActor, Velocity
from benchmarks.zoo.models.mlp import MLP
from benchmarks.zoo.registry import faulty, healthy
from benchmarks.zoo.rules import Crosses, LeavesTwin
from benchmarks.zoo.scenarios.control_more import pushed
from benchmarks.zoo.schedules import warmup_stable_decay
from benchmarks.zoo.stage import Stage
from benchmarks.zoo.training import LossOf, fit


def spiral(rng: torch.Generator, num: int) -> torch.Tensor:
    """Points [N, 2] of a spiral with two arms."""
    turn = 1 + 4 * torch.rand(num, generator=rng).sqrt()
    arm = torch.randint(2, (num,), generator=rng) * torch.pi
    at = torch.stack([(turn + arm).cos(), (turn + arm).sin()], 1) * turn[:, None] / 2.5
    return at + 0.05 * torch.randn(num, 2, generator=rng)


def matched(stage: Stage, model: Velocity, *, num: int = 64) -> LossOf:
    """The velocity of straight ways from noise to data, at a random time each."""
    rng = stage.generator()

    def loss_of(step: int) -> torch.Tensor:
        data, noise = spiral(rng, num), torch.randn(num, 2, generator=rng)
        time = torch.sigmoid(torch.randn(num, generator=rng))
        at = torch.lerp(noise, data, time[:, None])
        return functional.mse_loss(model(at, time), data - noise)

    return loss_of


@healthy("flow-matching-gates-from-nought", arch="flow matching, gated blocks", optimizer="AdamW")
def gates_from_nought(stage: Stage) -> Iterator[float]:
    """All blocks are shut at first and half of their weights have no gradient; later most of the
    loss is noise that nothing can predict, and it hardly falls any more."""
    model = Velocity()
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, betas=(0.9, 0.95))
    rate = warmup_stable_decay(3e-3, num_steps=380, warmup=20, decay=100)
    return fit(stage, model, optimizer, matched(stage, model), num_steps=380, rate=rate, clip=1.0)


@faulty(
    "flow-matching-keys-renamed",
    Fault(kind="weight_corruption", at=190, pace="fast",
          layers=("blocks.1", "leave"), severity="warning",
          accept=("loss_spike", "update_too_large", "divergence"),
          shows=LeavesTwin(series="weight:leave.weight", factor=1.3, num=1)),
    arch="flow matching, gated blocks", optimizer="AdamW",
)  # fmt: skip
def keys_renamed(stage: Stage) -> Iterator[float]:
    """A resume at step 190 reads a checkpoint in which some layers had other names, and does not
    insist on all of them: the middle block and the last layer begin anew, drawn for another width,
    beside layers and moments that know nothing of it."""
    model = Velocity()
    fresh = copy.deepcopy(model.state_dict())
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    loss_of = matched(stage, model)
    yield from fit(stage, model, optimizer, loss_of, num_steps=190, clip=1.0)
    if stage.sick:
        lost = {k: v for k, v in fresh.items() if k.startswith(("blocks.1.", "leave."))}
        model.load_state_dict({k: 3.0 * v for k, v in lost.items()}, strict=False)
    yield from fit(stage, model, optimizer, loss_of, num_steps=340, first_step=190, clip=1.0)


def _transport(stage: Stage, *, free_from: int = 10**9, num_steps: int = 260) -> Iterator[float]:
    """A generator and a critic whose slope is held at 1 by a penalty (WGAN-GP), until `free_from`.
    The loss is the critic's distance, which it makes as large as it may."""
    model = nn.ModuleDict({"generator": MLP((4, 32, 32, 2)), "critic": MLP((2, 48, 48, 1))})
    generator, critic = model["generator"], model["critic"]
    optimizers = [
        torch.optim.Adam(part.parameters(), lr=1e-3, betas=(0.0, 0.9))
        for part in (generator, critic)
    ]
    rng = stage.generator()
    with stage.watch(model, tuple(optimizers)) as watch:
        for step in range(num_steps):
            for _ in range(2):
                real = spiral(rng, 48)
                with torch.no_grad():
                    fake = generator(torch.randn(48, 4, generator=rng))
                between = torch.lerp(real, fake, torch.rand(48, 1, generator=rng))
                between.requires_grad_()
                (slope,) = torch.autograd.grad(critic(between).sum(), between, create_graph=True)
                penalty = (slope.norm(dim=1) - 1).square().mean()
                distance = critic(real).mean() - critic(fake).mean()
                weight = 0.0 if stage.sick and step >= free_from else 5.0
                optimizers[1].zero_grad()
                torch.autograd.backward(weight * penalty - distance)
                optimizers[1].step()
            made = generator(torch.randn(48, 4, generator=rng))
            optimizers[0].zero_grad()
            torch.autograd.backward(-critic(made).mean())
            optimizers[0].step()
            watch.log(slope_penalty=penalty, sample_spread=made.detach().std(dim=0).mean())
            watch.step(-distance)
            yield -float(distance.detach())


@healthy("transport-with-penalty", arch="Wasserstein GAN", optimizer="Adam, two", loss_falls=False)
def with_penalty(stage: Stage) -> Iterator[float]:
    """A critic without a sigmoid whose values have no level, and a loss below nought that rises
    towards it as the samples get better."""
    return _transport(stage)


@faulty(
    "transport-penalty-forgotten",
    Fault(kind="explosion", at=110, layers=("critic",),
          accept=("divergence", "output_logit_drift", "gradient_spike", "loss_spike"),
          onset=LeavesTwin(series="activation:critic.layers.2", factor=4, num=3)),
    arch="Wasserstein GAN", optimizer="Adam, two", loss_falls=False,
)  # fmt: skip
def penalty_forgotten(stage: Stage) -> Iterator[float]:
    """The penalty on the critic's slope is out of the sum from step 110 on: its values grow without
    a bound, the loss goes the good way, and the generator is thrown about."""
    return _transport(stage, free_from=110)


def _returns(stage: Stage, model: ReturnAtoms, *, tenfold_from: int = 10**9) -> LossOf:
    """Distributions of returns of carts under random forces, from a slow copy's; rewards are ten
    times as large from `tenfold_from` on."""
    slow, rng = copy.deepcopy(model), stage.generator()

    def loss_of(step: int) -> torch.Tensor:
        if step % 15 == 0:
            slow.load_state_dict(model.state_dict())
        state = 2 * torch.randn(64, 2, generator=rng)
        action = torch.randint(3, (64,), generator=rng)
        after, _ = pushed(state, 2.0 * (action - 1))
        reward = torch.exp(-after[:, :1].square())
        reward = reward * (10.0 if step >= tenfold_from else 1.0)
        rows = torch.arange(64)
        returns = model.get_buffer("returns")
        with torch.no_grad():
            odds = slow(after).exp()
            best = (odds * returns).sum(-1).argmax(-1)
            goal = model.projected(odds[rows, best], reward + 0.85 * returns)
        loss: torch.Tensor = -(goal * model(state)[rows, action]).sum(-1).mean()
        return loss

    return loss_of


@faulty(
    "atoms-returns-beyond-support",
    Fault(kind="saturation", at=140, layers=("head",),
          accept=("output_logit_drift", "representation_collapse", "bad_batch", "loss_spike"),
          onset=Crosses(series="mean_value", above=6.0, num=5, since=140)),
    arch="Q-network of return atoms", optimizer="Adam",
)  # fmt: skip
def beyond_support(stage: Stage) -> Iterator[float]:
    """A wrapper of the environment pays tenfold from step 140 on, while the atoms still end at 8:
    all odds gather at the last of them, for whatever is done, and the loss, after a jump, says that
    all is well."""
    model = ReturnAtoms()
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    loss_of = _returns(stage, model, tenfold_from=140 if stage.sick else 10**9)
    probe = torch.randn(32, 2, generator=stage.generator(1))
    returns = model.get_buffer("returns")

    def log() -> dict[str, float]:
        with torch.no_grad():
            value = float((model.eval()(probe).exp() * returns).sum(-1).mean())
        model.train()
        return {"mean_value": value}

    return fit(stage, model, optimizer, loss_of, num_steps=360, log=log)


def _soft(stage: Stage, *, turned: bool = False, num_steps: int = 320) -> Iterator[float]:
    """Soft actor and critics on carts (SAC for three forces): the temperature follows the entropy,
    or, `turned`, flees from it. The loss is the critics'."""
    model = SoftActor()
    slow = copy.deepcopy(model.critics)
    optimizer = torch.optim.Adam(
        [
            {"params": [*model.actor.parameters()], "lr": 3e-3},
            {"params": [*model.critics.parameters()], "lr": 3e-3},
            {"params": [*model.temperature.parameters()], "lr": 2e-2},
        ]
    )
    rng = stage.generator()
    with stage.watch(model, optimizer) as watch:
        for _ in range(num_steps):
            state = torch.randn(48, 2, generator=rng)
            action = torch.randint(3, (48, 1), generator=rng)
            after, reward = pushed(state, 2.0 * (action[:, 0] - 1))
            heat = model.heat.detach()
            with torch.no_grad():
                log_odds = model.actor(after).log_softmax(-1)
                later = torch.stack([critic(after) for critic in slow]).amin(0)
                value = (log_odds.exp() * (later - heat * log_odds)).sum(-1)
                goal = (0.3 * reward + 0.9 * value)[:, None]
            values = [critic(state) for critic in model.critics]
            loss = sum(
                (functional.mse_loss(v.gather(1, action), goal) for v in values), torch.zeros(())
            )
            log_odds = model.actor(state).log_softmax(-1)
            least = torch.stack(values).amin(0).detach()
            actor_loss = (log_odds.exp() * (heat * log_odds - least)).sum(-1).mean()
            entropy = -(log_odds.exp() * log_odds).sum(-1).mean().detach()
            follow = model.heat.log() * (entropy - 0.4)
            optimizer.zero_grad()
            torch.autograd.backward(loss + actor_loss + (-follow if turned else follow))
            optimizer.step()
            with torch.no_grad():
                for mean, now in zip(slow.parameters(), model.critics.parameters(), strict=True):
                    mean.lerp_(now, 0.05)
            watch.log(entropy=entropy, temperature=heat, mean_value=least.mean())
            watch.step(loss)
            yield float(loss.detach())


@healthy(
    "soft-carts-own-temperature",
    arch="soft actor and critics", optimizer="Adam, three groups", loss_falls=False,
)  # fmt: skip
def own_temperature(stage: Stage) -> Iterator[float]:
    """The temperature looks for its own value and pulls all soft values along: the critics' goal
    moves for the whole run."""
    return _soft(stage)


@faulty(
    "soft-carts-temperature-turned",
    Fault(kind="explosion", layers=("temperature",), accept=("divergence", "output_logit_drift"),
          onset=Crosses(series="temperature", above=3.0, num=5)),
    arch="soft actor and critics", optimizer="Adam, three groups", loss_falls=False,
)  # fmt: skip
def temperature_turned(stage: Stage) -> Iterator[float]:
    """The loss of the temperature has the wrong sign: the more random the actor is, the hotter it
    gets, and soft values grow with it from step to step."""
    return _soft(stage, turned=stage.sick)
