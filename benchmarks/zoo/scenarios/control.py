"""Reinforcement learning: noisy by nature, and with faults of its own."""

from __future__ import annotations

import copy
from collections.abc import Iterator

import torch
from torch.nn import functional

from benchmarks.zoo.faults import Fault
from benchmarks.zoo.models.mlp import MLP
from benchmarks.zoo.registry import faulty, healthy
from benchmarks.zoo.rules import Crosses
from benchmarks.zoo.stage import Stage
from benchmarks.zoo.training import fit

_SIZE = 6


def _walk(
    place: torch.Tensor, action: torch.Tensor, goal: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """One move on a grid of 6 by 6: places [N, 2] after `action` [N], and the rewards."""
    moves = torch.tensor([[0, 1], [0, -1], [1, 0], [-1, 0]])
    after = (place + moves[action]).clamp(0, _SIZE - 1)
    return after, (after == goal).all(dim=1).float()


def _seen(place: torch.Tensor, goal: torch.Tensor) -> torch.Tensor:
    return torch.cat([place, goal], dim=1) / (_SIZE - 1) * 2 - 1


def _policy_gradient(
    stage: Stage, *, rate: float, bonus: float, num_steps: int = 450, length: int = 12
) -> Iterator[float]:
    """REINFORCE with a mean baseline and an entropy bonus; a reward only where the goal is."""
    model = MLP((4, 64, 64, 4))
    optimizer = torch.optim.Adam(model.parameters(), lr=rate)
    rng = stage.generator()
    with stage.watch(model, optimizer) as watch:
        for _ in range(num_steps):
            place = torch.randint(_SIZE, (24, 2), generator=rng)
            goal = torch.randint(_SIZE, (24, 2), generator=rng)
            seen, actions, rewards = [], [], []
            for _ in range(length):
                seen.append(_seen(place, goal))
                with torch.no_grad():
                    odds = model.eval()(seen[-1]).softmax(-1)
                action = torch.multinomial(odds.clamp(min=1e-9), 1, generator=rng)[:, 0]
                place, reward = _walk(place, action, goal)
                actions.append(action)
                rewards.append(reward)
            to_go = torch.stack(rewards).flip(0).cumsum(0).flip(0)
            logits = model.train()(torch.stack(seen))
            log_odds = logits.log_softmax(-1)
            entropy = -(log_odds.exp() * log_odds).sum(-1).mean()
            chosen = log_odds.gather(-1, torch.stack(actions)[..., None])[..., 0]
            loss = -(chosen * (to_go - to_go.mean())).mean() - bonus * entropy
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            optimizer.step()
            watch.log(mean_return=to_go[0].mean(), entropy=entropy)
            watch.step(loss)
            yield float(loss.detach())


@healthy("policy-gradient-grid", arch="policy MLP", optimizer="Adam", loss_falls=False)
def policy_gradient(stage: Stage) -> Iterator[float]:
    """Sparse rewards: the loss has no trend and changes its sign, gradients have heavy tails."""
    return _policy_gradient(stage, rate=2e-3, bonus=0.02)


@faulty(
    "policy-collapses",
    Fault(kind="representation_collapse", accept=("saturation", "update_too_large", "plateau",
                                                  "vanishing_gradient", "explosion"),
          onset=Crosses(series="entropy", below=0.05, num=8)),
    arch="policy MLP", optimizer="Adam", loss_falls=False,
)  # fmt: skip
def policy_collapses(stage: Stage) -> Iterator[float]:
    """Without an entropy bonus and at twenty times the learning rate the policy settles on one
    action before it has seen a reward, and learns nothing more."""
    return _policy_gradient(
        stage, rate=0.05 if stage.sick else 2e-3, bonus=0.0 if stage.sick else 0.02, num_steps=350
    )


def _q_learning(stage: Stage, *, rate: float, boost: float, every: int) -> Iterator[float]:
    """Q-learning from a random walk's memory; the target network follows every so many steps, and
    what it says is multiplied by `boost`."""
    model = MLP((4, 64, 64, 4))
    target = copy.deepcopy(model)
    optimizer = torch.optim.Adam(model.parameters(), lr=rate)
    rng, logged = stage.generator(), {}

    def loss_of(step: int) -> torch.Tensor:
        place = torch.randint(_SIZE, (64, 2), generator=rng)
        goal = torch.randint(_SIZE, (64, 2), generator=rng)
        action = torch.randint(4, (64,), generator=rng)
        after, reward = _walk(place, action, goal)
        with torch.no_grad():
            later = target(_seen(after, goal)).amax(-1)
        value = model(_seen(place, goal)).gather(1, action[:, None])[:, 0]
        logged["mean_q"] = value.detach().mean()
        return functional.smooth_l1_loss(value, reward + (1 - reward) * boost * later)

    def follow(step: int) -> None:
        if step % every == 0:
            target.load_state_dict(model.state_dict())

    return fit(
        stage, model, optimizer, loss_of, num_steps=450, after=follow, log=lambda: logged
    )  # fmt: skip


@healthy("q-learning-grid", arch="Q-network MLP", optimizer="Adam", loss_falls=False)
def q_learning(stage: Stage) -> Iterator[float]:
    """The target moves every 50 steps, and the loss jumps each time."""
    return _q_learning(stage, rate=1e-3, boost=0.9, every=50)


@faulty(
    "q-values-run-away",
    Fault(kind="explosion", accept=("divergence", "update_too_large", "output_logit_drift"),
          layers=("layers.2",),
          onset=Crosses(series="mean_q", above=1.0)),
    arch="Q-network MLP", optimizer="Adam", loss_falls=False, quick=True,
)  # fmt: skip
def q_values_run_away(stage: Stage) -> Iterator[float]:
    """A discount of 1.05 and a target that follows at once: values feed on themselves, far above
    any reward there is."""
    if stage.sick:
        return _q_learning(stage, rate=1e-3, boost=1.05, every=1)
    return _q_learning(stage, rate=1e-3, boost=0.9, every=50)
