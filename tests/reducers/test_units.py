"""The statistics that are per unit: batch_std and inactive_unit_frac."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from foreshock.reducers.protocol import Reducer, UnitView
from foreshock.wire.names import STATISTICS

from tests.reducers import oracle

COLUMNS = [STATISTICS.index("batch_std"), STATISTICS.index("inactive_unit_frac")]
VIEWS = [
    UnitView(64, 48, 1),
    UnitView(3, 7, 11),
    UnitView(1, 5, 4000),
    UnitView(700, 1, 1),
    UnitView(2, 3000, 1),
    UnitView(5, 40, 64),
]


def make(view: UnitView) -> torch.Tensor:
    """Units of different means; every third one is silent."""
    tensor = torch.randn(
        view.outer, view.units, view.inner, generator=torch.Generator().manual_seed(1)
    )
    tensor += torch.arange(view.units)[None, :, None] * 10.0
    tensor[:, 2::3] = 0.0
    return tensor


@pytest.mark.parametrize("view", VIEWS, ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64], ids=str)
def test_variance_is_taken_within_each_unit(
    reducer: Reducer, view: UnitView, dtype: torch.dtype
) -> None:
    """Differences between the units' means do not count as variance over the batch."""
    tensor = make(view).to(dtype)
    reducer.measure([0], [tensor], units=[view])
    found = reducer.finish().result()
    want = oracle.expected_units(oracle.values(tensor), view)
    np.testing.assert_allclose(found[0][0, COLUMNS], want, rtol=2e-6)
    oracle.check(found, 0, oracle.values(tensor))


def test_non_finite_elements_are_left_out_of_their_unit(reducer: Reducer) -> None:
    """A NaN neither poisons its unit's variance nor leaves the unit inactive."""
    view = UnitView(50, 6, 1)
    tensor = make(view)
    tensor[3, 1], tensor[4, 2], tensor[:, 5] = math.nan, math.inf, math.nan
    reducer.measure([0], [tensor], units=[view])
    want = oracle.expected_units(oracle.values(tensor), view)
    np.testing.assert_allclose(reducer.finish().result()[0][0, COLUMNS], want, rtol=2e-6)


def test_units_merge_over_microbatches(reducer: Reducer) -> None:
    """Two microbatches of different lengths are as good as one batch."""
    view = UnitView(60, 20, 1)
    whole = make(view)
    for part in (whole[:13], whole[13:]):
        reducer.measure([0], [part], units=[UnitView(len(part), 20, 1)])
    want = oracle.expected_units(oracle.values(whole), view)
    np.testing.assert_allclose(reducer.finish().result()[0][0, COLUMNS], want, rtol=2e-6)


def test_a_collapsed_representation_has_a_batch_std_of_zero(reducer: Reducer) -> None:
    """The same vector for every sample: no variance over the batch, much over the features."""
    tensor = torch.randn(1, 32).repeat(100, 1)
    reducer.measure([0], [tensor], units=[UnitView(100, 32, 1)])
    stats, _ = reducer.finish().result()
    assert stats[0, COLUMNS].tolist() == [0.0, 0.0]
    assert stats[0, STATISTICS.index("std")] > 0.5


def test_channels_last_images_are_measured_by_channel(reducer: Reducer) -> None:
    """The layout in memory does not change which element belongs to which channel."""
    image = make(UnitView(4, 6, 35)).view(4, 6, 5, 7)
    view = UnitView(4, 6, 35)
    reducer.measure(
        [0, 1], [image, image.to(memory_format=torch.channels_last)], units=[view, view]
    )
    stats, _ = reducer.finish().result()
    want = oracle.expected_units(oracle.values(image), view)
    np.testing.assert_allclose(stats[:2, COLUMNS], [want, want], rtol=2e-6)


def test_other_numbers_of_units_in_one_step_have_none_in_common(reducer: Reducer) -> None:
    """A module shared between widths keeps its other statistics; the next step is clean."""
    for width in (4, 5):
        reducer.measure([0], [torch.randn(3, width)], units=[UnitView(3, width, 1)])
    stats, _ = reducer.finish().result()
    assert np.isnan(stats[0, COLUMNS]).all()
    assert stats[0, 0] == 27
    reducer.measure([0], [torch.zeros(3, 5)], units=[UnitView(3, 5, 1)])
    assert reducer.finish().result()[0][0, COLUMNS].tolist() == [0.0, 1.0]
