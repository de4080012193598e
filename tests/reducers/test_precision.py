"""Where sums in float32 would lose digits: around the switch between them and double precision.

Tiles have 16384 elements, and what one tile held decides how the next one is read.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from foreshock.reducers.protocol import Reducer, UnitView
from foreshock.wire.names import STATISTICS

from tests.reducers import oracle

TILE = 16384
KURTOSIS = STATISTICS.index("kurtosis")


def normal(size: int, seed: int = 0) -> torch.Tensor:
    """Standard normal float64 values."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(size, generator=generator, dtype=torch.float64)


def checked(reducer: Reducer, tensor: torch.Tensor) -> None:
    """Measure a tensor and compare it with the definitions."""
    reducer.measure([0], [tensor])
    oracle.check(reducer.finish().result(), 0, oracle.values(tensor))


@pytest.mark.parametrize(
    "size", [n + k for n in (64, 128, 256, 512, 2048, 4096, TILE) for k in (-1, 1, 15, 17)]
)
def test_every_edge_of_vectors_groups_and_blocks(reducer: Reducer, size: int) -> None:
    """Whatever is left over at the end of a vector, a run or a tile is counted once."""
    checked(reducer, normal(size, seed=size).float() + 0.5)


@pytest.mark.parametrize("exponent", [-120, -110, -64, -31, -25, 0, 27, 29, 64, 120])
def test_any_magnitude_keeps_its_fourth_power(reducer: Reducer, exponent: int) -> None:
    """Neither 1e-36 nor 1e36 under- or overflows when it is raised to the fourth power."""
    checked(reducer, (normal(3 * TILE).clamp(-4, 4) * 2.0**exponent).float())


@pytest.mark.parametrize("spread", [1e-12, 1e-9, 1e-3, 1e3, 1e9, 1e30])
def test_tiles_of_unlike_magnitude(reducer: Reducer, spread: float) -> None:
    """The scale that fitted one tile is given up where it does not fit the next."""
    first, second = normal(TILE).float(), (normal(2 * TILE, seed=1) * spread).float()
    checked(reducer, torch.cat((first, second)))


@pytest.mark.parametrize("offset", [3.0, 100.0, -1e6])
def test_tiles_of_unlike_means(reducer: Reducer, offset: float) -> None:
    """The shift that fitted one tile is given up where it does not fit the next."""
    checked(reducer, torch.cat((normal(TILE), normal(2 * TILE, seed=1) + offset)).float())


def test_a_sample_that_misleads(reducer: Reducer) -> None:
    """Every element that chooses the first shift is 50, where nearly all others are about 100."""
    tensor = normal(TILE).float() + 100
    tensor[:: TILE // 16] = 50.0
    checked(reducer, tensor)


@pytest.mark.parametrize("outlier", [1e3, 1e9, 1e15, 3e38, 1e-30])
@pytest.mark.parametrize("background", ["normal", "zeros"])
def test_one_outlier_that_no_sample_saw(reducer: Reducer, outlier: float, background: str) -> None:
    """A single element may carry all of the fourth moment."""
    tensor = normal(2 * TILE).float() if background == "normal" else torch.zeros(2 * TILE)
    tensor[TILE // 2 + 5] = outlier
    checked(reducer, tensor)


@pytest.mark.parametrize("special", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("place", [0, 63, TILE - 1, TILE, 2 * TILE + 3])
def test_one_special_value_anywhere(reducer: Reducer, special: float, place: int) -> None:
    """The tile that holds it is read in double; the others are not disturbed."""
    tensor = normal(2 * TILE + 4).float()
    tensor[place] = special
    checked(reducer, tensor)


@pytest.mark.parametrize("value", [0.1, -7.3e-20, 1e-44, 3e38])
@pytest.mark.parametrize("size", [1, 100, TILE + 1])
def test_a_constant_has_no_variance_at_all(reducer: Reducer, value: float, size: int) -> None:
    """Exactly 0, not a residue of rounding."""
    reducer.measure([0], [torch.full((size,), value)])
    stats = dict(zip(STATISTICS, reducer.finish().result()[0][0].tolist(), strict=True))
    assert (stats["std"], stats["kurtosis"]) == (0.0, 0.0)


def test_two_values_have_the_lowest_kurtosis_there_is(reducer: Reducer) -> None:
    """Equal addends round in the same direction, which is the worst case of sums in float32."""
    tensor = torch.tensor([-0.1, 0.1, 0.1, -0.1]).repeat(TILE)
    reducer.measure([0], [tensor])
    assert reducer.finish().result()[0][0, KURTOSIS] == pytest.approx(-2.0, abs=1e-5)


@pytest.mark.parametrize("bottom", [0, 90, 120])
def test_blocks_of_many_exponents(reducer: Reducer, bottom: int) -> None:
    """More bins than one round of comparing counts, in equal and in very unequal shares."""
    fields = torch.arange(bottom, 150, dtype=torch.int32).repeat_interleave(97)
    rare = torch.arange(bottom, 150, dtype=torch.int32).repeat(2)
    common = torch.full((40000,), 130, dtype=torch.int32)
    tensor = ((torch.cat((fields, common, rare)) << 23) | 0x2A).view(torch.float32)
    names = [name for name in STATISTICS[:11] if name != "kurtosis"]
    reducer.measure([0], [tensor])
    oracle.check(reducer.finish().result(), 0, oracle.values(tensor), names=names)


@pytest.mark.parametrize(
    "view",
    [
        UnitView(200, 512, 1),
        UnitView(70, 513, 1),
        UnitView(33, 1100, 1),
        UnitView(1, 20000, 1),
        UnitView(40000, 3, 1),
        UnitView(500, 67, 1),
        UnitView(9, 5, 1025),
        UnitView(300, 7, 13),
    ],
    ids=str,
)
@pytest.mark.parametrize("magnitude", [1e-30, 1.0, 1e12, 1e20])
def test_units_of_any_shape_and_magnitude(
    reducer: Reducer, view: UnitView, magnitude: float
) -> None:
    """Rows of units are read in tiles of rows and columns; none is lost where tiles meet."""
    shape = (view.outer, view.units, view.inner)
    tensor = normal(math.prod(shape)).view(shape)
    tensor += torch.arange(view.units)[None, :, None] % 50
    tensor[:, 1::5] = 0.0
    tensor = (tensor * magnitude).float()
    reducer.measure([0], [tensor], units=[view])
    found = reducer.finish().result()
    columns = [STATISTICS.index("batch_std"), STATISTICS.index("inactive_unit_frac")]
    want = oracle.expected_units(oracle.values(tensor), view)
    np.testing.assert_allclose(found[0][0, columns], want, rtol=2e-6)
    oracle.check(found, 0, oracle.values(tensor))


def test_a_nan_in_one_tile_of_units(reducer: Reducer) -> None:
    """Its tile changes to double precision for the units as well, and only it."""
    view = UnitView(100, 600, 1)
    tensor = normal(100 * 600).view(100, 600, 1).float()
    tensor[40, 599], tensor[99, 0] = math.nan, math.inf
    reducer.measure([0], [tensor], units=[view])
    column = STATISTICS.index("batch_std")
    want, _ = oracle.expected_units(oracle.values(tensor), view)
    assert reducer.finish().result()[0][0, column] == pytest.approx(want, rel=2e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_an_update_far_smaller_than_its_weight(reducer: Reducer, dtype: torch.dtype) -> None:
    """The weight and its change are read in frames of their own."""
    weight = (normal(2 * TILE + 9) * 2).to(dtype)
    previous = weight.clone()
    previous[::7] *= 1 + 2**-7
    change = weight.float() - previous.float()
    reducer.measure_update([0], [1], [weight], [previous])
    found = reducer.finish().result()
    oracle.check(found, 0, oracle.values(change))
    oracle.check(found, 1, oracle.values(weight))
