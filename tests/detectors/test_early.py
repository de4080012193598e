"""The first rows: only what no sound run does, since there is no normal yet."""

from __future__ import annotations

import numpy as np
import pytest

from tests.detectors.traces import Trace, healthy, told_by


def _run(
    norms: np.ndarray | None = None, losses: np.ndarray | None = None, first: int = 0
) -> Trace:
    trace = healthy(60)
    trace.steps = trace.steps + first
    if norms is not None:
        trace.scalars["grad_norm"] = norms
    if losses is not None:
        trace.scalars["loss"] = losses
    return trace


def _jump(row: int, factor: float, rows: int = 1) -> np.ndarray:
    values = np.ones(60)
    values[row : row + rows] = factor
    return values


def test_a_gradient_norm_far_above_all_before_is_a_spike() -> None:
    """A warning about the run, on the row itself, with the median as its baseline."""
    (finding,) = told_by("early", _run(_jump(20, 200.0)))
    assert (finding.kind, finding.severity, finding.series) == ("gradient_spike", "warning", None)
    assert (finding.step, finding.value, finding.baseline) == (20, 200.0, 1.0)


def test_the_norms_of_initialisation_are_left_alone() -> None:
    """Warm-up moves the norm freely in the first rows of a run that is seen from its start."""
    assert told_by("early", _run(_jump(3, 500.0))) == []


@pytest.mark.parametrize("factor", [3.0, 12.0])
def test_the_norms_of_young_runs_vary(factor: float) -> None:
    """Ten times the usual norm is what sound runs show in their first rows."""
    assert told_by("early", _run(_jump(20, factor))) == []


def test_a_norm_that_had_been_as_large_is_no_news() -> None:
    """The second of two leaps is measured against the first."""
    norms = _jump(4, 500.0) + _jump(20, 500.0)
    assert told_by("early", _run(norms)) == []


def test_a_run_that_is_joined_at_the_fault_needs_one_row_before_it() -> None:
    """Seen from its middle on, a run has no initialisation to excuse its second norm."""
    (finding,) = told_by("early", _run(_jump(1, 100.0), first=5000))
    assert finding.step == 5001


def test_two_losses_far_above_all_before_are_a_spike() -> None:
    """Told on the second and dated to the first."""
    (finding,) = told_by("early", _run(losses=_jump(12, 50.0, rows=4)))
    assert (finding.kind, finding.severity, finding.series) == ("loss_spike", "warning", None)
    assert (finding.onset_step, finding.step) == (12, 13)


def test_one_loss_far_above_all_before_is_quiet() -> None:
    """A single batch may be like no other."""
    assert told_by("early", _run(losses=_jump(12, 50.0))) == []


def test_losses_that_vary_from_the_start_are_quiet() -> None:
    """Twice the largest is little where the losses before it differed by as much."""
    losses = np.where(np.arange(60) % 2, 1.0, 3.0)
    losses[12:16] = 8.0
    assert told_by("early", _run(losses=losses)) == []


def test_later_rows_are_left_to_the_rules_that_know_the_run() -> None:
    """After the first rows nothing is said here."""
    assert told_by("early", _run(_jump(45, 500.0), _jump(45, 50.0, rows=4))) == []


def test_the_losses_of_players_are_left_alone() -> None:
    """That of a policy begins at nought."""
    trace = _run(losses=_jump(12, 50.0, rows=4))
    trace.scalars["episode_return"] = np.ones(60)
    assert told_by("early", trace) == []
