"""Offset: outputs whose common level runs away, and whose differences do not."""

from __future__ import annotations

import numpy as np
from foreshock_service.detectors.baseline import Baselines

from tests.detectors.faults import FIRST, running_outputs
from tests.detectors.traces import changes_of, names_of, told_by


def test_outputs_that_run_away_together_are_named() -> None:
    """A warning, a few doublings after they have left."""
    trace = running_outputs()
    (finding,) = told_by("offset", trace)
    assert (finding.kind, finding.severity) == ("output_logit_drift", "warning")
    assert names_of([finding], trace) == ["activation:head"]
    assert FIRST < finding.onset_step < finding.step < FIRST + 80


def test_the_sentence_does_not_speak_of_log_z() -> None:
    """Which nobody logged."""
    sentences = [c.sentence for c in changes_of(running_outputs())]
    told = [s for s in sentences if "run away from zero together" in s]
    assert told
    assert all("log Z" not in s for s in sentences)


def test_outputs_whose_spread_grows_with_them_are_quiet() -> None:
    """A classifier that becomes sure."""
    assert told_by("offset", running_outputs(spread=2.0)) == []


def test_outputs_that_follow_a_target_are_quiet() -> None:
    """The loss falls while they do."""
    trace = running_outputs()
    trace.scalars["loss"] = np.linspace(100, 2, 200)
    assert told_by("offset", trace) == []


def test_players_are_quiet() -> None:
    """A critic's level means little."""
    trace = running_outputs()
    trace.scalars["mean_return"] = np.ones(200)
    assert told_by("offset", trace) == []


def test_players_are_known_by_what_they_log_now_and_then() -> None:
    """A return is logged once an episode."""
    trace = running_outputs()
    trace.scalars["mean_return"] = np.ones(200)
    trace.missing |= {("mean_return", row) for row in range(200) if row % 10}
    assert told_by("offset", trace) == []


def _falls(losses: np.ndarray) -> bool:
    baselines = Baselines()
    for loss in losses:
        baselines.progress.follow(float(loss))
    return baselines.progress.falls


def test_a_loss_that_wavers_around_zero_does_not_fall() -> None:
    """However large the difference is beside the level: it is less than the noise."""
    noise = np.random.default_rng(0).normal(0, 1, (20, 32))
    assert [_falls(losses) for losses in 0.02 * noise].count(True) <= 2


def test_a_loss_that_comes_down_falls() -> None:
    """By more than its noise."""
    noise = np.random.default_rng(0).normal(0, 0.05, 32)
    assert _falls(np.linspace(2, 1, 32) + noise)
