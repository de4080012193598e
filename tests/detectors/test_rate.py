"""The learning rate: below zero every step climbs the loss."""

from __future__ import annotations

import numpy as np
import pytest
from foreshock_service.detectors.engine import Engine
from foreshock_service.pipeline.session import DetectionSession

from tests.detectors.faults import (
    FIRST,
    climbing_rate,
    decayed_below_zero,
    gone_rate,
    worn_rate,
)
from tests.detectors.traces import Trace, changes_of, healthy, only, opened, told_by


def _with_rate(rate: np.ndarray) -> Trace:
    trace = healthy(len(rate))
    trace.scalars["lr"] = rate
    return trace


def test_a_negative_rate_is_critical_at_once() -> None:
    """On the first row below zero, with nobody named."""
    (finding,) = told_by("rate", decayed_below_zero())
    assert (finding.kind, finding.severity, finding.series) == ("divergence", "critical", None)
    assert finding.step == finding.onset_step == FIRST + 1


def test_the_sentence_says_what_is_wrong() -> None:
    """A divergence without a loss to show for it is told by its cause."""
    (incident,) = opened(decayed_below_zero())
    assert incident.evidence["statistic"] == "lr"


def test_a_rate_of_zero_is_quiet() -> None:
    """Warm-up begins at zero and a decay ends there, though a few rows may follow."""
    rate = np.maximum(1e-3 * (1 - np.arange(100) / 70), 0.0)
    assert told_by("rate", _with_rate(rate)) == []


def test_a_run_that_logs_no_rate_is_quiet() -> None:
    """Absent is not negative."""
    assert told_by("rate", healthy(100)) == []


def test_a_rate_that_is_no_number_is_quiet() -> None:
    """What is not finite is another detector's."""
    assert told_by("rate", _with_rate(np.full(100, np.nan))) == []


def test_the_onset_stays_where_the_rate_went_below_zero() -> None:
    """Rows on which the rate was not logged move it nowhere."""
    trace = decayed_below_zero()
    trace.missing = {("lr", row) for row in range(FIRST + 5, 80)}
    engine = Engine(only("rate"))
    found = [finding for frame in trace.frames() for finding in engine.push(frame)]
    assert {finding.onset_step for finding in found} == {FIRST + 1}
    assert found[-1].step == 99


def test_a_rate_that_is_gone_is_told() -> None:
    """What overwrote it left a thousandth of a thousandth; the sentence says from what to what."""
    trace = gone_rate()
    (finding,) = told_by("rate", trace)
    assert (finding.kind, finding.severity) == ("update_too_small", "warning")
    assert (finding.onset_step, finding.step) == (FIRST, FIRST + 11)
    (change, *_) = changes_of(trace)
    assert "it fell from 0.001 to 1e-09" in change.sentence


def test_steps_of_a_schedule_are_quiet() -> None:
    """A hundredth at once is a step of a schedule, and a pause of ten rows is over."""
    rows = np.arange(100)
    assert told_by("rate", _with_rate(np.where(rows < 60, 1e-3, 1e-5))) == []
    assert told_by("rate", _with_rate(np.where((rows < 60) | (rows >= 70), 1e-3, 0.0))) == []


def test_a_schedule_that_has_ended_is_quiet() -> None:
    """From next to nothing to nothing is no fall."""
    rate = 1e-3 * np.clip(1 - np.arange(100) / 60, 0.02, 1.0)
    assert told_by("rate", _with_rate(np.where(np.arange(100) < 80, rate, 0.0))) == []


def test_a_new_warm_up_is_quiet() -> None:
    """Slow as it is, it rises from the row on which it begins."""
    rows = np.arange(100)
    assert told_by("rate", _with_rate(np.where(rows < 60, 1e-3, 1e-9 * (rows - 59)))) == []


def test_a_rate_that_has_worn_away_is_told() -> None:
    """A schedule for epochs that is stepped after each batch; the sentence says how far."""
    trace = worn_rate()
    (finding,) = told_by("rate", trace)
    assert (finding.kind, finding.severity) == ("update_too_small", "warning")
    first = int(np.argmax(trace.scalars["lr"] < 1e-3 / 4096))
    assert (finding.onset_step, finding.step) == (first, first + 31)
    session = DetectionSession(only("rate"))
    told = [change.sentence for frame in trace.frames() for change in session.push(frame).changes]
    start = f"The learning rate has worn away since step {first}: it was 0.001 and is "
    assert told[0].startswith(start)


def test_a_rate_that_wears_away_as_all_is_learned_is_quiet() -> None:
    """Nothing is left to do with it."""
    trace = worn_rate()
    trace.scalars["loss"] = 3 * np.exp(-np.arange(260) / 20)
    assert told_by("rate", trace) == []


@pytest.mark.parametrize("share", [0.97, 0.999])
def test_a_rate_that_falls_slowly_is_quiet(share: float) -> None:
    """It is still larger than a 4096th at the end."""
    assert told_by("rate", worn_rate(share=share)) == []


def test_the_end_of_a_cosine_is_quiet() -> None:
    """It is next to nothing for a hundredth of the run."""
    trace = worn_rate()
    trace.scalars["lr"] = 5e-4 * (1 + np.cos(np.pi * np.arange(260) / 259))
    assert told_by("rate", trace) == []


@pytest.mark.parametrize(("level_rows", "times"), [(0, 12.0), (60, 2.0)])
def test_a_rate_that_climbs_is_told(level_rows: int, times: float) -> None:
    """By twelve times as a warm-up that does not end, by two once the warm-up was over."""
    trace = climbing_rate(level_rows=level_rows)
    (finding,) = told_by("rate", trace)
    rate, row = trace.scalars["lr"], finding.step
    assert (finding.kind, finding.severity) == ("update_too_large", "warning")
    assert rate[row] >= times * 1e-3
    assert row >= level_rows + 47
    assert finding.onset_step == level_rows + 1


def test_the_sentence_says_from_which_rate_to_which() -> None:
    """And since when."""
    told = [c.sentence for c in changes_of(climbing_rate()) if c.transition == "opened"]
    start = "The learning rate climbs by the same factor on each step since step 1 (from 0.001 to "
    assert told[0].startswith(start)


def test_warm_ups_are_quiet() -> None:
    """Along a straight line, along a cosine, and by ten times along a curve."""
    rows = np.arange(200)
    line = 1e-6 + 1e-3 * np.minimum(rows / 150, 1.0)
    cosine = 1e-6 + 5e-4 * (1 - np.cos(np.pi * np.minimum(rows / 150, 1.0)))
    curve = 1e-4 * np.exp2(np.minimum(rows, 110) / 110 * np.log2(10.0))
    for rate in (line, cosine, curve):
        assert told_by("rate", _with_rate(rate)) == []
