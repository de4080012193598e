"""Shifts: all updates move to another level."""

from __future__ import annotations

import numpy as np
from foreshock_service.domain.facts import RunFacts

from tests.detectors.faults import shifted_updates, small_updates
from tests.detectors.traces import Trace, opened, told_by


def test_a_level_that_quadruples_is_told() -> None:
    """Within six rows, dated to the first of them, and nobody is named for it."""
    (finding,) = told_by("shift", shifted_updates())
    assert (finding.kind, finding.severity, finding.series) == ("update_too_large", "warning", None)
    assert finding.onset_step == 100
    assert 102 <= finding.step <= 105
    (incident,) = opened(shifted_updates())
    assert (incident.kind, incident.group) == ("update_too_large", None)


def test_a_rate_that_rises_is_not_in_it() -> None:
    """A warm restart multiplies updates and rate alike; a rate that is wrong is for `updates`."""
    trace = shifted_updates()
    trace.scalars["lr"] = np.where(np.arange(200) < 100, 1e-3, 4e-3)
    assert told_by("shift", trace) == []


def test_a_level_that_the_run_has_had_is_quiet() -> None:
    """Without a logged rate it may be a restart of the schedule."""
    trace = shifted_updates()
    for name in trace.names("update"):
        trace.scale(name, np.where(np.arange(200) < 30, 8.0, 1.0))
    assert told_by("shift", trace) == []


def test_noise_of_single_rows_is_quiet() -> None:
    """However wide it is, a median of six rows stays where it was."""
    trace = small_updates()
    noise = np.exp2(np.random.default_rng(4).normal(0, 1.5, 200))
    for name in trace.names("update"):
        trace.scale(name, noise)
    assert told_by("shift", trace) == []


def test_rows_without_a_rate_are_passed_over_in_a_run_that_logs_one() -> None:
    """By the rate and not by it are two scales, which the same window must not hold."""
    trace = small_updates()
    trace.scalars["lr"] = np.full(200, 1e-3)
    trace.missing = {("lr", row) for row in range(200) if row not in range(60, 120)}
    assert told_by("shift", trace) == []
    trace = shifted_updates()
    trace.scalars["lr"] = np.full(200, 1e-3)
    trace.missing = {("lr", row) for row in range(0, 200, 2)}
    assert [f.kind for f in told_by("shift", trace)] == ["update_too_large"]


def test_a_rate_that_runs_to_zero_is_quiet() -> None:
    """Momentum and decay go on moving weights when the rate is all but gone."""
    trace = small_updates()
    trace.scalars["lr"] = 1e-3 * np.clip(1 - (np.arange(200) - 150) / 45, 1e-4, 1.0)
    assert told_by("shift", trace) == []


def test_a_new_cycle_may_reach_what_the_run_has_had() -> None:
    """A warm restart brings back steps that were as large by the rate at the start."""
    trace = shifted_updates()
    rate = np.where(np.arange(200) < 100, 1e-3, 4e-3)
    trace.scalars["lr"] = rate
    for name in trace.names("update"):
        trace.scale(name, np.where(np.arange(200) < 30, 8.0, rate / 1e-3))
    assert told_by("shift", trace) == []
    for name in trace.names("update"):
        trace.scale(name, np.where(np.arange(200) < 30, 1 / 8.0, 1.0))
    assert told_by("shift", trace) != []


def test_growth_over_a_hundred_rows_is_told_where_the_rate_is_logged() -> None:
    """Twice as large every sixteen rows: no six rows stand above the forty before them."""
    trace = _growing("AdamW")
    found = told_by("shift", trace)
    assert {f.kind for f in found} == {"update_too_large"}
    assert 180 < found[0].step < 240
    assert 160 < found[0].onset_step < found[0].step
    del trace.scalars["lr"]
    assert told_by("shift", trace) == []


def test_updates_that_grow_with_the_gradient_are_quiet_while_something_is_learned() -> None:
    """SGD leaves a saddle so; without progress it is told of it too."""
    trace = _growing("SGD")
    assert told_by("shift", trace) != []
    trace.scalars["loss"] *= np.linspace(1.0, 0.5, 300)
    assert told_by("shift", trace) == []


def _growing(optimizer: str) -> Trace:
    """All updates double every sixteen rows from row 160 on, at one rate."""
    trace = small_updates(300)
    trace.facts = RunFacts(optimizer=optimizer)
    trace.scalars["lr"] = np.full(300, 1e-3)
    for name in trace.names("update"):
        trace.scale(name, np.exp2(np.maximum(np.arange(300) - 160, 0) / 16))
    return trace


def test_updates_that_follow_their_gradients_are_quiet() -> None:
    """Near the end of learning a hard batch lifts both, and an average carries it on."""
    trace = shifted_updates()
    assert told_by("shift", trace) != []
    for name in trace.names("gradient"):
        trace.scale(name, 4.0, 100)
    assert told_by("shift", trace) == []
