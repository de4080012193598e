"""Stopped: weights that no longer move, though their gradients do not say so."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pytest
from foreshock.wire import FrameFlag

from tests.detectors.faults import (
    FIRST,
    GRADIENT,
    LAYER,
    UPDATE,
    left_out_weight,
    small_updates,
    stopped_weight,
)
from tests.detectors.traces import Trace, changes_of, names_of, told_by


def _paused(rows: list[range]) -> Trace:
    """The layer does not move on these rows."""
    trace = small_updates(160)
    still = np.isin(np.arange(160), [row for some in rows for row in some])
    trace.scale(UPDATE, np.where(still, 0.0, 1.0))
    return trace


def test_a_weight_that_stops_is_named_on_the_sixth_row() -> None:
    """With the step of its first missing update."""
    trace = stopped_weight()
    (finding,) = told_by("stopped", trace)
    assert (finding.kind, finding.severity) == ("update_too_small", "warning")
    assert names_of([finding], trace) == [UPDATE]
    assert (finding.onset_step, finding.step) == (FIRST, FIRST + 5)


def test_the_sentence_says_that_it_no_longer_moves() -> None:
    """And not that the learning rate is too small."""
    (opened, *_) = changes_of(stopped_weight())
    assert f"{LAYER} no longer moves since step {FIRST}" in opened.sentence


def _without_steps(rows: Iterable[int]) -> Trace:
    """Nothing moves on these rows."""
    trace = small_updates(120)
    for name in trace.names("update"):
        trace.scale(name, np.where(np.isin(np.arange(120), list(rows)), 0.0, 1.0))
    return trace


def test_a_run_in_which_nothing_moves_is_told_and_names_nobody() -> None:
    """From the first row on: an optimizer that is never stepped."""
    (finding,) = told_by("stopped", _without_steps(range(120)))
    assert (finding.series, finding.onset_step, finding.step) == (None, 0, 23)
    (opened, *_) = changes_of(_without_steps(range(120)))
    assert "No weight moves since step 0" in opened.sentence


def test_a_few_rows_without_a_step_are_quiet() -> None:
    """A rate that begins at nought, a validation that is logged."""
    assert told_by("stopped", _without_steps(range(20))) == []


def test_a_run_that_rests_once_it_has_moved_is_told_on_the_tenth_row() -> None:
    """With the step of the first update that was missing."""
    (finding,) = told_by("stopped", _without_steps(range(FIRST, 120)))
    assert (finding.series, finding.onset_step, finding.step) == (None, FIRST, FIRST + 9)
    assert told_by("stopped", _without_steps(range(FIRST, FIRST + 9))) == []


@pytest.mark.parametrize("every", [2, 8, 12, 16, 24])
def test_rows_between_the_steps_are_quiet(every: int) -> None:
    """Gradients of many batches, and one step of them all."""
    assert told_by("stopped", _accumulating(every)) == []


def test_a_rest_of_three_times_the_habit_is_told() -> None:
    """A step every eighth row makes rests of seven; the next is told on its twenty-first row."""
    trace = _accumulating(8)
    for name in trace.names("update"):
        trace.scale(name, 0.0, 64)
    (finding,) = told_by("stopped", trace)
    assert (finding.onset_step, finding.step) == (64, 84)


def _accumulating(every: int) -> Trace:
    """Each so many rows make one step."""
    return _without_steps(np.flatnonzero(np.arange(120) % every != every - 1))


def test_rows_on_which_no_update_was_measured_say_nothing() -> None:
    """A client short of time measures few of them; one still matrix does not make them rest."""
    trace = small_updates(400)
    every = np.isin(np.arange(400), range(0, 400, 32)) | (np.arange(400) < 200)
    for name in trace.names("update"):
        trace.stats[~every, trace.index(name), :] = np.nan
    trace.put(UPDATE, "std", 0.0, slice(224, 225))
    assert told_by("stopped", trace) == []


def test_nothing_moves_on_the_rows_that_were_measured() -> None:
    """Those in between neither count nor begin anew."""
    trace = _without_steps(range(120))
    for name in trace.names("update"):
        trace.stats[1::2, trace.index(name), :] = np.nan
    (finding,) = told_by("stopped", trace)
    assert (finding.onset_step, finding.step) == (0, 46)


def test_a_bias_that_moves_is_a_step() -> None:
    """Training may be about nothing else."""
    trace = small_updates(120)
    for name in trace.names("update")[:-1]:
        trace.scale(name, 0.0)
    for kind in ("update", "weight", "gradient"):
        trace.describe(f"{kind}:head.weight", name="head.bias", shape=(1024,))
    assert told_by("stopped", trace) == []


def test_gradients_that_are_measured_now_and_then_are_enough() -> None:
    """A row without one, or with one that is zero, is no end of a pause."""
    trace = stopped_weight()
    trace.stats[1::2, trace.index(GRADIENT), :] = np.nan
    trace.scale(GRADIENT, np.where(np.arange(120) % 6 == 0, 0.0, 1.0))
    (finding,) = told_by("stopped", trace)
    assert finding.onset_step == FIRST + 2


def test_steps_that_loss_scaling_skipped_are_quiet() -> None:
    """They are told as what they are."""
    trace = _without_steps(range(40, 80))
    trace.flags[40:80] |= int(FrameFlag.SKIPPED)
    assert told_by("stopped", trace) == []


def test_a_weight_without_a_gradient_is_quiet() -> None:
    """It is frozen, and meant to be."""
    trace = stopped_weight()
    trace.scale(GRADIENT, 0.0, FIRST)
    assert told_by("stopped", trace) == []


def test_a_weight_that_never_moved_is_quiet() -> None:
    """What was never trained has not stopped."""
    trace = small_updates(120)
    trace.scale(UPDATE, 0.0)
    assert told_by("stopped", trace) == []


def test_pauses_that_are_a_habit_are_quiet() -> None:
    """Two players that take turns of five steps, and once of eight."""
    assert told_by("stopped", _paused([range(40, 45), range(60, 65), range(80, 88)])) == []


def test_a_pause_beyond_the_habit_is_told() -> None:
    """On the fifteenth row, where five were usual."""
    (finding,) = told_by("stopped", _paused([range(40, 45), range(80, 160)]))
    assert finding.step == 94


def test_a_weight_that_no_optimizer_holds_is_named_on_the_eighth_row() -> None:
    """By its gradient, which is all that is seen of it."""
    trace = left_out_weight()
    (finding,) = told_by("stopped", trace)
    assert (finding.kind, finding.severity) == ("update_too_small", "warning")
    assert names_of([finding], trace) == [GRADIENT]
    assert (finding.onset_step, finding.step) == (0, 7)
    assert finding.evidence["cause"] == "left out"


def test_the_sentence_says_that_no_optimizer_holds_it() -> None:
    """None that is watched: another may."""
    (opened, *_) = changes_of(left_out_weight())
    assert opened.sentence.startswith(
        f"{LAYER} has gradients since step 0, and no optimizer that is watched holds it"
    )


def test_a_vector_that_no_optimizer_holds_is_quiet() -> None:
    """Biases are left out for many reasons."""
    trace = left_out_weight()
    trace.describe(GRADIENT, name=f"{LAYER}.bias", shape=(1024,))
    assert told_by("stopped", trace) == []


def test_a_run_whose_updates_nobody_watches_is_quiet() -> None:
    """The client was told to leave them out."""
    trace = left_out_weight()
    for name in trace.names("update"):
        trace.drop(name)
    assert told_by("stopped", trace) == []


@pytest.mark.parametrize(("rate", "step"), [(1e-3, 69), (0.0, 83)])
def test_a_schedule_that_ends_at_nought_is_given_time(rate: float, step: int) -> None:
    """Ten rows without a step tell at any other rate, twenty-four at that."""
    trace = _without_steps(range(60, 120))
    trace.scalars["lr"] = np.where(np.arange(120) < 60, 1e-3, rate)
    assert told_by("stopped", trace)[0].step == step
