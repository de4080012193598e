"""Climbs: a loss that rises from the first rows on."""

from __future__ import annotations

import numpy as np
import pytest

from tests.detectors.faults import climbing_loss
from tests.detectors.traces import changes_of, told_by


def test_a_loss_that_rises_from_the_start_is_critical() -> None:
    """At three times its first level, dated to the first row."""
    (finding,) = told_by("climb", climbing_loss())
    assert (finding.kind, finding.severity, finding.series) == ("divergence", "critical", None)
    assert finding.onset_step == 0
    assert finding.step == 49


def test_the_sentence_says_that_nothing_was_learned() -> None:
    """From which level to which."""
    told = [c.sentence for c in changes_of(climbing_loss()) if c.transition == "opened"]
    assert told[0].startswith("The loss has risen since step 0 (from ")
    assert "nothing has been learned" in told[0]


def test_without_a_gradient_norm_it_is_told_as_well() -> None:
    """Of such a log only the loss is known."""
    trace = climbing_loss()
    del trace.scalars["grad_norm"]
    assert [f.step for f in told_by("climb", trace)] == [49]


def test_gradients_that_stay_are_no_climb() -> None:
    """As of a task that becomes harder."""
    trace = climbing_loss()
    trace.scalars["grad_norm"][:] = 1.0
    assert told_by("climb", trace) == []


def test_a_loss_that_does_not_rise_at_first_is_left_to_others() -> None:
    """Who has learned has something to lose, which is measured otherwise."""
    trace = climbing_loss()
    trace.scalars["loss"][:20] = 5.0
    assert told_by("climb", trace) == []


@pytest.mark.parametrize("name", ["episode_return", "loss_g"])
def test_a_game_is_quiet(name: str) -> None:
    """Values that are learned from themselves make a loss that grows."""
    trace = climbing_loss()
    trace.scalars[name] = np.ones(120)
    assert told_by("climb", trace) == []


def test_a_run_that_was_joined_is_quiet() -> None:
    """What it has learned before nobody knows."""
    trace = climbing_loss()
    trace.steps = trace.steps + 1000
    assert told_by("climb", trace) == []


def test_a_loss_below_nought_is_quiet() -> None:
    """It has no factors."""
    trace = climbing_loss()
    trace.scalars["loss"] -= 20.0
    assert told_by("climb", trace) == []


def test_an_early_bump_is_quiet() -> None:
    """First steps at the full rate overshoot, and come back."""
    trace, rows = climbing_loss(), np.arange(120)
    trace.scalars["loss"] = 5.0 * (1 + 4 * np.exp(-((rows - 15) ** 2) / 60))
    assert told_by("climb", trace) == []
