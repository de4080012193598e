"""The CUDA kernels and their host code, executed on the CPU, against the definitions."""

from __future__ import annotations

import ctypes
import math

import numpy as np
import pytest
import torch
from foreshock.errors import ReducerError
from foreshock.reducers.cpu import CpuReducer
from foreshock.reducers.protocol import Reducer, UnitView
from foreshock.wire.names import STATISTICS
from foreshock_gpu import tables
from foreshock_gpu.reducer import CupyReducer

from tests.gpu.emulated import EmulatedLauncher
from tests.reducers import oracle

DTYPES = [torch.float32, torch.bfloat16, torch.float16, torch.float64]


def normal(size: int, seed: int = 0) -> torch.Tensor:
    """Standard normal float64 values."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(size, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_sizes_alignments_and_special_values(reducer: CupyReducer, dtype: torch.dtype) -> None:
    """Chunk edges, tails, misaligned starts, NaN, Inf, zeros and large offsets, in one call."""
    special = normal(5000).to(dtype)
    special[::97], special[5::211], special[7::211] = math.nan, math.inf, -math.inf
    special[9::13], special[10::130] = 0.0, -0.0
    offset = normal(40000) * 1e-2 + 1e4 if dtype in DTYPES[::3] else normal(40000)
    tensors = [
        normal(0).to(dtype),
        normal(1).to(dtype),
        normal(1025).to(dtype)[1:],
        normal(2049).to(dtype)[: 2049 - 3],
        special,
        offset.to(dtype),
        torch.full((4000,), 0.1).to(dtype),
    ]
    reducer.measure(range(len(tensors)), tensors)
    found = reducer.finish().result()
    for row, tensor in enumerate(tensors):
        oracle.check(found, row, oracle.values(tensor))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_every_pattern_of_sixteen_bits(reducer: CupyReducer, dtype: torch.dtype) -> None:
    """All bit patterns decode as torch decodes them, from 16-byte loads."""
    patterns = torch.arange(-32768, 32768, dtype=torch.int32).to(torch.int16).view(dtype)
    reducer.measure([0], [patterns])
    oracle.check(reducer.finish().result(), 0, oracle.values(patterns))


@pytest.mark.parametrize(
    "view",
    [
        UnitView(64, 48, 1), UnitView(3, 7, 11), UnitView(1, 5, 4000), UnitView(700, 1, 1),
        UnitView(3, 600, 1), UnitView(9, 40, 64),
    ],
    ids=str,
)  # fmt: skip
def test_per_unit_statistics(reducer: CupyReducer, view: UnitView) -> None:
    """Both thread layouts, several slices and groups, non-finite elements, and two microbatches."""
    shape = (view.outer, view.units, view.inner)
    whole = normal(math.prod(shape)).view(shape).float() + torch.arange(view.units)[None, :, None]
    whole[:, 2::3] = 0.0
    whole[0, 0, 0] = math.nan
    for _ in range(2):
        reducer.measure([0], [whole], units=[view])
    stats, _ = reducer.finish().result()
    twice = UnitView(2 * view.outer, view.units, view.inner)
    want = oracle.expected_units(oracle.values(torch.cat((whole, whole))), twice)
    np.testing.assert_allclose(stats[0, 11:], want, rtol=2e-6)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_the_fused_update(reducer: CupyReducer, dtype: torch.dtype) -> None:
    """Update, weight and copy, aligned and not, with rows that are not wanted."""
    wide = torch.float64 if dtype is torch.float64 else torch.float32
    weights = [normal(n, seed=n).to(dtype) for n in (20000, 333, 64)]
    weights[1] = weights[1][1:]
    previous = [(w.double() + 1e-2 * normal(len(w), seed=9)).to(dtype) for w in weights]
    changes = [w.to(wide) - p.to(wide) for w, p in zip(weights, previous, strict=True)]
    reducer.measure_update([0, 2, -1], [1, -1, 3], weights, previous)
    found = reducer.finish().result()
    oracle.check(found, 0, oracle.values(changes[0]))
    oracle.check(found, 1, oracle.values(weights[0]))
    oracle.check(found, 2, oracle.values(changes[1]))
    oracle.check(found, 3, oracle.values(weights[2]))
    assert np.isnan(found[0][4:]).all()
    assert all(torch.equal(w, p) for w, p in zip(weights, previous, strict=True))


def step(reducer: Reducer) -> tuple[oracle.Stats, oracle.Histogram]:
    """A training step in small: microbatches, units, scales, an update, and a row used twice."""
    reducer.resize(12)
    activation, gradient = normal(6000).float().view(20, 300), normal(70000, seed=1).bfloat16()
    for part in activation.split(7):
        reducer.measure([0], [part], units=[UnitView(len(part), 300, 1)])
    reducer.measure([1, 2, 1], [gradient, gradient[3:], gradient[:50]], scale=1 / 1024)
    reducer.measure([3], [activation[:, ::2]], scale=torch.tensor(0.5))
    weight = normal(9000, seed=3).float()
    reducer.measure_update([4, 5], [6, 7], [weight, weight[1:]], [weight * 0.9, weight[1:] * 1.1])
    return reducer.finish().result()


def test_the_same_step_as_the_cpu_reducer(reducer: CupyReducer) -> None:
    """Both reducers share their definitions and differ by rounding only. Kurtosis is compared
    before its 3 is taken off, which leaves next to nothing of a normal tensor's."""
    stats, histogram = step(reducer)
    want, want_histogram = step(CpuReducer())
    for each in (stats, want):
        each[:, STATISTICS.index("kurtosis")] += 3.0
    np.testing.assert_allclose(stats, want, rtol=1e-6, atol=1e-8)
    np.testing.assert_array_equal(histogram, want_histogram)


def test_the_result_does_not_depend_on_the_order_of_threads(shim: ctypes.CDLL) -> None:
    """Blocks and threads run in another order give the same bits."""
    first, second = (step(CupyReducer(EmulatedLauncher(shim, seed=seed))) for seed in (1, 2))
    np.testing.assert_array_equal(first[0].view(np.uint32), second[0].view(np.uint32))
    np.testing.assert_array_equal(first[1], second[1])


def test_two_launches_for_any_number_of_tensors(
    reducer: CupyReducer, launcher: EmulatedLauncher
) -> None:
    """Tensors of all dtypes share them; finishing launches nothing."""
    tensors = [torch.ones(10).to(DTYPES[k % 4]) for k in range(8)]
    reducer.measure(range(8), tensors, units=[UnitView(5, 2, 1)] * 8)
    reducer.finish()
    assert launcher.launches == ["foreshock_segments", "foreshock_rows"]


def test_nothing_to_read_launches_no_empty_grid(
    reducer: CupyReducer, launcher: EmulatedLauncher
) -> None:
    """CUDA refuses a grid of no blocks; an empty tensor is still counted."""
    reducer.measure([], [])
    reducer.measure([0], [torch.empty(0)])
    assert launcher.launches == ["foreshock_rows"]
    assert reducer.finish().result()[0][0, 0] == 0


def test_steps_do_not_mix(reducer: CupyReducer) -> None:
    """A result read two steps later is that of its step, units included."""
    pending = []
    for value in (1.0, 2.0, 3.0):
        reducer.measure([0], [torch.full((6,), value)], units=[UnitView(3, 2, 1)])
        pending.append(reducer.finish())
    reducer.measure([1], [torch.ones(3)])
    stats = [each.result()[0][0] for each in pending]
    assert [row[1] for row in stats] == [1.0, 2.0, 3.0]
    assert [row[11] for row in stats] == [0.0, 0.0, 0.0]


def test_units_that_disagree_are_not_mixed(reducer: CupyReducer) -> None:
    """A module shared between widths has no common units on that step, and is clean on the next."""
    for width in (4, 5, 4):
        reducer.measure([0], [torch.randn(3, width)], units=[UnitView(3, width, 1)])
    stats, _ = reducer.finish().result()
    assert np.isnan(stats[0, 11:]).all()
    assert stats[0, 0] == 39
    reducer.measure([0], [torch.zeros(3, 5)], units=[UnitView(3, 5, 1)])
    assert reducer.finish().result()[0][0, 11:].tolist() == [0.0, 1.0]


def test_an_empty_microbatch_leaves_the_units_of_the_others(reducer: CupyReducer) -> None:
    """The last tensor of a row decides nothing that it does not know."""
    reducer.measure([0], [torch.zeros(3, 5)], units=[UnitView(3, 5, 1)])
    reducer.measure([0], [torch.zeros(0, 5)], units=[UnitView(0, 5, 1)])
    assert reducer.finish().result()[0][0, 11:].tolist() == [0.0, 1.0]


def test_a_large_tensor_has_a_bounded_number_of_chunks() -> None:
    """Merging reads at most 1024 partial results; every element is in exactly one chunk."""
    reading = tables.Reading(0, (1 << 34) + 3, 1, 0)
    _, chunks = tables.build([reading], scale=1.0, scale_address=0)
    assert len(chunks) <= tables.MAX_CHUNKS
    assert chunks["count"].sum() == reading.numel
    assert (chunks["start"][1:] == (chunks["start"] + chunks["count"])[:-1]).all()
    assert (chunks["start"] % 8 == 0).all()


def test_tables_have_the_layout_of_the_kernels(launcher: EmulatedLauncher) -> None:
    """A field added on one side only would shift every address."""
    assert launcher.sizes() == [
        tables.TENSOR.itemsize, tables.CHUNK.itemsize, tables.PARTIAL_BYTES, tables.RECORD_BYTES,
        tables.UNIT_BYTES, tables.OUTPUT_WORDS,
    ]  # fmt: skip


def test_bad_tensors_are_refused_before_anything_is_launched(
    reducer: CupyReducer, launcher: EmulatedLauncher
) -> None:
    """A wrong row, dtype or view never reaches the device."""
    good = torch.ones(4)
    for rows, tensors in (([0, 99], [good, good]), ([0, 1], [good, good.int()])):
        with pytest.raises(ReducerError):
            reducer.measure(rows, tensors)
    with pytest.raises(ReducerError, match="does not fit"):
        reducer.measure([0], [good], units=[UnitView(3, 3, 3)])
    assert launcher.launches == []
