"""Watching changes no bit of a training, whatever it asks of automatic differentiation."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.func import functional_call, grad, jacrev, vmap
from torch.utils.checkpoint import checkpoint

from tests.client.identity import Case, Loop, assert_comparison_tells, assert_unchanged
from tests.client.models import TiedTransformer, loss_of, perceptron

Backward = Callable[[nn.Module], torch.Tensor]


def going_back(backward: Backward, make: Callable[[], nn.Module] = perceptron) -> Case:
    """A case of a function that leaves gradients in the model's parameters."""

    def case(loop: Loop) -> None:
        model = make()
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
        loop.watch(model, optimizer)
        for _ in range(4):
            optimizer.zero_grad()
            loss = backward(model)
            optimizer.step()
            loop.step(loss)

    return case


class Checkpointed(nn.Module):
    """Two blocks with dropout, whose activations are computed again in the backward pass."""

    def __init__(self, *, reentrant: bool) -> None:
        super().__init__()
        self.into = nn.Linear(5, 5)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Linear(5, 5), nn.ReLU(inplace=True), nn.Dropout(0.2)) for _ in range(2)
        )
        self.reentrant = reentrant

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Output [N, 5] of x [N, 5]."""
        x = self.into(x)
        for block in self.blocks:
            x = checkpoint(block, x, use_reentrant=self.reentrant)
        return torch.as_tensor(x)


def _simple(model: nn.Module) -> torch.Tensor:
    loss = loss_of(model, 0)
    loss.backward()
    return loss


def _gradient_penalty(model: nn.Module) -> torch.Tensor:
    inputs = torch.randn(4, 5, requires_grad=True)
    output = torch.as_tensor(model(inputs)).square().sum()
    (slope,) = torch.autograd.grad(output, inputs, create_graph=True)
    loss = output.mean() + (slope.norm(dim=1) - 1).square().mean()
    loss.backward()
    return torch.as_tensor(loss)


def _kept_graph(model: nn.Module) -> torch.Tensor:
    output = torch.as_tensor(model(torch.randn(4, 5)))
    output.mean().backward(retain_graph=True)
    loss = output.square().mean()
    loss.backward()
    return loss


def _gradients_by_hand(model: nn.Module) -> torch.Tensor:
    loss = loss_of(model, 0)
    parameters = list(model.parameters())
    for parameter, gradient in zip(parameters, torch.autograd.grad(loss, parameters), strict=True):
        parameter.grad = gradient
    return loss


def _several_forwards(model: nn.Module) -> torch.Tensor:
    first, second = (torch.as_tensor(model(torch.randn(n, 5))) for n in (4, 7))
    loss = first.mean() + second.square().mean()
    loss.backward()
    with torch.no_grad():
        return loss + torch.as_tensor(model(torch.randn(2, 5))).mean()


def _per_sample(model: nn.Module) -> torch.Tensor:
    parameters = {name: p.detach() for name, p in model.named_parameters()}
    inputs = torch.randn(4, 5)

    def loss_of_one(parameters: dict[str, torch.Tensor], x: torch.Tensor) -> torch.Tensor:
        return torch.as_tensor(functional_call(model, parameters, (x,))).square().sum()

    each = vmap(grad(loss_of_one), in_dims=(None, 0))(parameters, inputs)
    norms = torch.stack([g.flatten(1).square().sum(1) for g in each.values()]).sum(0)
    slopes = vmap(jacrev(model))(inputs)
    loss = torch.as_tensor(loss_of(model, 0) * norms.mean() + slopes.detach().mean())
    loss.backward()
    return loss


def _overwritten(model: nn.Module) -> torch.Tensor:
    output = torch.as_tensor(model(torch.randn(4, 5))).mul_(2.0)
    output[:, 0] = 0.0
    loss = output.square().mean()
    loss.backward()
    return loss


def _autocast(model: nn.Module) -> torch.Tensor:
    with torch.autocast("cpu", torch.bfloat16):
        loss = loss_of(model, 0)
    loss.backward()
    return loss


def _with_hooks_of_its_own(model: nn.Module) -> torch.Tensor:
    seen: list[torch.Tensor] = []
    last = list(model.children())[-1]
    handles = [
        last.register_forward_hook(lambda module, args, output: output * 1.5),
        last.register_full_backward_hook(lambda module, into, out: seen.extend(out)),
        *(p.register_hook(lambda gradient: gradient * 0.5) for p in last.parameters()),
    ]
    loss = loss_of(model, 0)
    loss.backward()
    for handle in handles:
        handle.remove()
    return loss + torch.stack([t.sum() for t in seen]).sum()


def _anomaly_mode(model: nn.Module) -> torch.Tensor:
    with pytest.warns(UserWarning, match="Anomaly"), torch.autograd.detect_anomaly():
        return _simple(model)


CASES: dict[str, Case] = {
    "checkpointing": going_back(_simple, lambda: nn.Sequential(Checkpointed(reentrant=False))),
    "reentrant checkpointing": going_back(
        _simple, lambda: nn.Sequential(Checkpointed(reentrant=True))
    ),
    "gradient penalty": going_back(_gradient_penalty),
    "two backwards": going_back(_kept_graph),
    "gradients by hand": going_back(_gradients_by_hand),
    "several forwards": going_back(_several_forwards),
    "gradients of each sample": going_back(_per_sample),
    "outputs overwritten": going_back(_overwritten),
    "autocast": going_back(_autocast),
    "autocast transformer": going_back(_autocast, TiedTransformer),
    "hooks of its own": going_back(_with_hooks_of_its_own),
    "anomaly mode": going_back(_anomaly_mode),
}


@pytest.mark.parametrize("name", CASES)
def test_a_watched_backward_is_the_same(name: str) -> None:
    """Losses, weights, buffers, gradients, optimizer and generators are equal, and frames came."""
    assert_unchanged(CASES[name])


@pytest.mark.parametrize("name", CASES)
def test_the_smallest_change_is_seen(name: str) -> None:
    """One weight that is one unit in the last place off after the first step is not the same."""
    assert_comparison_tells(CASES[name])
