"""Update sizes of the whole run: too large or too small for the weights."""

from __future__ import annotations

import numpy as np
import pytest
from foreshock_service.domain.facts import RunFacts
from foreshock_service.pipeline.session import DetectionSession

from tests.detectors.faults import LAYER, creeping_rate, grown_updates, small_updates
from tests.detectors.traces import Trace, only, told_by

ADAM = RunFacts(optimizer="AdamW")


def _scaled(factors: np.ndarray, rate: np.ndarray | None = None) -> Trace:
    """A run whose updates are all scaled by `factors`."""
    trace = small_updates(len(factors))
    for name in trace.names("update"):
        trace.scale(name, factors)
    if rate is not None:
        trace.scalars["lr"] = rate
    return trace


def _without_progress(trace: Trace) -> Trace:
    trace.scalars["loss"] = np.full(len(trace.steps), 4.0)
    return trace


def _sizes_of(trace: Trace, update: float) -> Trace:
    """Updates of one size in every row, weights of size 1."""
    for name in trace.names("update"):
        trace.put(name, "std", update, slice(None))
    for name in trace.names("weight"):
        trace.put(name, "std", 1.0, slice(None))
    return trace


def test_updates_that_all_grow_are_told() -> None:
    """Eight times their size at once: a warning that names nobody."""
    (finding,) = told_by("updates", grown_updates())
    assert (finding.kind, finding.severity, finding.series) == ("update_too_large", "warning", None)
    assert 100 <= finding.step <= 102


def test_a_single_enormous_step_is_told() -> None:
    """Sixteen times the size on one row."""
    (finding,) = told_by("updates", _scaled(np.where(np.arange(200) == 120, 16.0, 1.0)))
    assert (finding.kind, finding.step) == ("update_too_large", 120)


def test_a_rate_beyond_all_before_is_told_with_it() -> None:
    """An optimizer that follows a typing error in a schedule says so with the rate."""
    rate = np.where(np.arange(200) >= 120, 1e-2, 1e-3)
    (finding,) = told_by("updates", _scaled(rate / 1e-3, rate))
    assert finding.evidence["lr"] == 1e-2


def test_four_times_the_size_on_one_row_is_quiet() -> None:
    """How sound runs train: only what comes twice or is enormous is told."""
    assert told_by("updates", _scaled(np.where(np.arange(200) == 120, 4.0, 1.0))) == []


def test_updates_that_vary_by_half_are_quiet() -> None:
    """For as many rows as they like."""
    assert told_by("updates", _scaled(np.where(np.arange(200) >= 120, 1.5, 1.0))) == []


def test_one_tensor_alone_is_not_the_run() -> None:
    """A single matrix moves no median; the growth of single tensors has a rule of its own."""
    trace = small_updates()
    trace.scale(f"update:{LAYER}.weight", 100.0, 120)
    assert told_by("updates", trace) == []


def test_a_warm_restart_is_quiet() -> None:
    """A rate that the run has had before is divided out."""
    rows = np.arange(300)
    rate = 1e-3 * (0.51 + 0.49 * np.cos(np.pi * (rows % 150) / 150))
    assert told_by("updates", _scaled(rate / 1e-3, rate)) == []


def test_the_first_rows_are_quiet() -> None:
    """Warm-up makes updates grow from nothing."""
    factors = np.exp2(2.0 * np.clip(np.arange(200) - 24, -8, 0))
    assert told_by("updates", _scaled(factors)) == []


def test_updates_far_below_adams_rate_are_too_small() -> None:
    """Adam moves an element by about one rate; a thousandth of it moves nothing."""
    trace = _without_progress(_sizes_of(small_updates(), 1e-6))
    trace.scalars["lr"], trace.facts = np.full(200, 1e-3), ADAM
    (finding,) = told_by("updates", trace)
    assert (finding.kind, finding.severity, finding.series) == ("update_too_small", "warning", None)
    assert finding.onset_step <= 1


def test_updates_of_about_adams_rate_are_quiet() -> None:
    """However small the rate is: it is what was asked for."""
    trace = _without_progress(_sizes_of(small_updates(), 5e-8))
    trace.scalars["lr"], trace.facts = np.full(200, 1e-7), ADAM
    assert told_by("updates", trace) == []


def test_updates_that_cannot_move_a_weight_are_too_small() -> None:
    """Of any optimizer: ten million steps for one weight."""
    trace = _without_progress(_sizes_of(small_updates(), 1e-7))
    trace.scalars["lr"] = np.full(200, 1e-3)
    assert [f.kind for f in told_by("updates", trace)] == ["update_too_small"]


def test_a_run_that_has_learned_needs_no_larger_updates() -> None:
    """Small gradients after fast progress are no fault."""
    trace = _sizes_of(small_updates(), 1e-6)
    trace.scalars["loss"] = 4.0 * np.exp(-np.arange(200) / 8)
    trace.scalars["lr"], trace.facts = np.full(200, 1e-3), ADAM
    assert told_by("updates", trace) == []


def test_a_schedule_that_ends_at_zero_is_quiet() -> None:
    """Updates that shrink with their rate do what they were told."""
    rate = 1e-3 * np.maximum(1 - np.arange(300) / 250, 0.0)
    trace = _without_progress(_scaled(rate / 1e-3, rate))
    trace.facts = ADAM
    assert told_by("updates", trace) == []


def test_tiny_updates_at_a_rate_that_has_come_down_are_quiet() -> None:
    """Without Adam's measure they are only told while the rate is high."""
    rate = np.where(np.arange(200) < 20, 1e-3, 1e-7)
    trace = _without_progress(_sizes_of(small_updates(), 1e-3))
    for name in trace.names("update"):
        trace.scale(name, rate / 1e-3)
    trace.scalars["lr"] = rate
    assert told_by("updates", trace) == []


def test_another_optimizer_is_not_held_to_adams_rate() -> None:
    """The step of gradient descent is the gradient's size times the rate."""
    trace = _without_progress(_sizes_of(small_updates(), 1e-5))
    trace.scalars["lr"], trace.facts = np.full(200, 0.1), RunFacts(optimizer="SGD")
    assert told_by("updates", trace) == []


def test_restarts_change_no_finding_of_small_updates() -> None:
    """A fall that is being counted goes on being counted, and what was learned stays learned."""
    trace = _scaled(np.where(np.arange(250) >= 120, 1 / 64, 1.0), np.full(250, 1e-3))
    trace.facts = ADAM
    trace.scalars["loss"] = 4.0 * np.exp(-np.arange(250) / 8)
    for row in (5, 15, 70, 130, 139):
        frames = list(trace.frames())
        before, after = (DetectionSession(only("updates"), ADAM) for _ in range(2))
        found = [finding for frame in frames[:row] for finding, _ in before.push(frame).findings]
        after.restore(before.state())
        found += [finding for frame in frames[row:] for finding, _ in after.push(frame).findings]
        assert found == told_by("updates", trace) != []


def test_updates_that_fall_at_a_constant_rate_are_too_small() -> None:
    """A 64th of what they were, and it lasts: something eats them."""
    factors = np.where(np.arange(250) >= 120, 1 / 64, 1.0)
    trace = _scaled(factors, np.full(250, 1e-3))
    trace.facts = ADAM
    (finding,) = told_by("updates", trace)
    assert (finding.kind, finding.onset_step) == ("update_too_small", 120)


def test_a_short_fall_is_quiet() -> None:
    """A few batches without a gradient pass."""
    rows = np.arange(250)
    trace = _scaled(np.where((rows >= 120) & (rows < 128), 1 / 64, 1.0), np.full(250, 1e-3))
    trace.facts = ADAM
    assert told_by("updates", trace) == []


def test_a_rate_that_is_no_longer_logged_is_no_fall() -> None:
    """Sizes by the rate are not compared with sizes of which nobody knows the rate."""
    trace = _scaled(np.ones(200), np.full(200, 1e-3))
    trace.missing = {("lr", row) for row in range(100, 200)}
    assert told_by("updates", trace) == []


def test_a_rate_that_creeps_beyond_its_warm_up_is_told() -> None:
    """Five percent a row: the largest of a hundred rows would follow it."""
    (finding,) = told_by("updates", creeping_rate())
    assert finding.kind == "update_too_large"
    assert 115 < finding.step < 130


def test_a_warm_up_that_creeps_is_quiet() -> None:
    """From the first row on it is the schedule."""
    rate = 1e-5 * np.minimum(1.05 ** np.arange(200), 100.0)
    assert told_by("updates", _scaled(rate / 1e-3, rate)) == []


def test_updates_that_grow_with_their_gradients_are_quiet() -> None:
    """Three times the largest on three rows, and so are the gradients; sixteen times is told."""
    rows = np.arange(200)
    lifted = (rows >= 120) & (rows < 123)
    for factor, told in ((3.0, False), (16.0, True)):
        trace = _scaled(np.where(lifted, factor, 1.0))
        assert told_by("updates", trace) != []
        for name in trace.names("gradient"):
            trace.scale(name, np.where(lifted, 2.0 * factor, 1.0))
        assert bool(told_by("updates", trace)) == told


@pytest.mark.parametrize(("optimizer", "told"), [("Adam", True), ("Muon", False), ("LAMB", False)])
def test_optimizers_that_go_by_the_size_of_a_matrix_are_not_held_to_the_rate(
    optimizer: str, told: bool
) -> None:
    """A hundredth of one rate an element is little for Adam alone."""
    trace = _without_progress(_sizes_of(small_updates(), 1e-5))
    trace.scalars["lr"], trace.facts = np.full(200, 1e-3), RunFacts(optimizer=optimizer)
    assert bool(told_by("updates", trace)) == told


@pytest.mark.parametrize(("optimizer", "told"), [("SGD", True), ("LBFGS", False)])
def test_steps_as_long_as_a_search_finds_have_no_usual_size(optimizer: str, told: bool) -> None:
    """Sixteen times the size on one row and all that follow."""
    trace = _scaled(np.where(np.arange(200) >= 120, 16.0, 1.0))
    trace.facts = RunFacts(optimizer=optimizer)
    assert bool([*told_by("updates", trace), *told_by("shift", trace)]) == told


@pytest.mark.parametrize("optimizer", ["Yogi", "AdaBelief", "Adan", "SignSGD", "SOAP", "Lion"])
def test_relatives_of_adam_move_by_about_one_rate_too(optimizer: str) -> None:
    """A thousandth of it moves nothing."""
    trace = _without_progress(_sizes_of(small_updates(), 1e-6))
    trace.scalars["lr"], trace.facts = np.full(200, 1e-3), RunFacts(optimizer=optimizer)
    assert [f.kind for f in told_by("updates", trace)] == ["update_too_small"]


def test_two_optimizers_are_not_held_to_the_rate_of_one() -> None:
    """SGD's updates are far below Adam's rate."""
    trace = _without_progress(_sizes_of(small_updates(120), 1e-5))
    trace.scalars["lr"] = np.full(120, 1e-3)
    trace.facts = ADAM
    assert told_by("updates", trace)
    trace.facts = RunFacts(optimizer="SGD and AdamW")
    assert told_by("updates", trace) == []


def test_updates_of_adagrad_shrink_with_the_root_of_the_steps() -> None:
    """A sum of squares that began too large leaves a hundredth of that."""
    trace = _without_progress(small_updates(160))
    trace.scalars["lr"] = np.full(160, 0.1)
    trace.facts = RunFacts(optimizer="Adagrad")
    _sizes_of(trace, 1.0)
    for factor, told in ((0.1, False), (1e-3, True)):
        size = 0.1 * factor / np.sqrt(np.arange(160) + 1.0)
        for name in trace.names("update"):
            trace.put(name, "std", size, slice(None))
        assert bool(told_by("updates", trace)) is told


def test_a_loss_with_a_margin_has_no_gradient_once_all_is_learned() -> None:
    """Its updates vanish, and that is the end of it."""
    factors = np.where(np.arange(250) >= 120, 1e-6, 1.0)
    trace = _scaled(factors, np.full(250, 1e-3))
    trace.facts = RunFacts(optimizer="SGD")
    assert told_by("updates", trace)
    trace.scalars["loss"][110:] = 1e-3
    assert told_by("updates", trace) == []


@pytest.mark.parametrize("detector", ["updates", "shift"])
def test_layers_that_thaw_bring_updates_of_their_own(detector: str) -> None:
    """The median of all is larger, and no update has grown."""
    trace = _scaled(np.ones(250), np.full(250, 1e-3))
    names = trace.names("update")
    for name in names[2:]:
        trace.scale(name, 8.0)
        trace.stats[:150, trace.index(name)] = np.nan
    assert told_by(detector, trace) == []
