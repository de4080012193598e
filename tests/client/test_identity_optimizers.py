"""Watching changes no bit of a training, however its steps are taken."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from tests.client.identity import Case, Loop, assert_comparison_tells, assert_unchanged
from tests.client.models import TiedTransformer, convolutional, loss_of, perceptron

Make = Callable[[nn.Module], torch.optim.Optimizer]


def adamw(model: nn.Module, **how: Any) -> torch.optim.Optimizer:
    """AdamW with a learning rate at which something happens."""
    return torch.optim.AdamW(model.parameters(), lr=1e-2, **how)


def stepping(make: Make, *, set_to_none: bool = True) -> Case:
    """A case of an optimizer."""

    def case(loop: Loop) -> None:
        model = convolutional()
        optimizer = make(model)
        loop.watch(model, optimizer)
        for index in range(4):
            optimizer.zero_grad(set_to_none=set_to_none)
            loss = loss_of(model, index)
            loss.backward()
            optimizer.step()
            loop.step(loss)

    return case


def with_closure(make: Make) -> Case:
    """A case of an optimizer that calls the loss itself, and of which nobody tells the steps."""

    def case(loop: Loop) -> None:
        model = perceptron()
        optimizer = make(model)
        loop.watch(model, optimizer)
        inputs = torch.randn(4, 5)

        def closure() -> float:
            optimizer.zero_grad()
            loss = torch.as_tensor(model(inputs)).square().mean()
            loop.keep(loss)
            loss.backward()
            return float(loss.item())

        for _ in range(3):
            loop.step(optimizer.step(closure), by_hand=True)

    return case


def accumulating(*, clip: float | None, tell: bool) -> Case:
    """Three micro-batches a step, clipped after `grads_ready` was called, or was not."""

    def case(loop: Loop) -> None:
        model = TiedTransformer()
        optimizer = adamw(model)
        watch = loop.watch(model, optimizer)
        for index in range(4):
            optimizer.zero_grad()
            for _ in range(3):
                loss = loss_of(model, index) / 3
                loss.backward()
            if clip is not None:
                if tell:
                    watch.grads_ready()
                loop.keep(nn.utils.clip_grad_norm_(model.parameters(), clip))
            optimizer.step()
            loop.step(loss)

    return case


def scaled(make: Make, *, unscale: bool, by_hand: bool = True, infinite: bool = True) -> Case:
    """Loss scaling with steps that are skipped because a gradient is Inf."""

    def case(loop: Loop) -> None:
        model = perceptron()
        optimizer = make(model)
        scaler = torch.amp.GradScaler("cpu", init_scale=1024.0, growth_interval=2)
        watch = loop.watch(model, optimizer)
        loop.keep(scaler)
        for index in range(6):
            optimizer.zero_grad()
            with torch.autocast("cpu", torch.bfloat16):
                loss = loss_of(model, index)
            scaler.scale(loss * (float("inf") if infinite and index in (2, 3) else 1.0)).backward()
            if unscale:
                scaler.unscale_(optimizer)
                watch.grads_ready()
                loop.keep(nn.utils.clip_grad_norm_(model.parameters(), 0.01))
            scaler.step(optimizer)
            scaler.update()
            loop.step(loss, by_hand=by_hand)

    return case


def scheduled(make: Callable[[torch.optim.Optimizer], Any], *, by_loss: bool = False) -> Case:
    """A learning rate that a scheduler changes after each step."""

    def case(loop: Loop) -> None:
        model = perceptron()
        optimizer = adamw(model)
        scheduler = make(optimizer)
        loop.watch(model, optimizer)
        loop.keep(scheduler)
        for index in range(4):
            optimizer.zero_grad()
            loss = loss_of(model, index)
            loss.backward()
            optimizer.step()
            scheduler.step(*([loss.detach()] if by_loss else []))
            loop.step(loss)

    return case


def adversarial(*, tell: bool) -> Case:
    """A generator and a critic, each with its optimizer, and the critic's weights clamped."""

    def case(loop: Loop) -> None:
        model = nn.ModuleDict({"critic": perceptron(), "generator": nn.Linear(3, 5)})
        critic, generator = model["critic"], model["generator"]
        steps = [adamw(critic), adamw(generator)]
        watch = loop.watch(model, steps)
        for _ in range(4):
            for optimizer, sign in zip(steps, (-1.0, 1.0), strict=True):
                optimizer.zero_grad()
                loss = sign * torch.as_tensor(critic(generator(torch.randn(4, 3)))).mean()
                loss.backward()
                if tell:
                    watch.grads_ready(optimizer)
                nn.utils.clip_grad_norm_(optimizer.param_groups[0]["params"], 0.5)
                optimizer.step()
                loop.keep(loss)
            with torch.no_grad():
                for parameter in critic.parameters():
                    parameter.clamp_(-0.3, 0.3)
            loop.step(loss)

    return case


def growing(loop: Loop) -> None:
    """A layer that is added after two steps, in a group of its own; then the first one freezes."""
    model = nn.Sequential(nn.Linear(5, 4))
    optimizer = adamw(model)
    loop.watch(model, optimizer)
    for index in range(6):
        if index == 2:
            model.append(nn.Linear(4, 4))
            optimizer.add_param_group({"params": model[1].parameters(), "lr": 1e-3})
        if index == 4:
            model[0].requires_grad_(False)
        optimizer.zero_grad()
        loss = loss_of(model, index)
        loss.backward()
        optimizer.step()
        loop.step(loss)


def told_by_nobody(loop: Loop) -> None:
    """A loop that calls nothing of the client but `watch`."""
    model = convolutional()
    optimizer = adamw(model)
    loop.watch(model, optimizer)
    for index in range(4):
        optimizer.zero_grad()
        loss = loss_of(model, index)
        loss.backward()
        optimizer.step()
        loop.step(loss, by_hand=False)


def seldom(loop: Loop) -> None:
    """Every kind at a cadence of its own, so that hooks differ from step to step."""
    model = convolutional()
    optimizer = adamw(model)
    cadences = {"activation_every": 2, "activation_grad_every": 3, "update_every": 2}
    loop.watch(model, optimizer, kinds=("gradient", "weight"), **cadences)
    for index in range(5):
        optimizer.zero_grad()
        loss = loss_of(model, index)
        loss.backward()
        optimizer.step()
        loop.step(loss)


def with_rate_as_tensor(model: nn.Module) -> torch.optim.Optimizer:
    """A learning rate that is a tensor, as graphs of device work want it."""
    return torch.optim.AdamW(model.parameters(), lr=torch.tensor(1e-2), foreach=False)


def _sgd(model: nn.Module, **how: Any) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, **how)


CASES: dict[str, Case] = {
    "sgd": stepping(_sgd),
    "sgd foreach": stepping(lambda model: _sgd(model, foreach=True)),
    "sgd fused": stepping(lambda model: _sgd(model, fused=True)),
    "adamw foreach": stepping(lambda model: adamw(model, foreach=True)),
    "adamw fused": stepping(lambda model: adamw(model, fused=True)),
    "adamw amsgrad maximize": stepping(lambda model: adamw(model, amsgrad=True, maximize=True)),
    "adamw with a tensor as rate": stepping(with_rate_as_tensor),
    "rmsprop": stepping(lambda model: torch.optim.RMSprop(model.parameters(), lr=1e-3)),
    "adagrad": stepping(lambda model: torch.optim.Adagrad(model.parameters(), lr=1e-2)),
    "nadam": stepping(lambda model: torch.optim.NAdam(model.parameters(), lr=1e-3)),
    "adafactor": stepping(lambda model: torch.optim.Adafactor(model.parameters(), lr=1e-2)),
    "two groups": stepping(
        lambda model: torch.optim.SGD(
            [{"params": [p], "lr": 0.1 / (i + 1)} for i, p in enumerate(model.parameters())], lr=0.1
        )
    ),
    "gradients zeroed in place": stepping(_sgd, set_to_none=False),
    "lbfgs": with_closure(lambda model: torch.optim.LBFGS(model.parameters(), max_iter=4)),
    "line search": with_closure(
        lambda model: torch.optim.LBFGS(
            model.parameters(), max_iter=4, line_search_fn="strong_wolfe"
        )
    ),
    "sgd with a closure": with_closure(_sgd),
    "accumulation": accumulating(clip=None, tell=False),
    "accumulation and clipping": accumulating(clip=0.05, tell=False),
    "accumulation and grads_ready": accumulating(clip=0.05, tell=True),
    "scaled": scaled(_sgd, unscale=False),
    "scaled, no Inf, no step()": scaled(_sgd, unscale=False, by_hand=False, infinite=False),
    "scaled, clipped": scaled(adamw, unscale=True),
    "scaled, fused adamw": scaled(lambda model: adamw(model, fused=True), unscale=False),
    "scaled, fused sgd": scaled(lambda model: _sgd(model, fused=True), unscale=False),
    "scaled, fused, no step()": scaled(
        lambda model: adamw(model, fused=True), unscale=False, by_hand=False
    ),
    "scaled, fused, clipped": scaled(lambda model: adamw(model, fused=True), unscale=True),
    "one cycle": scheduled(
        lambda optimizer: torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=8)
    ),
    "reduce on plateau": scheduled(
        lambda optimizer: torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=0),
        by_loss=True,
    ),
    "adversarial": adversarial(tell=False),
    "adversarial and grads_ready": adversarial(tell=True),
    "growing and freezing": growing,
    "told by nobody": told_by_nobody,
    "seldom": seldom,
}


@pytest.mark.parametrize("name", CASES)
def test_a_watched_optimizer_steps_the_same(name: str) -> None:
    """Losses, weights, buffers, gradients, optimizer and generators are equal, and frames came."""
    assert_unchanged(CASES[name])


@pytest.mark.parametrize("name", CASES)
def test_the_smallest_change_is_seen(name: str) -> None:
    """One weight that is one unit in the last place off after the first step is not the same."""
    assert_comparison_tells(CASES[name])
