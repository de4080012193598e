"""The comparison of two trainings tells every part of a training's state apart."""

from __future__ import annotations

import random
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn

from tests.client.identity import Loop, differences, run
from tests.client.models import convolutional, loss_of

_TINY = 1e-7

Fault = Callable[[nn.Module, torch.optim.Optimizer], object]


def _scale(tensor: torch.Tensor) -> None:
    tensor.detach().mul_(1 + 2 * _TINY)


def _gradient(model: nn.Module) -> torch.Tensor:
    gradient = next(model.parameters()).grad
    assert gradient is not None
    return gradient


FAULTS: dict[str, Fault] = {
    "weight": lambda model, _: _scale(next(model.parameters())),
    "buffer": lambda model, _: _scale(dict(model.named_buffers())["1.running_var"]),
    "gradient": lambda model, _: _scale(_gradient(model)),
    "moment": lambda _, optimizer: _scale(next(iter(optimizer.state.values()))["exp_avg_sq"]),
    "learning rate": lambda _, optimizer: optimizer.param_groups[0].update(lr=0.01 * (1 + _TINY)),
    "mode": lambda model, _: model[1].eval() if isinstance(model, nn.Sequential) else None,
    "torch's generator": lambda *_: torch.rand(1),
    "numpy's generator": lambda *_: np.random.rand(),
    "python's generator": lambda *_: random.random(),
}


def _train(loop: Loop, fault: Fault | None, off: float = 0.0) -> None:
    model = convolutional()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    loop.watch(model, optimizer)
    for index in range(2):
        optimizer.zero_grad()
        loss = loss_of(model, index)
        loss.backward()
        optimizer.step()
        loop.step(loss.detach() * (1 + off))
    if fault is not None:
        fault(model, optimizer)


@pytest.mark.parametrize("name", FAULTS)
def test_a_change_of_any_part_is_told(name: str) -> None:
    """A ten-millionth of one part, planted after the last step, is a difference."""
    good, _ = run(lambda loop: _train(loop, None))
    assert differences(good, run(lambda loop: _train(loop, None))[0]) == []
    assert differences(good, run(lambda loop: _train(loop, FAULTS[name]))[0]) != []


def test_a_change_of_a_loss_is_told() -> None:
    """A ten-millionth of the losses alone is a difference, once a step."""
    good, _ = run(lambda loop: _train(loop, None))
    assert len(differences(good, run(lambda loop: _train(loop, None, 2 * _TINY))[0])) == 2
