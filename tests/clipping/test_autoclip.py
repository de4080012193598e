"""AutoClip against its published rule, by hand, and its heaps against a sorted history."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tests.clipping.steps import rule, step


def test_each_norm_is_part_of_the_history_that_it_is_held_against() -> None:
    """Median of [1] = 1, of [1, 2] = 1.5, of [1, 2, 3] = 2, of [1, 2, 3, 4] = 2.5."""
    autoclip = rule("autoclip", percentile=50)

    factors = [autoclip.judge(step(total)).factor for total in (1.0, 2.0, 3.0, 4.0)]

    assert factors == pytest.approx([1.0, 1.5 / 2, 2 / 3, 2.5 / 4], rel=1e-6)


def test_its_tenth_percentile_is_linear_between_neighbours() -> None:
    """[10, 20]: 10 + 0.1 x 10 = 11. [5, 10, 20]: place 0.2, 5 + 0.2 x 5 = 6, and 5 is below it."""
    autoclip = rule("autoclip")

    factors = [autoclip.judge(step(total)).factor for total in (10.0, 20.0, 5.0)]

    assert factors == pytest.approx([1.0, 11 / 20, 1.0], rel=1e-6)


@pytest.mark.parametrize("percentile", [0.0, 10.0, 33.3, 50.0, 99.0, 100.0])
def test_the_percentile_is_that_of_the_whole_history(percentile: float) -> None:
    """On 300 norms, compared with one that sorts them all."""
    norms = np.random.default_rng(1).lognormal(0, 1, 300)
    autoclip = rule("autoclip", percentile=percentile)

    for count, total in enumerate(norms, 1):
        limit = float(np.percentile(norms[:count], percentile))
        expected = limit / (total + 1e-6) if total > limit * (1 + 1e-7) else 1.0
        assert autoclip.judge(step(float(total))).factor == pytest.approx(expected, rel=1e-9)


def test_one_nan_poisons_the_history_for_ever() -> None:
    """Every percentile is NaN from there: nothing can be said to be clipped."""
    autoclip = rule("autoclip")
    autoclip.judge(step(1.0))

    judged = [autoclip.judge(step(total)) for total in (math.nan, 100.0)]

    assert [j.poisoned for j in judged] == [1, 1]
    assert [j.non_finite for j in judged] == [True, False]
    assert [j.clipped for j in judged] == [False, False]


def test_an_infinite_norm_stays_as_the_largest() -> None:
    """Median of [1, inf, 3] = 3, of [1, inf, 3, 2] = 2.5."""
    autoclip = rule("autoclip", percentile=50)
    autoclip.judge(step(1.0))
    assert autoclip.judge(step(math.inf)).non_finite

    factors = [autoclip.judge(step(total)).factor for total in (3.0, 2.0, 5.0)]

    assert factors == pytest.approx([1.0, 1.0, 3 / 5], rel=1e-6)
