"""More reinforcement learning: an actor and a critic, clipped policies, continuous actions."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional

from benchmarks.zoo.faults import Fault
from benchmarks.zoo.models.mlp import MLP
from benchmarks.zoo.registry import faulty, healthy
from benchmarks.zoo.rules import Crosses, LeavesTwin
from benchmarks.zoo.stage import Stage


def pushed(state: torch.Tensor, force: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """A step of carts [N, 2] (place, speed) under a force [N], and rewards for being near nought
    at rest."""
    speed = 0.95 * state[:, 1] + 0.2 * force
    place = (state[:, 0] + 0.2 * speed).clamp(-3, 3)
    return torch.stack([place, speed], dim=1), 1 - place.square() - 0.1 * speed.square()


class ActorCritic(nn.Module):
    """Odds of three forces, and the value of a state, from two networks."""

    def __init__(self) -> None:
        super().__init__()
        self.actor, self.critic = MLP((2, 32, 32, 3)), MLP((2, 32, 32, 1))


@dataclass(frozen=True, slots=True, kw_only=True)
class Play:
    """How carts are played and learned from."""

    discount: float = 0.9
    reward_scale: float = 0.1
    bonus: float = 0.01
    clip: float | None = 0.2
    passes: int = 1


def _rounds(
    stage: Stage,
    *,
    rate: float,
    play: Play,
    then: Play | None = None,
    since: int = 10**9,
    num_steps: int = 300,
    rate_of: tuple[int, float] = (10**9, 0.0),
) -> Iterator[float]:
    """Play eight steps of 24 carts, learn `passes` times from them; from `since` on as in `then`.
    A row is one pass. From step `rate_of[0]` on the actor's rate is `rate_of[1]`."""
    model = ActorCritic()
    optimizer = torch.optim.Adam(
        [{"params": model.actor.parameters()}, {"params": model.critic.parameters()}], lr=rate
    )
    rng, step = stage.generator(), 0
    state = 2 * torch.rand(24, 2, generator=rng) - 1
    with stage.watch(model, optimizer) as watch:
        while step < num_steps:
            now = then if then is not None and stage.sick and step >= since else play
            seen, taken, rewards = [], [], []
            with torch.no_grad():
                for _ in range(8):
                    odds = model.actor.eval()(state).softmax(-1)
                    action = torch.multinomial(odds.clamp(min=1e-9), 1, generator=rng)[:, 0]
                    seen.append(state)
                    taken.append(action)
                    state, reward = pushed(state, action - 1.0)
                    rewards.append(now.reward_scale * reward)
                restart = torch.rand(24, generator=rng) < 0.2
                fresh = 2 * torch.rand(24, 2, generator=rng) - 1
                state = torch.where(restart[:, None], fresh, state)
                model.actor.train()
                states, actions = torch.stack(seen), torch.stack(taken)
                later = model.critic.eval()(state)[:, 0]
                model.critic.train()
                goals = []
                for reward in reversed(rewards):
                    later = reward + now.discount * later
                    goals.append(later)
                goal = torch.stack(goals[::-1])
                old = model.actor(states).log_softmax(-1).gather(-1, actions[..., None])[..., 0]
            for _ in range(now.passes):
                if stage.sick and step >= rate_of[0]:
                    optimizer.param_groups[0]["lr"] = rate_of[1]
                value = model.critic(states)[..., 0]
                better = (goal - value).detach()
                if now.clip is not None:
                    better = (better - better.mean()) / (better.std() + 1e-6)
                log_odds = model.actor(states).log_softmax(-1)
                entropy = -(log_odds.exp() * log_odds).sum(-1).mean()
                ratio = (log_odds.gather(-1, actions[..., None])[..., 0] - old).exp()
                gain = ratio * better
                if now.clip is not None:
                    bounded = ratio.clamp(1 - now.clip, 1 + now.clip) * better
                    gain = torch.minimum(gain, bounded)
                loss = functional.mse_loss(value, goal) - gain.mean() - now.bonus * entropy
                optimizer.zero_grad()
                torch.autograd.backward(loss)
                optimizer.step()
                watch.log(entropy=entropy, mean_value=value.detach().mean())
                watch.log(mean_reward=torch.stack(rewards).mean() / now.reward_scale)
                watch.step(loss)
                yield float(loss.detach())
                step += 1


@healthy("carts-clipped-policy", arch="actor and critic", optimizer="Adam", loss_falls=False)
def clipped_policy(stage: Stage) -> Iterator[float]:
    """PPO with four passes over each batch: the loss starts anew every four steps and lies around
    nought."""
    return _rounds(stage, rate=3e-3, play=Play(passes=4))


@healthy("carts-plain-advantages", arch="actor and critic", optimizer="Adam", loss_falls=False)
def plain_advantages(stage: Stage) -> Iterator[float]:
    """A2C: one pass over each batch, plain advantages, rewards of a tenth of a unit."""
    return _rounds(stage, rate=2e-3, play=Play(clip=None))


@faulty(
    "carts-discount-above-one",
    Fault(kind="explosion", at=100, pace="fast", layers=("critic",),
          accept=("divergence", "loss_spike", "update_too_large", "output_logit_drift")),
    arch="actor and critic", optimizer="Adam", loss_falls=False, quick=True,
)  # fmt: skip
def discount_above_one(stage: Stage) -> Iterator[float]:
    """The discount is read as 1.09 instead of 0.9 at step 100: each value is more than all that
    comes after it, and the critic runs after its own tail."""
    play = Play(clip=None)
    return _rounds(
        stage, rate=5e-3, play=play, then=Play(clip=None, discount=1.09), since=100, num_steps=360
    )


@faulty(
    "carts-rewards-unscaled",
    Fault(kind="loss_spike", at=148, pace="fast", layers=("critic",),
          accept=("bad_batch", "gradient_spike", "explosion", "divergence")),
    arch="actor and critic", optimizer="Adam", loss_falls=False,
)  # fmt: skip
def rewards_unscaled(stage: Stage) -> Iterator[float]:
    """A wrapper of the game is lost at a restart at step 148: rewards come a hundred times as
    large, and advantages are not normalised."""
    play = Play(clip=None)
    return _rounds(
        stage, rate=2e-3, play=play, then=Play(clip=None, reward_scale=10.0), since=148,
        num_steps=280,
    )  # fmt: skip


@faulty(
    "carts-actor-thirtyfold",
    Fault(kind="update_too_large", at=120, pace="fast", layers=("actor",),
          accept=("representation_collapse", "saturation"),
          shows=Crosses(series="entropy", below=0.35, num=5, since=120)),
    arch="actor and critic", optimizer="Adam", loss_falls=False,
)  # fmt: skip
def actor_thirtyfold(stage: Stage) -> Iterator[float]:
    """From step 120 on the actor's rate is thirty times as high, and nothing clips the ratio: the
    policy jumps from one certainty to the next."""
    play = Play(passes=4, bonus=0.0)
    return _rounds(
        stage, rate=2e-3, play=play, then=Play(passes=4, bonus=0.0, clip=1e6), since=120,
        rate_of=(120, 6e-2), num_steps=260,
    )  # fmt: skip


def _continuous(stage: Stage, *, push_from: int = 10**9, num_steps: int = 260) -> Iterator[float]:
    """An actor with one bounded force and a critic of state and force, each with a slow copy (DDPG,
    Lillicrap et al. 2016); from `push_from` on a term pushes the actor's output outward."""
    nets = nn.ModuleDict({"actor": MLP((2, 32, 32, 1)), "critic": MLP((3, 32, 32, 1))})
    slow = copy.deepcopy(nets)
    optimizers = [torch.optim.Adam(nets[n].parameters(), lr=2e-3) for n in ("critic", "actor")]
    rng = stage.generator()
    with stage.watch(nets, optimizers) as watch:
        for step in range(num_steps):
            state = 4 * torch.rand(64, 2, generator=rng) - 2
            force = 2 * torch.rand(64, generator=rng) - 1
            after, reward = pushed(state, force)
            with torch.no_grad():
                planned = torch.tanh(slow["actor"](after))
                goal = 0.1 * reward + 0.9 * slow["critic"](torch.cat([after, planned], 1))[:, 0]
            value = nets["critic"](torch.cat([state, force[:, None]], 1))[:, 0]
            missed = functional.mse_loss(value, goal)
            optimizers[0].zero_grad()
            torch.autograd.backward(missed)
            optimizers[0].step()
            raw = nets["actor"](state)
            loss = -nets["critic"](torch.cat([state, torch.tanh(raw)], 1)).mean()
            if stage.sick and step >= push_from:
                loss = loss - 0.3 * raw.square().mean()
            optimizers[1].zero_grad()
            torch.autograd.backward(loss)
            optimizers[1].step()
            with torch.no_grad():
                for old, new in zip(slow.parameters(), nets.parameters(), strict=True):
                    old.lerp_(new, 0.02)
            watch.log(mean_value=value.detach().mean(), actor_loss=loss)
            watch.step(missed)
            yield float(missed.detach())


@healthy("carts-one-force", arch="deterministic actor and critic", optimizer="Adam, two",
         loss_falls=False)  # fmt: skip
def one_force(stage: Stage) -> Iterator[float]:
    """The critic's goal moves with slow copies of both networks: its loss has no reason to fall."""
    return _continuous(stage)


@faulty(
    "carts-force-at-its-limit",
    Fault(kind="saturation", at=90, layers=("actor.layers.2",), severity="warning",
          accept=("explosion", "output_logit_drift", "dead_units", "vanishing_gradient"),
          onset=LeavesTwin(series="activation:actor.layers.2", factor=4, num=5)),
    arch="deterministic actor and critic", optimizer="Adam, two", loss_falls=False,
)  # fmt: skip
def force_at_its_limit(stage: Stage) -> Iterator[float]:
    """A penalty on the actor's raw output has the wrong sign from step 90 on: the force sits at its
    limits, where its bound has no slope."""
    return _continuous(stage, push_from=90, num_steps=290)
