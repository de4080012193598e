"""The demo judges itself without asking the service whether the loss moved."""

from __future__ import annotations

import math

import pytest
from foreshock.demo.incidents import SeenIncident
from foreshock.demo.verdict import judge, loss_moved_step


def incident(opened_step: int) -> SeenIncident:
    return SeenIncident(
        number=1,
        kind="explosion",
        opened_step=opened_step,
        onset_step=opened_step - 5,
        loss_step=None,
        sentence="attn.qkv left first",
    )


def test_a_lasting_difference_moves_the_loss_where_it_begins() -> None:
    """A quarter of a nat more from step 50 on is found at step 50."""
    twin = [2.0] * 100
    losses = [2.0] * 50 + [2.25] * 50
    assert loss_moved_step(losses, twin) == 50


def test_one_bad_batch_does_not_move_the_loss() -> None:
    """A single step half a nat above its twin is averaged away."""
    twin = [2.0] * 100
    losses = [*twin[:50], 2.5, *twin[51:]]
    assert loss_moved_step(losses, twin) is None


def test_a_loss_that_is_not_a_number_has_moved() -> None:
    """NaN compares false with everything and counts as moved all the same."""
    assert loss_moved_step([2.0] * 20 + [math.nan] * 20, [2.0] * 40) == 20


@pytest.mark.parametrize("num_steps", [0, 9])
def test_too_few_steps_decide_nothing(num_steps: int) -> None:
    """A run shorter than the window has not moved."""
    assert loss_moved_step([9.0] * num_steps, [2.0] * num_steps) is None


def test_an_incident_before_the_loss_keeps_the_promise() -> None:
    """Opened at 90, moved at 190, nothing in the healthy run: no failure."""
    assert judge(healthy=[], sick=[incident(90)], loss_step=190).failures == ()


def test_an_incident_at_the_step_of_the_loss_is_too_late() -> None:
    """An alarm at the very step at which the loss moves warns nobody."""
    failures = judge(healthy=[], sick=[incident(190)], loss_step=190).failures
    assert failures == (
        "the first incident opened at step 190, not before the loss moved at step 190",
    )


def test_a_silent_service_fails() -> None:
    """A moved loss without any incident breaks the promise."""
    failures = judge(healthy=[], sick=[], loss_step=190).failures
    assert failures == ("the loss moved at step 190 and no incident was raised",)


def test_a_false_alarm_fails_even_when_the_sick_run_was_caught() -> None:
    """An incident in the healthy run breaks the promise, and its sentence is quoted."""
    failures = judge(healthy=[incident(30)], sick=[incident(90)], loss_step=190).failures
    assert failures == ("false alarm in the healthy run at step 30: attn.qkv left first",)


def test_the_earliest_incident_counts() -> None:
    """Two incidents: the promise is judged by the one that opened first."""
    assert judge(healthy=[], sick=[incident(200), incident(90)], loss_step=190).failures == ()
