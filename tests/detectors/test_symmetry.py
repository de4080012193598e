"""Symmetry: units that are copies of one another."""

from __future__ import annotations

import numpy as np

from tests.detectors.faults import LAYER, WEIGHT, alike_units
from tests.detectors.traces import changes_of, names_of, told_by


def test_a_matrix_of_one_number_is_named() -> None:
    """On the twelfth row, as critical: no training mends it."""
    trace = alike_units()
    (finding,) = told_by("symmetry", trace)
    assert (finding.kind, finding.severity) == ("representation_collapse", "critical")
    assert names_of([finding], trace) == [WEIGHT]
    assert (finding.onset_step, finding.step) == (0, 11)


def test_the_sentence_says_what_is_the_same() -> None:
    """And not that samples are answered alike."""
    (opened, *_) = changes_of(alike_units())
    assert f"All elements of {LAYER} are the same" in opened.sentence


def test_gradients_that_differ_are_quiet() -> None:
    """They part what began alike, however small the first updates are."""
    trace = alike_units()
    trace.put(f"gradient:{LAYER}.weight", "std", 5e-4, slice(None))
    assert told_by("symmetry", trace) == []


def test_a_matrix_of_zeros_is_quiet() -> None:
    """A branch that begins with nothing is often meant to."""
    trace = alike_units()
    for statistic in ("mean", "min", "max"):
        trace.put(WEIGHT, statistic, 0.0, slice(None))
    assert told_by("symmetry", trace) == []


def test_a_row_of_gains_is_quiet() -> None:
    """Scales begin at one, and a matrix with one row is no layer of units."""
    trace = alike_units()
    trace.describe(WEIGHT, shape=(1, 1024))
    assert told_by("symmetry", trace) == []


def test_gradients_that_are_measured_now_and_then_are_enough() -> None:
    """Rows without one are passed over."""
    trace = alike_units()
    trace.stats[1::2, trace.index(f"gradient:{LAYER}.weight"), :] = np.nan
    (finding,) = told_by("symmetry", trace)
    assert finding.step == 22
