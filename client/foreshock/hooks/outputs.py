"""What a module returned: its float tensors by name, and their units."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import Any, Final

import torch
from torch import nn

from foreshock.hooks.meter import measurable
from foreshock.reducers.protocol import UnitView

_MAX_TENSORS: Final = 8
_MAX_DEPTH: Final = 4
_LAST_DIMENSION: Final = (nn.Linear, nn.LayerNorm, nn.RMSNorm, nn.Embedding)
_CHANNELS_FIRST: Final = (
    nn.modules.conv._ConvNd,
    nn.modules.batchnorm._BatchNorm,
    nn.modules.instancenorm._InstanceNorm,
    nn.GroupNorm,
)


def float_tensors(output: Any) -> list[tuple[str, torch.Tensor]]:
    """The float tensors of an output, at most 8, each with its path: `''` for a lone tensor,
    `[0]`, `[hidden]`, `[1][0]` inside tuples, dictionaries and dataclasses."""
    if isinstance(output, torch.Tensor):  # as nearly always
        return [("", output)] if measurable(output) else []
    found: list[tuple[str, torch.Tensor]] = []
    for item in _walk(output, "", 0):
        if len(found) == _MAX_TENSORS:
            break
        found.append(item)
    return found


def _walk(value: Any, path: str, depth: int) -> Iterator[tuple[str, torch.Tensor]]:
    if isinstance(value, torch.Tensor):
        if measurable(value):
            yield path, value
        return
    if depth == _MAX_DEPTH:
        return
    if isinstance(value, Mapping):
        inside = [(str(key), item) for key, item in value.items()]
    elif isinstance(value, list | tuple):
        inside = [(str(i), item) for i, item in enumerate(value)]
    elif is_dataclass(value) and not isinstance(value, type):
        inside = [(field.name, getattr(value, field.name, None)) for field in fields(value)]
    else:
        return
    for key, item in inside:
        yield from _walk(item, f"{path}[{key}]", depth + 1)


def unit_view(module: nn.Module | None, tensor: torch.Tensor) -> UnitView | None:
    """Units are the last dimension, or dimension 1 of convolutional and batch-norm outputs and of
    what keeps their layout [N, C, H, W]. None where memory is not in one of those orders."""
    ndim, numel = tensor.dim(), tensor.numel()
    if ndim < 2 or numel == 0:
        return None
    channels_first = isinstance(module, _CHANNELS_FIRST) or (
        module is not None and ndim >= 4 and not isinstance(module, _LAST_DIMENSION)
    )
    if not channels_first:
        units = tensor.shape[-1]
        return UnitView(numel // units, units, 1) if tensor.is_contiguous() else None
    units = tensor.shape[1]
    if tensor.is_contiguous():
        outer = tensor.shape[0]
        return UnitView(outer, units, numel // (outer * units))
    if tensor.movedim(1, -1).is_contiguous():
        return UnitView(numel // units, units, 1)
    return None
