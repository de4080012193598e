"""The fused reading of a weight and of its change since the last step."""

from __future__ import annotations

import pytest
import torch
from foreshock.reducers.protocol import Reducer

from tests.reducers import oracle

DTYPES = [torch.float32, torch.bfloat16, torch.float16, torch.float64]


def pair(dtype: torch.dtype, shape: tuple[int, ...] = (41, 733)) -> list[torch.Tensor]:
    """A weight after and before a small update."""
    generator = torch.Generator().manual_seed(2)
    before = torch.randn(shape, generator=generator, dtype=torch.float64)
    change = torch.randn(shape, generator=generator, dtype=torch.float64) * 1e-2
    return [(before + change).to(dtype), before.to(dtype)]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_update_weight_and_copy_in_one_call(reducer: Reducer, dtype: torch.dtype) -> None:
    """Both rows are right, and the previous values become the present ones."""
    weight, previous = pair(dtype)
    before = previous.clone()
    reducer.measure_update([0], [1], [weight], [previous])
    found = reducer.finish().result()
    wide = torch.float64 if dtype is torch.float64 else torch.float32
    oracle.check(found, 0, oracle.values(weight.to(wide) - before.to(wide)))
    oracle.check(found, 1, oracle.values(weight))
    assert torch.equal(weight, previous)


@pytest.mark.parametrize(("update_row", "weight_row"), [(-1, 1), (0, -1), (-1, -1)])
def test_a_row_of_minus_one_is_not_wanted(
    reducer: Reducer, update_row: int, weight_row: int
) -> None:
    """The copy is made all the same, so that the next step has its previous values."""
    weight, previous = pair(torch.float32)
    reducer.measure_update([update_row], [weight_row], [weight], [previous])
    stats, _ = reducer.finish().result()
    measured = [row for row in range(len(stats)) if stats[row, 0] > 0]
    assert measured == [row for row in (update_row, weight_row) if row >= 0]
    assert torch.equal(weight, previous)


@pytest.mark.parametrize("kind", ["permuted", "sliced", "mixed"])
def test_weights_in_any_layout(reducer: Reducer, kind: str) -> None:
    """Elements are compared by their index, not by their place in memory."""
    weight, previous = pair(torch.float32)
    if kind == "permuted":
        weight, previous = weight.t(), previous.t()
    elif kind == "sliced":
        weight, previous = weight[:, ::2], previous[:, ::2]
    else:
        previous = previous.t().contiguous().t()
    change = weight - previous
    reducer.measure_update([0], [1], [weight], [previous])
    found = reducer.finish().result()
    oracle.check(found, 0, oracle.values(change.contiguous()))
    oracle.check(found, 1, oracle.values(weight.contiguous()))
    assert torch.equal(weight, previous)


def test_an_unchanged_weight_has_an_update_of_zeros(reducer: Reducer) -> None:
    """A frozen parameter shows as a tensor of zeros, with nothing lost to rounding."""
    weight, _ = pair(torch.bfloat16)
    reducer.measure_update([0], [-1], [weight], [weight.clone()])
    oracle.check(reducer.finish().result(), 0, oracle.values(torch.zeros_like(weight)))


def test_an_empty_parameter_is_measured_as_empty(reducer: Reducer) -> None:
    """A parameter without elements is there, and has nothing."""
    reducer.measure_update([0], [1], [torch.empty(0, 3)], [torch.empty(0, 3)])
    stats, _ = reducer.finish().result()
    assert stats[:2, 0].tolist() == [0.0, 0.0]
