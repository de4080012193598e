"""What faults do to a model: small hands that reach into weights and gradients by name."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn


@torch.no_grad()
def scale(model: nn.Module, module: str, factor: float) -> None:
    """Multiply all parameters of a module and of what it contains."""
    for parameter in model.get_submodule(module).parameters():
        parameter.mul_(factor)


def scale_gradient(model: nn.Module, module: str, factor: float) -> None:
    """Multiply the gradients of a module and of what it contains."""
    for parameter in model.get_submodule(module).parameters():
        if parameter.grad is not None:
            parameter.grad.mul_(factor)


@torch.no_grad()
def flip_bit(parameter: nn.Parameter, index: int, *, bit: int) -> None:
    """Flip one bit of one element of a float32 tensor, as a ray or a worn cell does."""
    flat = parameter.data.view(-1)
    bits = flat[index : index + 1].view(torch.int32)
    bits.bitwise_xor_(1 << bit)


def groups(
    model: nn.Module, module: str, rate: float, *, decay: float = 0.0, other_decay: float = 0.0
) -> list[dict[str, Any]]:
    """Two parameter groups of one rate: everything else with `other_decay`, then `module` with
    `decay`."""
    chosen = set(model.get_submodule(module).parameters())
    rest = [p for p in model.parameters() if p not in chosen]
    mine = [p for p in model.parameters() if p in chosen]
    return [
        {"params": rest, "lr": rate, "weight_decay": other_decay},
        {"params": mine, "lr": rate, "weight_decay": decay},
    ]
