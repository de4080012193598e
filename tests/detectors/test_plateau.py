"""Plateau: a run that learns nothing from its first step on."""

from __future__ import annotations

import numpy as np
import pytest

from tests.detectors.faults import stuck_loss
from tests.detectors.traces import Trace, opened, told_by


def _steps_later(trace: Trace, steps: int) -> Trace:
    trace.steps = trace.steps + steps
    return trace


def test_a_loss_that_never_falls_is_told() -> None:
    """A warning about the run after a hundred rows and some."""
    (finding,) = told_by("plateau", stuck_loss())
    assert (finding.kind, finding.severity, finding.series) == ("plateau", "warning", None)
    assert 99 <= finding.step < 150


def test_nobody_is_blamed() -> None:
    """A run that learns nothing is told as such, without a layer."""
    (incident,) = opened(stuck_loss())
    assert (incident.kind, incident.group) == ("plateau", None)


def test_a_loss_that_falls_slowly_is_quiet() -> None:
    """A tenth in a hundred rows is learning."""
    trace = stuck_loss()
    trace.scalars["loss"] -= 0.005 * np.arange(200)
    assert told_by("plateau", trace) == []


def test_rows_before_the_rate_is_up_do_not_count() -> None:
    """Warm-up is given its time, and a hundred rows after it."""
    trace = stuck_loss()
    trace.scalars["lr"] = 1e-8 * np.exp2(np.arange(200) / 12)
    assert told_by("plateau", trace) == []


def test_a_run_that_is_joined_later_is_quiet() -> None:
    """A loss that has come to rest looks the same to whoever has not seen it fall."""
    assert told_by("plateau", _steps_later(stuck_loss(), 5000)) == []


def test_a_run_that_has_learned_is_never_stuck() -> None:
    """A loss that fell and then stands still has converged."""
    trace = stuck_loss(390)
    trace.scalars["loss"][60:] -= 3.0
    assert told_by("plateau", trace) == []


def test_a_gradient_norm_that_rises_is_given_time() -> None:
    """What is about to break out shows it in the gradients first."""
    trace = stuck_loss()
    trace.scalars["grad_norm"] = np.exp2(np.arange(200) / 40)
    assert told_by("plateau", trace) == []


def test_outputs_that_spread_are_given_time() -> None:
    """Or in the outputs, which begin to tell samples apart."""
    trace = stuck_loss()
    trace.scale("activation:head", np.exp2(np.arange(200) / 40))
    assert told_by("plateau", trace) == []


@pytest.mark.parametrize("scalar", ["loss_d", "mean_return"])
def test_losses_whose_level_means_little_are_quiet(scalar: str) -> None:
    """Adversaries balance, and a policy's loss says nothing of its return."""
    trace = stuck_loss()
    trace.scalars[scalar] = np.ones(200)
    assert told_by("plateau", trace) == []


def test_a_mostly_frozen_run_is_quiet() -> None:
    """A probe on top of a frozen network may have nothing to find."""
    trace = stuck_loss()
    for name in trace.names("update")[:-2]:
        trace.scale(name, 0.0)
    assert told_by("plateau", trace) == []


def test_a_loss_that_is_one_number_is_told() -> None:
    """Both sides of a difference are the same thing, say: there is no noise to hide in."""
    trace = stuck_loss()
    trace.scalars["loss"][:] = np.log(2.0)
    assert [f.kind for f in told_by("plateau", trace)] == ["plateau"]


def test_a_slow_start_is_given_two_hundred_rows() -> None:
    """Gradients as large as at first still find their way; once they have died down, no more."""
    noise = np.random.default_rng(3).normal(0, 0.1, 260)
    trace = stuck_loss(260)
    trace.scalars["grad_norm"] = 1.0 + noise
    (finding,) = told_by("plateau", trace)
    assert finding.step >= 199
    trace.scalars["grad_norm"] = np.linspace(1.0, 0.5, 260) + 0.1 * noise
    (finding,) = told_by("plateau", trace)
    assert finding.step < 199


@pytest.mark.parametrize(("level", "told"), [(np.log(32.0), True), (3.2, False)])
def test_a_loss_that_comes_down_to_a_guess_has_learned_nothing(level: float, told: bool) -> None:
    """Among the 32 units of the head; one that comes down further has."""
    trace = stuck_loss()
    trace.scalars["loss"] += level - 5.0 + 3.0 * np.exp(-np.arange(200) / 4)
    assert bool(told_by("plateau", trace)) is told


@pytest.mark.parametrize("rows", [12, 60])
def test_a_loss_that_has_risen_is_no_plateau(rows: int) -> None:
    """By a fifth within some rows: it is not stuck, and other rules tell of what rises."""
    trace = stuck_loss()
    trace.scalars["loss"] += np.clip(np.arange(200) / rows, 0.0, 1.0)
    assert told_by("plateau", trace) == []
