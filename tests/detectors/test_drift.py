"""Output logit drift: a common level of the logits that moves although nothing is gained."""

from __future__ import annotations

import numpy as np

from tests.detectors.faults import SUNK, drifting_logits, sunk_logits
from tests.detectors.traces import Trace, healthy, names_of, told_by

ROWS = np.arange(400)


def _with_log_z(log_z: np.ndarray) -> Trace:
    trace = healthy(len(log_z))
    trace.scalars["log_z"] = log_z
    return trace


def test_a_loss_without_a_bound_is_no_use() -> None:
    """A z-loss of the wrong sign: it falls as fast as log Z grows."""
    trace = drifting_logits()
    trace.scalars["loss"] = np.linspace(2.0, -9.0, len(trace.steps))
    assert [f.kind for f in told_by("drift", trace)][:1] == ["output_logit_drift"]
    trace.scalars["loss"] = np.linspace(9.0, 2.0, len(trace.steps))
    assert told_by("drift", trace) == []


def test_a_level_that_keeps_moving_is_told() -> None:
    """A warning about the run, with the deepest output as the one to look at."""
    trace = drifting_logits()
    found = told_by("drift", trace)
    assert {(f.kind, str(f.severity)) for f in found} == {("output_logit_drift", "warning")}
    assert [f.series is None for f in found] == [True, False]
    assert names_of(found, trace) == ["activation:head"]
    assert 220 < found[0].step < 320


def test_a_level_that_sinks_is_told_as_well() -> None:
    """A softmax feels neither direction."""
    assert told_by("drift", _with_log_z(10.0 - 0.08 * np.maximum(ROWS - 200, 0))) != []


def test_a_level_below_nought_is_told_though_the_loss_falls() -> None:
    """Margins that grow make it larger: the eighth row beyond two below nought tells."""
    trace = sunk_logits()
    found = told_by("drift", trace)
    assert [f.series is None for f in found[:2]] == [True, False]
    assert (found[0].onset_step, found[0].step) == (SUNK, SUNK + 7)


def test_a_level_that_a_penalty_takes_to_nought_is_quiet() -> None:
    """A z-loss holds it there."""
    trace = sunk_logits(least=0.0)
    assert told_by("drift", trace) == []


def test_a_level_that_moves_while_the_loss_falls_is_quiet() -> None:
    """A classifier that becomes sure of its answers has a use for large logits."""
    trace = drifting_logits()
    trace.scalars["loss"] = np.linspace(8.0, 2.0, 400)
    assert told_by("drift", trace) == []


def test_a_level_whose_growth_slows_down_is_quiet() -> None:
    """What grows like the logarithm of time comes to rest by itself."""
    trace = _with_log_z(10.0 + 4.0 * np.log1p(ROWS / 10))
    trace.scalars["loss"] = 2.0 + 3.0 * np.exp(-ROWS / 4)
    assert told_by("drift", trace) == []


def test_a_level_that_wanders_is_quiet() -> None:
    """Some noise around one level."""
    noise = np.random.default_rng(5).normal(0, 0.5, 400)
    assert told_by("drift", _with_log_z(10.0 + noise)) == []


def test_margins_of_a_finished_task_are_quiet() -> None:
    """Below a tenth of its start the loss has nothing left to gain, and margins grow."""
    trace = drifting_logits()
    trace.scalars["loss"] = 0.02 + 5.0 * np.exp(-ROWS / 15)
    assert told_by("drift", trace) == []


def test_a_run_without_log_z_is_quiet() -> None:
    """What is not logged does not drift."""
    assert told_by("drift", healthy(400)) == []


def test_margins_that_gather_pace_are_told() -> None:
    """A classifier that is sure of itself grows them ever more slowly."""
    trace = _with_log_z(2.0 + 0.5 * np.exp(ROWS / 60))
    trace.scalars["loss"] = 0.02 + 5.0 * np.exp(-ROWS / 15)
    found = told_by("drift", trace)
    assert [f.kind for f in found[:1]] == ["output_logit_drift"]
