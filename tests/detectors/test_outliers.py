"""Outlier weights: single elements of a matrix outgrow all others."""

from __future__ import annotations

import numpy as np

from tests.detectors.faults import LAYER, WEIGHT, outlier_weight
from tests.detectors.traces import changes_of, names_of, told_by


def test_an_element_that_outgrows_the_others_names_its_weight() -> None:
    """Once the average over 8 rows is there, for three rows."""
    trace = outlier_weight()
    finding = told_by("outliers", trace)[0]
    assert (finding.kind, finding.severity) == ("explosion", "warning")
    assert names_of([finding], trace) == [WEIGHT]
    assert 150 <= finding.onset_step <= finding.step - 2 <= 160


def test_the_sentence_says_what_has_grown() -> None:
    """And by how much."""
    trace = outlier_weight()
    trace.scale(f"update:{LAYER}.weight", 1e3)
    told = [change.sentence for change in changes_of(trace)]
    assert any(
        s.startswith(f"Single weights of {LAYER} outgrow all others since step") for s in told
    )


def test_half_as_much_again_is_quiet() -> None:
    """Learning forms a matrix by as much."""
    assert told_by("outliers", outlier_weight(1.5)) == []


def test_a_young_weight_is_quiet() -> None:
    """It has not been compared with a hundred rows yet."""
    assert told_by("outliers", outlier_weight(first=60)) == []


def test_what_grows_as_the_loss_falls_is_quiet() -> None:
    """It is learned."""
    trace = outlier_weight()
    trace.scalars["loss"][120:] = 2.2 * 0.98 ** np.arange(80)
    assert told_by("outliers", trace) == []
