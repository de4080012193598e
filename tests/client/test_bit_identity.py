"""Watching leaves no hook and no tensor behind, and measures the training alone."""

from __future__ import annotations

from typing import Any

import torch

from tests.client.conftest import Attach
from tests.client.models import convolutional, loss_of, perceptron, train


def test_measuring_leaves_no_hook_behind(attach: Attach) -> None:
    """After close the model and the optimizer are as they were."""
    model = convolutional()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    watch, _ = attach(model, optimizer)
    train(model, optimizer, watch, num_steps=1)
    watch.close()
    hooks = [len(m._forward_hooks) for m in model.modules()]
    hooks += [len(optimizer._optimizer_step_pre_hooks), len(optimizer._optimizer_step_post_hooks)]
    assert sum(hooks) == 0


def test_no_tensor_is_kept_beyond_its_step(attach: Attach) -> None:
    """Between two steps the only tensors that live on are the documented copies of the weights."""
    model = perceptron()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    watch, _ = attach(model, optimizer)
    freed: list[bool] = []

    class Probe(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
            class Held:
                def __del__(self) -> None:
                    freed.append(True)

            ctx.held = Held()
            return x.clone()

        @staticmethod
        def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:
            return gradient

    x = Probe.apply(torch.randn(4, 5, requires_grad=True))  # type: ignore[no-untyped-call]  # torch leaves it unannotated
    watch.observe("input", x)
    loss = model(x).square().mean()
    loss.backward()
    optimizer.step()
    watch.step(loss=loss)
    del x, loss
    assert freed == [True]


def test_activation_checkpointing_measures_each_activation_once(attach: Attach) -> None:
    """The recomputation inside the backward pass is not a second forward pass."""
    model = perceptron()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    watch, transport = attach(model, optimizer)
    x = torch.randn(4, 5, requires_grad=True)
    torch.utils.checkpoint.checkpoint(model, x, use_reentrant=False).square().mean().backward()
    optimizer.step()
    watch.close()
    assert transport.statistic("activation", "0", "count") == {0: 28.0}


def test_evaluation_is_not_measured(attach: Attach) -> None:
    """A model in eval mode between two steps adds nothing to a frame."""
    model = perceptron()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    watch, transport = attach(model, optimizer)
    train(model, optimizer, watch, num_steps=1)
    model.eval()
    with torch.no_grad():
        loss_of(model, 0)
    model.train()
    train(model, optimizer, watch, num_steps=1)
    watch.close()
    assert transport.statistic("activation", "0", "count") == {0: 28.0, 1: 28.0}
