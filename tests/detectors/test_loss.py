"""The loss: damage against progress and the run's own noise."""

from __future__ import annotations

import numpy as np
import pytest

from tests.detectors.faults import lifted_losses
from tests.detectors.traces import Trace, changes_of, healthy, opened, told_by


def _with_loss(loss: np.ndarray) -> Trace:
    trace = healthy(len(loss))
    trace.scalars["loss"] = loss
    return trace


def test_a_jump_is_a_spike() -> None:
    """Three rows high above the level open a spike at the first of them."""
    trace = healthy(200)
    trace.scalars["loss"][120:126] += 2.5
    (incident,) = opened(trace)
    assert (incident.kind, incident.onset_step, incident.loss_step) == ("loss_spike", 120, 120)


def test_damage_that_stays_is_divergence() -> None:
    """A loss that does not come back escalates to critical."""
    trace = healthy(220)
    trace.scalars["loss"][120:] += 2.5
    changes = changes_of(trace)
    assert [str(c.transition) for c in changes] == ["opened", "escalated"]
    assert changes[-1].incident.kinds == ("loss_spike", "divergence")
    assert changes[-1].incident.severity == "critical"


def test_a_loss_that_only_ever_rises_is_divergence() -> None:
    """It has nothing to lose, and stands far above all that it began with."""
    steps = np.arange(300)
    noise = np.random.default_rng(4).lognormal(0, 0.2, 300)
    (finding,) = told_by("loss", _with_loss(0.1 * noise * 1.02**steps))
    assert (finding.kind, finding.severity) == ("divergence", "critical")
    assert 120 < finding.step < 180


def test_a_loss_that_rises_to_a_few_times_its_start_is_quiet() -> None:
    """As that of a value function does while the rewards become larger."""
    rise = 1 + 4 * np.minimum(np.arange(300) / 200, 1)
    noise = np.random.default_rng(4).lognormal(0, 0.2, 300)
    assert told_by("loss", _with_loss(0.1 * noise * rise)) == []


@pytest.mark.parametrize("seed", range(5))
def test_a_noisy_loss_near_zero_is_quiet(seed: int) -> None:
    """Relative noise of a loss that has converged to nothing is no damage."""
    rng = np.random.default_rng(seed)
    loss = 2 * np.exp(-np.arange(600) / 40) + 1e-3 * rng.lognormal(0, 1, 600)
    assert opened(_with_loss(loss)) == []


@pytest.mark.parametrize("seed", range(5))
def test_a_loss_that_never_learns_anything_is_quiet(seed: int) -> None:
    """Adversarial and policy losses only wander."""
    rng = np.random.default_rng(seed)
    loss = 1 + 0.2 * np.sin(np.arange(600) / 20) + rng.standard_t(4, 600) * 0.1
    assert opened(_with_loss(loss)) == []


@pytest.mark.parametrize(("factor", "shift"), [(1024.0, 0.0), (2.0**-10, 0.0), (1.0, 0.0)])
def test_scaling_the_loss_changes_nothing(factor: float, shift: float) -> None:
    """A spike stays a spike at the same step, whatever the loss' unit."""
    trace = healthy(200)
    trace.scalars["loss"][120:126] += 2.5
    trace.scalars["loss"] = trace.scalars["loss"] * factor + shift
    assert [(i.kind, i.onset_step) for i in opened(trace)] == [("loss_spike", 120)]


def test_a_loss_below_zero_may_be_quiet() -> None:
    """A log-likelihood of a density is negative; nothing in it is an alarm."""
    trace = healthy(300)
    trace.scalars["loss"] -= 5
    assert opened(trace) == []


def test_joining_in_the_middle_is_quiet() -> None:
    """The first row seen need not be the run's first."""
    trace = healthy(400)
    assert opened(list(trace.frames())[170:]) == []


def test_a_loss_on_its_way_back_is_no_divergence() -> None:
    """A leap that heals by itself stays a spike, however long it takes."""
    trace = healthy(300)
    rows = np.maximum(np.arange(300) - 150, 0)
    trace.scalars["loss"] += np.where(np.arange(300) >= 150, 3.0 * np.exp(-rows / 20), 0.0)
    assert [incident.kinds for incident in opened(trace)] == [("loss_spike",)]


def test_a_run_that_starts_over_in_its_own_log_is_no_divergence() -> None:
    """The same losses once more, from the first on, are a new start."""
    trace = healthy(300)
    trace.scalars["loss"][150:] = trace.scalars["loss"][:150]
    told = [kind for change in changes_of(trace) for kind in change.incident.kinds]
    assert "divergence" not in told


def _forgetful(first: int = 150) -> Trace:
    """A noisy loss that falls from 3 to 2 and is back at 3 from a row on."""
    steps = np.arange(220)
    level = np.where(steps < first, 2 + np.exp(-steps / 20), 3.0)
    return _with_loss(level + np.random.default_rng(1).normal(0, 0.2, 220))


def test_a_noisy_level_that_undoes_all_progress_is_told() -> None:
    """No row of it stands out of the noise, but eight of them do."""
    trace = _forgetful()
    (first, *_) = told_by("loss", trace)
    assert first.kind == "loss_spike"
    assert 150 <= first.onset_step < first.step <= 165
    losses = trace.scalars["loss"][first.step - 7 : first.step + 1]
    assert first.value == pytest.approx(float(np.median(losses)))


def test_half_of_the_progress_in_that_noise_is_quiet() -> None:
    """Levels of sound runs waver by as much."""
    trace = _forgetful()
    trace.scalars["loss"][150:] -= 0.6
    assert told_by("loss", trace) == []


def test_a_level_of_a_run_that_was_joined_means_nothing() -> None:
    """What it had learned before nobody knows."""
    trace = _forgetful()
    trace.steps = trace.steps + 1000
    assert told_by("loss", trace) == []


def test_a_level_of_players_means_nothing() -> None:
    """They lose when another wins."""
    trace = _forgetful()
    trace.scalars["reward"] = np.ones(220)
    assert told_by("loss", trace) == []


def test_a_slow_rise_in_that_noise_is_divergence() -> None:
    """Forty rows long: the calm losses rise along, and the best level does not."""
    trace = _forgetful(first=10_000)
    trace.scalars["loss"] += np.clip((np.arange(220) - 120) / 40, 0.0, 1.0)
    found = told_by("loss", trace)
    assert found[0].kind == "divergence"
    assert 140 < found[0].step < 190
    trace.scalars["loss"][121:] -= np.clip((np.arange(121, 220) - 120) / 40, 0.0, 1.0) * 0.55
    assert told_by("loss", trace) == []


def test_two_rows_are_enough_of_plain_damage() -> None:
    """Whoever waits for a third has lost it."""
    trace = healthy(200)
    trace.scalars["loss"][120:122] += 5.0
    (finding,) = told_by("loss", trace)
    assert (finding.kind, finding.onset_step, finding.step) == ("loss_spike", 120, 121)
    trace.scalars["loss"][121] -= 5.0
    assert told_by("loss", trace) == []


def test_a_loss_that_comes_back_within_twenty_rows_is_a_spike() -> None:
    """A new task at once, learned as fast: half of the way is behind it when damage would last."""
    trace = healthy(300)
    rows = np.arange(300) - 150
    trace.scalars["loss"] += np.where(rows >= 0, np.where(rows < 13, 3.0, 1.5), 0.0)
    trace.scalars["loss"][190:] -= 1.5
    assert [incident.kinds for incident in opened(trace)] == [("loss_spike",)]


def test_seven_losses_that_are_all_larger_than_any_before_are_told() -> None:
    """Heavy tails make a bar that no row of a rise need pass."""
    trace = lifted_losses([(150, 0.9)])
    (finding,) = told_by("loss", trace)
    assert (finding.kind, finding.severity) == ("loss_spike", "warning")
    assert (finding.onset_step, finding.step) == (150, 156)
    trace.scalars["loss"][152] -= 0.9
    assert told_by("loss", trace) == []
    assert told_by("loss", lifted_losses(num_rows=6)) == []


@pytest.mark.parametrize(("rise", "told"), [(0.9, [156]), (1.6, [156, 226])])
def test_the_same_rise_again_is_no_news(rise: float, told: list[int]) -> None:
    """One that is half as large again is."""
    changes = changes_of(lifted_losses([(150, 0.9), (220, rise)]))
    assert [c.step for c in changes if c.transition != "recovered"] == told


def test_losses_of_players_may_all_be_larger_than_before() -> None:
    """They lose when another wins."""
    trace = lifted_losses()
    trace.scalars["reward"] = np.ones(300)
    assert told_by("loss", trace) == []


def _restarted(*, with_rate: bool) -> Trace:
    """Two cycles of a rate; at the second's begin the loss goes halfway back to the first's."""
    rows = np.arange(300)
    share = (rows % 150) / 150
    noise = 0.02 * np.random.default_rng(3).normal(size=300)
    high = np.where(rows < 150, 3.0, 1.5)
    trace = _with_loss(0.1 + high * np.exp(-(rows % 150) / 15) + noise)
    if with_rate:
        trace.scalars["lr"] = 5e-4 * (1.002 + np.cos(np.pi * share))
    return trace


def test_what_a_warm_restart_does_to_the_loss_is_no_damage() -> None:
    """It may go to where it was when the rate was last so high; without a rate nobody knows."""
    assert told_by("loss", _restarted(with_rate=True)) == []
    assert [f.kind for f in told_by("loss", _restarted(with_rate=False))][:1] == ["loss_spike"]


def test_a_restart_that_does_more_is_damage() -> None:
    """The first cycle never was so high."""
    trace = _restarted(with_rate=True)
    trace.scalars["loss"][150:] += 6.0
    assert told_by("loss", trace) != []


def _critic(*, norms_fall: bool) -> Trace:
    """A loss comes back from four below nought to one."""
    rows = np.arange(400)
    back = np.clip((rows - 200) / 80, 0, 1)
    loss = -4.0 * (1 - np.exp(-rows / 30)) + 3.0 * back
    trace = _with_loss(loss + 0.1 * np.random.default_rng(6).normal(size=400))
    trace.scalars["grad_norm"] = np.exp2(-2.0 * back) if norms_fall else np.ones(400)
    return trace


def test_a_critic_that_is_caught_up_with_is_quiet() -> None:
    """Its gradients get smaller with its loss; those of damage do not."""
    assert told_by("loss", _critic(norms_fall=True)) == []
    assert [f.kind for f in told_by("loss", _critic(norms_fall=False))][-1] == "divergence"


@pytest.mark.parametrize(("leap", "is_told"), [(6.0, True), (1.0, False)])
def test_a_gradient_norm_that_leaps_with_the_loss_confirms_it(leap: float, is_told: bool) -> None:
    """A fifth of the progress is little, and enough if both say so."""
    trace = healthy(200)
    trace.scalars["loss"][120:130] += 0.7
    trace.scalars["grad_norm"] = np.ones(200)
    trace.scalars["grad_norm"][120:130] = leap
    assert bool(told_by("loss", trace)) is is_told
