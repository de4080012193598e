"""The arithmetic that rules share: medians without a sort, masks without a way through Python."""

from __future__ import annotations

import numpy as np
import pytest
from foreshock.wire import Series, SeriesSchema
from foreshock_service.detectors.layout import Layout, layout_of
from foreshock_service.detectors.per_layout import PerLayout
from foreshock_service.detectors.per_names import PerNames
from foreshock_service.detectors.row import all_of, any_of, middle


@pytest.mark.parametrize("size", [1, 2, 3, 4, 64, 65])
def test_middle_is_the_median(size: int) -> None:
    values = np.random.default_rng(size).normal(size=size)
    before = values.copy()
    assert middle(values) == np.median(values)
    assert (values == before).all()


@pytest.mark.parametrize("mask", [[], [False], [True], [False, True], [True, True]])
def test_masks_are_asked_as_numpy_does(mask: list[bool]) -> None:
    array = np.array(mask, np.bool_)
    assert any_of(array) == array.any()
    assert all_of(array) == array.all()


def test_what_depends_on_the_layout_is_worked_out_once_for_each() -> None:
    asked: list[Layout] = []

    def count(layout: Layout) -> int:
        asked.append(layout)
        return layout.num_series

    one, two = (
        layout_of(
            SeriesSchema(
                tuple(
                    Series(name=f"{i}", kind="weight", module_type="", depth=i, numel=1, dtype="")
                    for i in range(size)
                )
            )
        )
        for size in (1, 2)
    )
    counts = PerLayout(count)
    assert [counts.of(layout) for layout in (one, one, two, two, one)] == [1, 1, 2, 2, 1]
    assert asked == [one, two, one]


def test_what_depends_on_names_is_worked_out_when_they_change() -> None:
    asked: list[tuple[str, ...]] = []

    def derive(names: tuple[str, ...]) -> int:
        asked.append(names)
        return len(names)

    known = PerNames(derive)
    assert [known.of(names) for names in ({"a": 1}, ["a"], ["a", "b"], ["a"])] == [1, 1, 2, 1]
    assert asked == [("a",), ("a", "b"), ("a",)]
