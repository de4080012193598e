"""Cliffs: a loss that falls at once."""

from __future__ import annotations

import numpy as np
import pytest

from tests.detectors.faults import FIRST_LAYER, fallen_loss
from tests.detectors.traces import Trace, changes_of, names_of, told_by

ROW = 120


def test_a_loss_that_falls_at_once_is_told_on_the_fourth_row() -> None:
    """A warning about the data, dated to the first of them."""
    (finding,) = told_by("cliff", fallen_loss())
    assert (finding.kind, finding.severity, finding.series) == ("bad_batch", "warning", None)
    assert (finding.onset_step, finding.step) == (ROW, ROW + 3)


def test_the_sentence_says_from_what_to_what() -> None:
    """And since when."""
    changes = changes_of(fallen_loss())
    (sentence,) = [c.sentence for c in changes if c.transition == "opened"]
    assert sentence.startswith("The loss fell from 2 to 1.0")
    assert f"at once at step {ROW}: " in sentence
    assert "the data have become too easy" in sentence


def test_nobody_says_that_a_loss_that_stays_there_has_recovered() -> None:
    """The sign is over, what it is a sign of need not be."""
    last = changes_of(fallen_loss())[-1]
    assert last.transition == "recovered"
    since = last.incident.recovered_step
    assert last.sentence.startswith(f"No new sign since step {since}; the loss fell from 2 to 1.0")


def test_with_the_same_input_the_loss_asks_for_less() -> None:
    """A contrastive loss without its negatives: the output is named."""
    trace = _seen(fallen_loss())
    told, output = told_by("cliff", trace)[:2]
    assert (told.kind, told.series) == ("representation_collapse", None)
    assert names_of([output], trace) == ["activation:head"]


def _seen(trace: Trace) -> Trace:
    """The same, with a first layer that tells samples apart."""
    share = 0.5 + 0.02 * np.random.default_rng(6).normal(size=200)
    size = np.hypot(*(trace.stats[:, trace.index(FIRST_LAYER), i] for i in (1, 2)))
    trace.put(FIRST_LAYER, "batch_std", share * size, slice(None))
    return trace


@pytest.mark.parametrize("size", [0.1, 0.4])
def test_a_small_step_down_is_quiet(size: float) -> None:
    """Within the noise, and of less than a quarter of the level."""
    assert told_by("cliff", fallen_loss(size=size)) == []


def test_a_fall_over_some_rows_is_quiet() -> None:
    """A breakthrough takes more than one."""
    trace = fallen_loss(size=0.0)
    trace.scalars["loss"] -= np.clip((np.arange(200) - ROW) / 10, 0, 1)
    assert told_by("cliff", trace) == []


def test_a_rate_that_falls_explains_it() -> None:
    """And so do three rows alone nothing."""
    trace = fallen_loss()
    trace.scalars["lr"] = np.where(np.arange(200) < ROW, 0.1, 0.01)
    assert told_by("cliff", trace) == []
    short = fallen_loss()
    short.scalars["loss"][ROW + 3 :] += 1.0
    assert told_by("cliff", short) == []


def test_a_run_that_is_taken_back_before_its_damage_is_quiet() -> None:
    """It comes back to what it had learned."""
    trace = fallen_loss(size=0.0)
    trace.scalars["loss"][40:ROW] += 3.0
    assert told_by("cliff", trace) == []


def test_players_and_rewards_have_no_level() -> None:
    """Whoever logs them is left alone."""
    trace = fallen_loss()
    trace.scalars["reward"] = np.ones(200)
    assert told_by("cliff", trace) == []
