"""The plain training loop that most scenarios share, with the places where a fault can act."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn

from benchmarks.zoo.stage import Stage

LossOf = Callable[[int], torch.Tensor]
"""The loss of a step; draws the step's batch and runs the model."""
AtStep = Callable[[int], None]


def fit(
    stage: Stage,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    loss_of: LossOf,
    *,
    num_steps: int,
    rate: Callable[[int], float] | None = None,
    before: AtStep | None = None,
    with_gradients: AtStep | None = None,
    after: AtStep | None = None,
    clip: float | None = None,
    log: Callable[[], dict[str, Any]] | None = None,
    notes: dict[int, str] | None = None,
    first_step: int = 0,
    **settings: Any,
) -> Iterator[float]:
    """Train and yield the losses.

    `rate` gives the learning rate of a step. `before` acts at the start of a step, `with_gradients`
    after the backward pass, `after` behind the optimizer. Gradients are measured before `clip`.
    `notes` are told at their steps.
    """
    with stage.watch(model, optimizer, first_step=first_step, **settings) as watch:
        for step in range(first_step, num_steps):
            if rate is not None:
                set_rate(optimizer, rate(step))
            if notes and step in notes:
                watch.note(notes[step])
            if before is not None:
                before(step)
            optimizer.zero_grad()
            loss = loss_of(step)
            torch.autograd.backward(loss)
            if with_gradients is not None:
                with_gradients(step)
            watch.grads_ready()
            if clip is not None:
                nn.utils.clip_grad_norm_(model.parameters(), clip)
            optimizer.step()
            if after is not None:
                after(step)
            if log is not None:
                watch.log(**log())
            watch.step(loss)
            yield float(loss.detach())


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Give every group the learning rate."""
    for group in optimizer.param_groups:
        group["lr"] = rate


def log_z(logits: torch.Tensor) -> torch.Tensor:
    """Mean log-sum-exp of output logits [..., V]."""
    return logits.detach().logsumexp(dim=-1).mean()
