"""Swells: the gradient norm comes to a level above all that it was."""

from __future__ import annotations

import numpy as np
import pytest

from tests.detectors.faults import GRADIENT, LAYER, risen_norm
from tests.detectors.traces import changes_of, names_of, told_by


def test_a_norm_that_trebles_is_told_once_half_of_eight_rows_stand_there() -> None:
    """By a number that no row of a spike would be told for, and dated to the first of them."""
    finding = told_by("swell", risen_norm())[0]
    assert (finding.kind, finding.severity, finding.series) == ("gradient_spike", "warning", None)
    assert (finding.onset_step, finding.step) == (140, 143)


def test_what_all_gradients_do_nobody_did() -> None:
    """The run is told, and no tensor."""
    assert {finding.series for finding in told_by("swell", risen_norm())} == {None}


def test_a_gradient_that_rises_alone_is_named() -> None:
    """It made the norm rise."""
    trace = risen_norm(40.0, of=GRADIENT)
    assert names_of(told_by("swell", trace)[:2], trace)[-1:] == [GRADIENT]
    assert changes_of(trace)[0].incident.group == LAYER


@pytest.mark.parametrize("factor", [0.3, 1.5])
def test_a_level_that_moves_less_is_quiet(factor: float) -> None:
    """Learning takes norms up and down."""
    assert told_by("swell", risen_norm(factor)) == []


def test_three_large_norms_are_no_level() -> None:
    """They are a spike, or none."""
    trace = risen_norm()
    for name in trace.names("gradient"):
        trace.scale(name, 1 / 3, 143)
    assert told_by("swell", trace) == []


def test_what_grows_as_the_loss_falls_is_quiet() -> None:
    """A network that breaks through has its largest gradients on the way down."""
    trace = risen_norm()
    trace.scalars["loss"][120:] = 2.2 * 0.98 ** np.arange(80)
    assert told_by("swell", trace) == []


def test_rows_that_lie_further_apart_are_quiet() -> None:
    """A thousand steps later the norm may be another."""
    trace = risen_norm()
    trace.steps[140:] += 1000 * np.arange(1, 61)
    assert told_by("swell", trace) == []


def test_layers_that_thaw_make_another_norm() -> None:
    """It is of more tensors than before."""
    trace = risen_norm()
    for name in trace.names("gradient")[2:]:
        trace.stats[:140, trace.index(name)] = np.nan
    assert told_by("swell", trace) == []
    assert told_by("spike", trace) == []
