"""Windfalls: a loss that improves too suddenly."""

from __future__ import annotations

import numpy as np
import pytest

from tests.detectors.faults import easy_loss, too_easy_data
from tests.detectors.traces import changes_of, names_of, told_by


def test_a_loss_that_falls_with_its_gradients_is_told() -> None:
    """A warning about the data, dated to the first loss that was below a quarter."""
    trace = too_easy_data()
    (finding,) = told_by("windfall", trace)
    assert (finding.kind, finding.severity, finding.series) == ("bad_batch", "warning", None)
    assert finding.step <= 140
    loss = trace.scalars["loss"]
    assert finding.onset_step == np.flatnonzero(4 * loss < loss[:100].min())[0] < finding.step


def test_the_sentence_says_what_fell() -> None:
    """Every number in it is in the evidence."""
    changes = [c for c in changes_of(too_easy_data()) if c.incident.kind == "bad_batch"]
    change = changes[0]
    assert "too easy" in change.sentence
    assert change.incident.group is None


def test_learning_that_breaks_through_is_quiet() -> None:
    """Its gradients grow while the loss falls."""
    trace = too_easy_data()
    trace.scalars["grad_norm"] = 1 / np.sqrt(trace.scalars["grad_norm"])
    assert told_by("windfall", trace) == []


def test_a_steady_fall_is_quiet() -> None:
    """An exponential decay of a tenth a row is how easy problems are learned."""
    trace = too_easy_data()
    trace.scalars["loss"] = 2 * np.power(0.93, np.arange(200), dtype=np.float64)
    trace.scalars["grad_norm"] = np.power(0.93, np.arange(200), dtype=np.float64)
    assert told_by("windfall", trace) == []


def test_losses_below_zero_are_left_alone() -> None:
    """They have no ratio."""
    trace = too_easy_data()
    trace.scalars["loss"] = trace.scalars["loss"] - 3
    assert told_by("windfall", trace) == []


def test_with_the_same_input_it_is_the_loss_that_asks_for_less() -> None:
    """A term of it is gone: the output is named, and the data are not blamed."""
    trace = easy_loss()
    told, output = told_by("windfall", trace)[:2]
    assert (told.kind, told.severity, told.series) == ("representation_collapse", "warning", None)
    assert names_of([output], trace) == ["activation:head"]
    change = next(c for c in changes_of(trace) if c.incident.kind == told.kind)
    assert "though the input is as before: the loss asks for less" in change.sentence


@pytest.mark.parametrize(("spread", "noise"), [(0.3, 0.02), (0.5, 0.0)])
def test_with_another_input_it_is_the_data(spread: float, noise: float) -> None:
    """Samples that are more alike, and one batch that comes again and again; on each row."""
    found = told_by("windfall", easy_loss(spread=spread, noise=noise))
    assert {f.kind for f in found} == {"bad_batch"}
