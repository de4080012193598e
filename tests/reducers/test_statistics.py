"""Each reducer against the definitions, over dtypes, sizes and hostile values."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from foreshock.reducers.protocol import Reducer
from foreshock.wire.names import STATISTICS

from tests.reducers import oracle

DTYPES = [torch.float32, torch.bfloat16, torch.float16, torch.float64]
SIZES = [0, 1, 2, 7, 63, 64, 65, 1023, 1024, 1025, 16384, 16385, 50001]


def normal(size: int, seed: int = 0) -> torch.Tensor:
    """Standard normal float64 values."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(size, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("size", SIZES)
def test_any_size_and_dtype_has_the_defined_statistics(
    reducer: Reducer, dtype: torch.dtype, size: int
) -> None:
    """Block and chunk edges lose and repeat nothing."""
    tensor = normal(size).to(dtype)
    reducer.measure([3], [tensor])
    oracle.check(reducer.finish().result(), 3, oracle.values(tensor))


@pytest.mark.parametrize(
    ("mean", "std"), [(1e4, 1e-2), (1e3, 1.0), (-1e6, 1.0), (0.0, 1e25), (1e-30, 1e-33), (5.0, 0.0)]
)
def test_a_large_offset_does_not_eat_the_spread(reducer: Reducer, mean: float, std: float) -> None:
    """A small deviation around a large mean keeps its variance and its kurtosis."""
    tensor = (normal(40000) * std + mean).float()
    reducer.measure([0], [tensor])
    oracle.check(reducer.finish().result(), 0, oracle.values(tensor))


def test_the_largest_floats_do_not_overflow(reducer: Reducer) -> None:
    """Moments of values near 3e38, whose squares no float32 holds, are finite and right."""
    tensor = torch.tensor([3e38, -3e38, 3e38, -3e38, 1e38], dtype=torch.float32).repeat(777)
    reducer.measure([0], [tensor])
    oracle.check(reducer.finish().result(), 0, oracle.values(tensor))


def test_float64_beyond_float32_is_held_at_its_largest(reducer: Reducer) -> None:
    """A finite element never becomes an Inf of the frame."""
    tensor = torch.tensor([1e300, -1e300, 0.0], dtype=torch.float64)
    reducer.measure([0], [tensor])
    stats, _ = reducer.finish().result()
    largest = np.finfo(np.float32).max
    found = dict(zip(STATISTICS, stats[0].tolist(), strict=True))
    assert (found["min"], found["max"], found["inf_count"]) == (-largest, largest, 0)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 0.0, -0.0, 1e-45, 1e-40, 3.3e38])
def test_a_tensor_of_one_special_value(reducer: Reducer, value: float) -> None:
    """NaN and Inf are told apart, signed zeros are zeros, subnormals are not."""
    tensor = torch.full((3000,), value)
    reducer.measure([1], [tensor])
    oracle.check(reducer.finish().result(), 1, oracle.values(tensor))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_scattered_special_values_stay_out_of_the_moments(
    reducer: Reducer, dtype: torch.dtype
) -> None:
    """One NaN or Inf in a block is counted and the rest is measured as if it were not there."""
    tensor = normal(20000, seed=4).to(dtype)
    tensor[::997] = math.nan
    tensor[5::1511] = math.inf
    tensor[7::1511] = -math.inf
    tensor[9::101] = 0.0
    tensor[10::101] = -0.0
    reducer.measure([1], [tensor])
    oracle.check(reducer.finish().result(), 1, oracle.values(tensor))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_every_pattern_of_sixteen_bits(reducer: Reducer, dtype: torch.dtype) -> None:
    """All 65536 bit patterns decode as numpy and torch decode them."""
    patterns = torch.arange(-32768, 32768, dtype=torch.int32).to(torch.int16).view(dtype)
    reducer.measure([0], [patterns])
    oracle.check(reducer.finish().result(), 0, oracle.values(patterns))


def test_every_float32_exponent(reducer: Reducer) -> None:
    """Underflow begins below 2^-24 and overflow at 2^16, whatever the exponents around them."""
    fields = torch.arange(256, dtype=torch.int32).repeat(20)
    tensor = ((fields << 23) | 0x2A).view(torch.float32)
    reducer.measure([0], [tensor])
    names = [name for name in STATISTICS[:11] if name != "kurtosis"]
    oracle.check(reducer.finish().result(), 0, oracle.values(tensor), names=names)


def test_the_edges_of_underflow_and_overflow(reducer: Reducer) -> None:
    """Exactly 2^-24 does not underflow, exactly 2^16 does overflow."""
    tensor = torch.tensor([2.0**-24, 2.0**-25, 2.0**16, 65504.0, 0.0])
    reducer.measure([0], [tensor])
    stats, _ = reducer.finish().result()
    found = dict(zip(STATISTICS, stats[0].tolist(), strict=True))
    assert (found["underflow_frac"], found["overflow_frac"]) == pytest.approx((1 / 4, 1 / 5))


@pytest.mark.parametrize("offset", [1, 2, 3, 5])
def test_misaligned_tensors_are_read_where_they_are(reducer: Reducer, offset: int) -> None:
    """A view that starts off any vector boundary gives its own elements."""
    tensor = normal(5000).float()[offset:4001]
    half = normal(5000).half()[offset:4001]
    reducer.measure([0, 1], [tensor, half])
    found = reducer.finish().result()
    oracle.check(found, 0, oracle.values(tensor))
    oracle.check(found, 1, oracle.values(half))


def test_strided_and_permuted_tensors(reducer: Reducer) -> None:
    """A slice counts only its own elements, an expanded tensor all that it shows."""
    base = normal(60 * 70).float().view(60, 70)
    tensors = [base.t(), base[:, ::3], base[3:9, 5:7], base[:1].expand(50, 70), base[7, 7]]
    reducer.measure(range(5), tensors)
    found = reducer.finish().result()
    for row, tensor in enumerate(tensors):
        oracle.check(found, row, oracle.values(tensor.contiguous()))


def test_microbatches_merge_into_one_row(reducer: Reducer) -> None:
    """Parts of different sizes and offsets, in several calls, are as good as one tensor."""
    parts = [(normal(n, seed=n) + n).float() for n in (1, 500, 0, 20000, 64)]
    reducer.measure([2, 2], parts[:2])
    for part in parts[2:]:
        reducer.measure([2], [part])
    oracle.check(reducer.finish().result(), 2, oracle.values(torch.cat(parts)))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("scale", [1 / 65536, 0.3, -2.0, 0.0, 1e-30])
def test_a_scale_multiplies_every_element(
    reducer: Reducer, dtype: torch.dtype, scale: float
) -> None:
    """Statistics are of `scale * tensor`, so underflow is judged after unscaling."""
    tensor = (normal(3000) * 100).to(dtype)
    reducer.measure([0], [tensor], scale=scale)
    reducer.measure([1], [tensor], scale=torch.tensor(scale))
    found = reducer.finish().result()
    oracle.check(found, 0, oracle.values(tensor, scale))
    if dtype is not torch.float64:  # a float32 scale is another number than the float64 one
        np.testing.assert_array_equal(found[0][0], found[0][1])


def test_rows_that_were_not_measured_are_nan(reducer: Reducer) -> None:
    """Absent and empty differ: an empty tensor has a count of 0."""
    reducer.measure([1], [torch.empty(0, 5)])
    stats, histogram = reducer.finish().result()
    assert np.isnan(stats[0]).all()
    assert stats[1, :1].tolist() == [0.0]
    assert np.isnan(stats[1, 1:6]).all()
    assert histogram.sum() == 0


def test_finishing_empties_the_table(reducer: Reducer) -> None:
    """The next step starts from nothing, and the last one's arrays keep their values."""
    reducer.measure([0], [torch.ones(10)])
    first = reducer.finish()
    reducer.measure([0], [torch.full((4,), 3.0)])
    second = reducer.finish().result()
    assert first.result()[0][0, :2].tolist() == [10.0, 1.0]
    assert second[0][0, :2].tolist() == [4.0, 3.0]


def test_growing_in_the_middle_of_a_step_keeps_what_was_measured(reducer: Reducer) -> None:
    """Rows are added when a module is first seen, perhaps after others were measured."""
    reducer.measure([7], [torch.ones(10)])
    reducer.resize(20)
    reducer.measure([19], [torch.zeros(5)])
    stats, _ = reducer.finish().result()
    assert stats.shape == (20, len(STATISTICS))
    assert stats[[7, 19], 0].tolist() == [10.0, 5.0]


def test_measuring_changes_nothing(reducer: Reducer) -> None:
    """The training's tensor keeps its bits and its graph."""
    tensor = torch.randn(100, requires_grad=True)
    before = tensor.detach().clone()
    reducer.measure([0], [tensor * 1.0])
    reducer.measure([0], [tensor], scale=3.0)
    assert torch.equal(before, tensor.detach())
    assert tensor.requires_grad
