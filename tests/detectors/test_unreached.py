"""Unreached: weights to which no gradient comes any more."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from foreshock.wire import FrameFlag

from tests.detectors.faults import (
    FIRST,
    GRADIENT,
    LAYER,
    idle,
    unreached_weights,
    zero_gradients,
)
from tests.detectors.traces import Trace, changes_of, healthy, names_of, told_by


def _paused(*rows: range) -> Trace:
    """The layer has no gradient on these rows."""
    trace = healthy(140)
    for some in rows:
        idle(trace, GRADIENT, slice(some.start, some.stop))
    return trace


def test_a_weight_that_loses_its_gradient_is_named_on_the_sixth_row() -> None:
    """With the step of the first gradient that was not there."""
    trace = unreached_weights()
    (finding,) = told_by("unreached", trace)
    assert (finding.kind, finding.severity) == ("update_too_small", "warning")
    assert names_of([finding], trace) == [GRADIENT] == trace.names("gradient")[6:7]
    assert (finding.onset_step, finding.step) == (FIRST, FIRST + 5)


def test_the_sentence_says_that_it_still_takes_part() -> None:
    """And nothing of a learning rate."""
    (opened, *_) = changes_of(unreached_weights())
    assert opened.sentence.startswith(
        f"{LAYER} has no gradient any more since step {FIRST}, though it still takes part"
    )


def test_a_weight_that_never_had_a_gradient_is_quiet() -> None:
    """It is frozen, and meant to be."""
    assert told_by("unreached", _paused(range(140))) == []


def test_a_weight_whose_module_does_not_run_is_quiet() -> None:
    """It needs no gradient: the head of another task."""
    trace = unreached_weights()
    idle(trace, f"activation:{LAYER}", slice(FIRST, None))
    assert told_by("unreached", trace) == []


def test_rows_without_any_gradient_say_nothing() -> None:
    """They were not due, or no step was made."""
    assert told_by("unreached", unreached_weights(0, 13)) == []


def test_pauses_that_are_a_habit_are_quiet() -> None:
    """Five rows twice, and once nine."""
    assert told_by("unreached", _paused(range(40, 45), range(60, 65), range(80, 89))) == []


def test_a_pause_of_three_times_the_habit_is_told() -> None:
    """On the fifteenth row, where five were usual."""
    (finding,) = told_by("unreached", _paused(range(40, 45), range(80, 140)))
    assert (finding.onset_step, finding.step) == (80, 94)


def test_of_a_path_that_is_cut_the_end_nearest_to_the_loss_is_named() -> None:
    """No gradient comes to anything before it."""
    trace = unreached_weights(0, 4)
    found = told_by("unreached", trace)
    assert {(f.kind, str(f.severity)) for f in found} == {("vanishing_gradient", "warning")}
    assert names_of(found, trace) == trace.names("gradient")[3::-1]


def test_the_sentence_says_where_a_path_is_cut() -> None:
    """By the module behind which nothing goes on."""
    (opened, *_) = changes_of(unreached_weights(0, 4))
    assert opened.sentence.startswith(
        f"No gradient comes to blocks.0.mlp.down any more since step {FIRST}"
    )


@pytest.mark.parametrize(("first", "last"), [(0, 1), (4, 6)])
def test_what_is_no_path_from_the_input_lost_its_gradients_by_itself(first: int, last: int) -> None:
    """One matrix, or some behind others that go on."""
    found = told_by("unreached", unreached_weights(first, last))
    assert {f.kind for f in found} == {"update_too_small"}


def test_gradients_that_are_all_zero_are_critical_and_name_nobody() -> None:
    """On the sixth row: nothing is learned from there on."""
    (finding,) = told_by("unreached", zero_gradients())
    assert (finding.kind, finding.severity) == ("vanishing_gradient", "critical")
    assert (finding.series, finding.onset_step, finding.step) == (None, FIRST, FIRST + 5)


def test_the_sentence_says_that_the_loss_is_not_zero() -> None:
    """Else nothing would be wrong with it."""
    (opened, *_) = changes_of(zero_gradients())
    assert opened.sentence.startswith(
        f"All gradients are exactly zero since step {FIRST}, the loss is not"
    )


def test_gradients_that_were_never_other_than_zero_take_longer() -> None:
    """The path from the loss is cut before the last layer: told on row 24, since the first."""
    trace = zero_gradients(0)
    (finding, *_) = told_by("unreached", trace)
    assert (finding.kind, finding.onset_step, finding.step) == ("vanishing_gradient", 0, 23)


def test_five_rows_of_zero_gradients_are_quiet() -> None:
    """Batches that have nothing to teach."""
    trace = healthy(120)
    for name in trace.names("gradient"):
        trace.scale(name, np.where(np.isin(np.arange(120), range(FIRST, FIRST + 5)), 0.0, 1.0))
    assert told_by("unreached", trace) == []


def test_zero_gradients_of_a_loss_that_is_zero_are_quiet() -> None:
    """As that of a hinge of which all samples are on the right side."""
    trace = zero_gradients()
    trace.scalars["loss"][FIRST:] = 0.0
    assert told_by("unreached", trace) == []


@pytest.mark.parametrize("fault", [unreached_weights, zero_gradients])
def test_steps_that_loss_scaling_skipped_are_quiet(fault: Callable[[], Trace]) -> None:
    """Their gradients were thrown away."""
    trace = fault()
    trace.flags[FIRST:] |= int(FrameFlag.SKIPPED)
    assert told_by("unreached", trace) == []
