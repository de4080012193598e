"""Steady rises: gradients that are larger on each row than on the one before."""

from __future__ import annotations

import numpy as np
import pytest

from tests.detectors.faults import GRADIENT, LAYER, rising_gradient
from tests.detectors.traces import Trace, changes_of, names_of, told_by


def test_a_gradient_that_rises_on_each_row_is_told_on_the_forty_eighth() -> None:
    """With the first of them as its onset, by name."""
    trace = rising_gradient()
    finding = told_by("steady", trace)[0]
    assert (finding.kind, finding.severity) == ("explosion", "warning")
    assert names_of([finding], trace) == [GRADIENT]
    assert (finding.onset_step, finding.step) == (0, 48)


def test_the_sentence_says_that_gradients_add_up() -> None:
    """As those do that nobody clears: along a straight line, to 49 times."""
    (opened, *_) = changes_of(rising_gradient())
    assert opened.sentence.startswith(
        f"Gradients of {LAYER} rise on each row since step 0, to 49.0x: they add up"
    )


def test_a_rise_that_becomes_steeper_does_not_add_up() -> None:
    """It feeds itself."""
    finding = told_by("steady", _later(straight=False))[0]
    assert finding.evidence["cause"] == "rises"


def test_a_rise_that_is_steeper_since_the_first_row_is_quiet() -> None:
    """One batch of all data leaves a saddle so."""
    assert told_by("steady", rising_gradient(straight=False)) == []


def _later(*, straight: bool) -> Trace:
    """Of a gradient that has gone up and down before."""
    trace = rising_gradient(straight=straight, first=20)
    trace.put(GRADIENT, "std", 1e-3 * (1.2 - 0.4 * (np.arange(20) % 2)), slice(0, 20))
    return trace


def test_a_line_that_is_told_late_is_still_a_line() -> None:
    """Row for row it rises as it did, however many rows the loss fell on."""
    trace = rising_gradient(num_rows=119)
    trace.scalars["loss"][:80] = np.linspace(8.0, 2.0, 80)
    finding = told_by("steady", trace)[0]
    assert finding.step > 96
    assert finding.evidence["cause"] == "adds up"


def test_a_rise_that_ends_before_is_quiet() -> None:
    """A start from nought takes some rows."""
    trace = rising_gradient(num_rows=40)
    trace.put(GRADIENT, "std", 1e-3, slice(44, None))
    assert told_by("steady", trace) == []


def test_one_leap_is_no_rise() -> None:
    """A new level that stays, of one batch of all data."""
    trace = rising_gradient(num_rows=0)
    trace.put(GRADIENT, "std", 1e-2, slice(20, None))
    assert told_by("steady", trace) == []


def test_a_single_fall_begins_anew() -> None:
    """Batches that differ make gradients that do."""
    trace = rising_gradient(num_rows=90)
    trace.put(GRADIENT, "std", 1e-3, slice(30, 31))
    assert told_by("steady", trace)[0].onset_step == 30


@pytest.mark.parametrize("factor", [0.07, 0.1])
def test_little_of_a_rise_is_quiet(factor: float) -> None:
    """Seven times is less than eight, however long it takes."""
    trace = rising_gradient()
    trace.put(GRADIENT, "std", 1e-3 * np.minimum(1.0 + factor * np.arange(120), 7.0), slice(None))
    assert told_by("steady", trace) == []


def test_a_rise_while_the_loss_falls_is_quiet() -> None:
    """It is learning that makes it."""
    trace = rising_gradient()
    trace.scalars["loss"] = np.asarray(8.0 * 0.97 ** np.arange(120), np.float64)
    assert told_by("steady", trace) == []
