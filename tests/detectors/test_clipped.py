"""Updates of SGD that no longer follow their gradients."""

from __future__ import annotations

import numpy as np
import pytest

from tests.detectors.faults import clipped_updates
from tests.detectors.traces import changes_of, told_by


def test_updates_that_fall_while_gradients_do_not_are_told() -> None:
    """Of the run: what clips a norm clips all of them."""
    finding = told_by("clipped", clipped_updates())[0]
    assert (finding.kind, finding.severity, finding.series) == ("update_too_small", "warning", None)
    assert (finding.onset_step, finding.step) == (140, 143)


def test_the_sentence_says_that_they_no_longer_follow() -> None:
    """And what may be the cause."""
    (opened, *_) = changes_of(clipped_updates())
    assert opened.sentence.startswith("Updates no longer follow their gradients since step 140")


def test_updates_that_fall_with_their_gradients_are_quiet() -> None:
    """So does a run that converges."""
    trace = clipped_updates()
    for name in trace.names("gradient"):
        trace.scale(name, 1 / 3, 140)
    assert told_by("clipped", trace) == []


def test_a_rate_that_comes_down_is_quiet() -> None:
    """It is divided out."""
    trace = clipped_updates()
    trace.scalars["lr"][140:] /= 3
    assert told_by("clipped", trace) == []


@pytest.mark.parametrize("optimizer", ["AdamW", "signSGD", "SGD and Adam", ""])
def test_other_optimizers_are_left_alone(optimizer: str) -> None:
    """They divide by the gradient, and of two nobody knows whose a matrix is."""
    assert told_by("clipped", clipped_updates(optimizer)) == []


def test_layers_that_thaw_have_ratios_of_their_own() -> None:
    """The median is one of others."""
    trace = clipped_updates()
    for name in trace.names("update")[2:]:
        trace.stats[:140, trace.index(name)] = np.nan
    assert told_by("clipped", trace) == []
