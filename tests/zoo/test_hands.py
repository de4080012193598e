"""The zoo's own optimizers and the hands of its faults: each does what its docstring says."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from benchmarks.zoo.meddling import flip_bit, groups, scale, scale_gradient
from benchmarks.zoo.optimizers import (
    AdaBelief,
    LayerwiseScaled,
    Lion,
    Lookahead,
    OrthogonalMomentum,
    RootPreconditioned,
    SharpnessAware,
    SignMomentum,
)
from benchmarks.zoo.schedules import one_cycle, warmup_stable_decay


def _model() -> nn.Sequential:
    torch.manual_seed(3)
    return nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 1))


def _loss(model: nn.Module) -> torch.Tensor:
    x = torch.linspace(-1, 1, 40).view(10, 4)
    return nn.functional.mse_loss(model(x), x.sum(1, keepdim=True))


@pytest.mark.parametrize(
    "make",
    [
        lambda p: Lion(p, 0.01),
        lambda p: OrthogonalMomentum(p, 0.02),
        lambda p: SignMomentum(p, 3e-3),
        lambda p: AdaBelief(p, 0.01),
        lambda p: LayerwiseScaled(p, 0.01),
        lambda p: RootPreconditioned(p, 0.1),
    ],
    ids=["Lion", "Muon", "sign momentum", "AdaBelief", "LARS", "Shampoo"],
)
def test_an_optimizer_of_the_zoo_learns(make: Callable[[Any], torch.optim.Optimizer]) -> None:
    """Within 150 steps a small regression is solved to a twentieth of its first loss."""
    model = _model()
    optimizer = make(model.parameters())
    first = float(_loss(model).detach())
    for _ in range(150):
        optimizer.zero_grad()
        torch.autograd.backward(_loss(model))
        optimizer.step()

    assert float(_loss(model).detach()) < first / 20


def test_slow_weights_meet_fast_ones_halfway() -> None:
    """Every second step the weights go to the middle between where they were and are."""
    model = nn.Linear(1, 1)
    lookahead = Lookahead(model, every=2)
    start = model.weight.detach().clone()
    for step in range(2):
        scale(model, "", 3.0)
        lookahead(step)

    torch.testing.assert_close(model.weight.detach(), 5 * start)


def test_the_sharpness_aware_gradient_is_taken_elsewhere() -> None:
    """Weights come back to the bit; where they are told not to, they stay uphill."""
    model = _model()
    sam = SharpnessAware(model, lambda: _loss(model), rho=0.5)
    before = [p.detach().clone() for p in model.parameters()]
    torch.autograd.backward(_loss(model))
    plain = [p.grad.clone() for p in model.parameters() if p.grad is not None]
    sam(0)

    found = [p.grad for p in model.parameters() if p.grad is not None]
    assert not any(torch.equal(a, b) for a, b in zip(plain, found, strict=True))
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
    low = float(_loss(model).detach())
    sam.comes_back = False
    sam(1)
    assert float(_loss(model).detach()) > low


def test_a_flipped_bit_is_one_bit_of_one_weight() -> None:
    """Bit 30 of 0.5 makes it 2 to the 127th; flipped again, all is as before."""
    parameter = nn.Parameter(torch.full((2, 2), 0.5))
    flip_bit(parameter, 3, bit=30)
    assert parameter.flatten().tolist() == [0.5, 0.5, 0.5, 2.0**127]

    flip_bit(parameter, 3, bit=30)
    assert parameter.flatten().tolist() == [0.5] * 4


def test_a_module_is_scaled_and_grouped_by_its_name() -> None:
    """Nothing outside of the module is touched, and each weight is in one group."""
    model = _model()
    torch.autograd.backward(_loss(model))
    weights = [p.detach().clone() for p in model.parameters()]
    grads = [p.grad.clone() for p in model.parameters() if p.grad is not None]
    scale(model, "2", 2.0)
    scale_gradient(model, "2", 3.0)

    ratios = [
        float((p.detach() / w).mean()) for p, w in zip(model.parameters(), weights, strict=True)
    ]
    assert ratios == [1.0, 1.0, 2.0, 2.0]
    for p, grad, factor in zip(model.parameters(), grads, (1, 1, 3, 3), strict=True):
        assert p.grad is not None
        torch.testing.assert_close(p.grad, factor * grad)
    rest, mine = groups(model, "2", 0.1, decay=0.5)
    assert (rest["weight_decay"], mine["weight_decay"]) == (0.0, 0.5)
    assert [id(p) for p in (*rest["params"], *mine["params"])] == [
        id(p) for p in model.parameters()
    ]


def test_schedules_reach_their_peaks_and_their_ends() -> None:
    """One cycle climbs and falls to a thousandth; the other is flat in between and ends at
    nearly nought."""
    cycle = one_cycle(1.0, num_steps=100, climb=20)
    assert [round(cycle(step), 3) for step in (0, 20, 100)] == [0.05, 1.0, 0.001]

    stable = warmup_stable_decay(1.0, num_steps=100, warmup=10, decay=20)
    assert [round(stable(step), 3) for step in (0, 9, 50, 80, 99)] == [0.1, 1.0, 1.0, 1.0, 0.05]
