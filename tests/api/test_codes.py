"""The codes of a heatmap: what a maximum may hide, and how exact a value comes back."""

from __future__ import annotations

import numpy as np
import pytest
from foreshock_service.api.codes import (
    CODES_A_DECADE,
    INF,
    LAST,
    MISSING,
    NAN,
    LogRange,
    decode_absolute,
    decode_deviation,
    encode_absolute,
    encode_deviation,
    log_range,
)
from hypothesis import given
from hypothesis import strategies as st

CELLS = st.lists(st.floats(width=32), min_size=1, max_size=40)


@given(CELLS)
def test_a_maximum_never_hides_what_is_not_finite(cells: list[float]) -> None:
    """Pooling any cells by an integer maximum shows NaN over Inf over numbers over nothing."""
    values = np.array(cells)
    present = np.ones(len(cells), bool)

    pooled = encode_absolute(values, present, log_range(values)).max()

    if np.isnan(values).any():
        assert pooled == NAN
    elif np.isinf(values).any():
        assert pooled == INF
    else:
        assert 1 <= pooled <= LAST


@given(st.floats(1e-30, 1e30), st.floats(1e-30, 1e30))
def test_the_larger_value_has_no_smaller_code(a: float, b: float) -> None:
    """Codes keep the order of magnitudes, so that pooling codes is pooling values."""
    scale = LogRange(lo=-30, hi=30)
    code_a, code_b = encode_absolute(np.array([a, b]), np.array([True, True]), scale)

    assert (a <= b) == (code_a <= code_b) or code_a == code_b


@given(st.floats(-10, 10))
def test_a_value_comes_back_to_a_thousandth(exponent: float) -> None:
    """Half a code of a 20-decade scale is 0.04 %."""
    scale = LogRange(lo=-10, hi=10)
    code = encode_absolute(np.array([-(10.0**exponent)]), np.array([True]), scale)

    assert decode_absolute(code, scale)[0] == pytest.approx(10.0**exponent, rel=1e-3)


def test_a_missing_cell_is_below_every_number() -> None:
    """And zero, which has no logarithm, is the smallest number."""
    codes = encode_absolute(np.array([np.nan, 0.0]), np.array([False, True]), LogRange(lo=0, hi=1))

    assert codes.tolist() == [MISSING, 1]


def test_a_pooled_nan_is_marked_though_the_pooled_value_is_finite() -> None:
    """A floating maximum drops NaN, so it is told apart."""
    codes = encode_absolute(
        np.array([1.0]), np.array([True]), LogRange(lo=0, hi=1), nan=np.array([True])
    )

    assert codes.tolist() == [NAN]


def test_one_value_or_none_still_makes_a_scale() -> None:
    """A range without width would divide by zero."""
    assert log_range(np.array([100.0])) == LogRange(lo=1.0, hi=3.0)
    assert log_range(np.array([np.nan, 0.0, np.inf])) == LogRange(lo=-1.0, hi=1.0)


@pytest.mark.parametrize(("value", "decades"), [(8.0, 0.0), (8000.0, 3.0), (0.008, -3.0)])
def test_a_deviation_keeps_size_and_direction(value: float, decades: float) -> None:
    """Against a centre of 2^3."""
    codes = encode_deviation(np.array([value]), np.array([True]), np.array([3.0]))

    assert decode_deviation(codes)[0] == pytest.approx(decades, abs=1 / CODES_A_DECADE)


def test_the_farther_deviation_wins_a_maximum() -> None:
    """A small rise beside a large fall shows the fall."""
    codes = encode_deviation(np.array([2.0, 1e-3]), np.ones(2, bool), np.zeros(2))

    assert decode_deviation(codes.max(keepdims=True))[0] == pytest.approx(-3.0, abs=0.01)


def test_an_extreme_deviation_stays_below_the_marks() -> None:
    """0 is infinitely far below, and still a number."""
    codes = encode_deviation(np.array([0.0, 1e308]), np.ones(2, bool), np.array([100.0, -900.0]))

    assert (codes <= LAST).all()
    assert (codes >= LAST - 2).all()


def test_without_a_baseline_a_number_is_missing_and_a_nan_is_shown() -> None:
    """Before a series has a normal there is no deviation to colour, but a NaN is one."""
    codes = encode_deviation(np.array([1.0, np.nan, np.inf]), np.ones(3, bool), np.full(3, np.nan))

    assert codes.tolist() == [MISSING, NAN, INF]
