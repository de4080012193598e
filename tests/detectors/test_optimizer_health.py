"""Optimizer health: updates that leave what the optimizer makes of its gradients."""

from __future__ import annotations

import numpy as np
import pytest
from foreshock.wire import FrameFlag
from foreshock_service.domain.facts import RunFacts

from tests.detectors.faults import FIRST, LAYER, adam_run, lost_rate, stale_table
from tests.detectors.traces import Trace, changes_of, healthy, names_of, opened, told_by

UPDATE = f"update:{LAYER}.weight"
SGD = RunFacts(optimizer="SGD", momentum=0.9)


def _all_updates(trace: Trace, factor: float, first: int = FIRST) -> Trace:
    for name in trace.names("update"):
        trace.scale(name, factor, first)
    return trace


def _sgd(level: float, num_rows: int = 140) -> Trace:
    """Updates are so many times rate times gradient, on each row."""
    trace = healthy(num_rows)
    trace.facts = SGD
    trace.scalars["lr"] = np.full(num_rows, 0.01)
    for name in trace.names("update"):
        gradient = trace.index(name.replace("update", "gradient"))
        trace.stats[:, trace.index(name), :] = trace.stats[:, gradient, :]
        trace.scale(name, 0.01 * level)
    return trace


def test_a_rate_that_one_matrix_lost_names_it() -> None:
    """It fades row by row while its gradient stays: no optimizer does that."""
    trace = lost_rate()
    (finding,) = told_by("optimizer_health", trace)
    assert names_of([finding], trace) == [UPDATE]
    assert (finding.kind, finding.evidence["cause"]) == ("update_too_small", "rate")
    assert FIRST < finding.onset_step < finding.step < FIRST + 30


def test_the_incident_names_the_layer_and_the_cause() -> None:
    """Whoever reads it knows where to look."""
    (incident,) = opened(lost_rate())
    assert incident.group == LAYER
    sentence = changes_of(lost_rate())[0].sentence
    assert f"Updates of {LAYER} fell to " in sentence
    assert "their learning rate is lost" in sentence


def test_all_updates_that_fall_at_once_have_an_outdated_second_moment() -> None:
    """Nobody is named: it is the optimizer's."""
    (change,) = changes_of(_all_updates(adam_run(), 2.0**-7))
    assert (change.incident.group, change.incident.kind) == (None, "update_too_small")
    assert (change.incident.onset_step, change.step) == (FIRST, FIRST + 9)
    assert "the second moment is out of date" in change.sentence


def test_gradients_that_all_fall_alike_are_a_change_of_scale() -> None:
    """Adam forgets the old ones in thousands of steps only."""
    trace = _all_updates(adam_run(), 2.0**-7)
    for name in trace.names("gradient"):
        trace.scale(name, 2.0**-7, FIRST)
    (finding,) = told_by("optimizer_health", trace)
    assert (finding.evidence["cause"], finding.onset_step) == ("loss scale", FIRST)


def test_gradients_that_shrink_each_in_their_way_are_quiet() -> None:
    """A run that converges has small updates."""
    trace = _all_updates(adam_run(), 2.0**-5)
    for number, name in enumerate(trace.names("gradient")):
        trace.scale(name, 2.0 ** -(3 + number), FIRST)
    assert told_by("optimizer_health", trace) == []


def test_a_scheduled_rate_is_quiet() -> None:
    """What the rate explains is no fall, logged or not."""
    trace = _all_updates(adam_run(), 2.0**-7)
    unlogged = _all_updates(adam_run(), 2.0**-7)
    trace.scalars["lr"][FIRST:] *= 2.0**-7
    del unlogged.scalars["lr"]
    assert told_by("optimizer_health", trace) == told_by("optimizer_health", unlogged) == []


def test_a_few_rows_are_quiet() -> None:
    """Six rows of small updates pass by themselves."""
    trace = adam_run()
    trace.scale(UPDATE, np.where((np.arange(140) >= FIRST) & (np.arange(140) < 66), 1e-3, 1.0))
    assert told_by("optimizer_health", trace) == []


def test_an_unknown_optimizer_is_quiet() -> None:
    """Nobody knows what its updates should be."""
    trace = lost_rate()
    trace.facts = RunFacts(optimizer="LBFGS")
    assert told_by("optimizer_health", trace) == []


def test_skipped_steps_are_passed_over() -> None:
    """A step that loss scaling skipped has no update."""
    trace = lost_rate()
    trace.flags[FIRST:] |= int(FrameFlag.SKIPPED)
    assert told_by("optimizer_health", trace) == []


def test_sgd_is_judged_by_its_gradients() -> None:
    """Updates that fall with the gradient are SGD's way; those that fall alone are not."""
    both = _sgd(8.0)
    for name in both.names("gradient") + both.names("update"):
        both.scale(name, 2.0**-7, FIRST)
    alone = _sgd(8.0)
    alone.scale(UPDATE, 2.0**-7, FIRST)
    assert told_by("optimizer_health", both) == []
    assert names_of(told_by("optimizer_health", alone), alone) == [UPDATE]


def test_momentum_that_is_lost_for_good_is_told() -> None:
    """Updates of exactly rate times gradient, after larger ones."""
    (finding,) = told_by("optimizer_health", _all_updates(_sgd(8.0), 1 / 8))
    assert (finding.evidence["cause"], finding.onset_step, finding.step) == (
        "momentum", FIRST, FIRST + 9,
    )  # fmt: skip


def test_sgd_without_momentum_is_quiet() -> None:
    """It never was otherwise."""
    trace = _all_updates(_sgd(8.0), 1 / 8)
    trace.facts = RunFacts(optimizer="SGD", momentum=0.0)
    assert told_by("optimizer_health", trace) == told_by("optimizer_health", _sgd(1.0)) == []


@pytest.mark.parametrize(
    ("facts", "first"),
    [
        (RunFacts(optimizer="AdamW"), 1.0),
        (RunFacts(optimizer="RMSprop"), 10.0),
        (RunFacts(optimizer="RMSprop", alpha=0.96), 5.0),
    ],
)
def test_a_reset_is_known_by_the_size_of_the_first_update(facts: RunFacts, first: float) -> None:
    """All matrices at once have exactly the size that a new optimizer gives them."""
    trace = adam_run()
    trace.facts = facts
    for name in trace.names("update"):
        trace.put(name, "std", first * 1e-3, slice(FIRST, FIRST + 1))
    (finding,) = told_by("optimizer_health", trace)
    assert (finding.kind, finding.step, finding.series) == ("update_too_large", FIRST, None)
    (change, *_) = changes_of(trace)
    assert "The optimizer has lost its state at step 60" in change.sentence


def test_a_leap_to_another_size_is_no_reset() -> None:
    """Twice a rate is no first update of Adam's, nor is one of which the gradient leapt."""
    twice, leapt = adam_run(), adam_run()
    for name in twice.names("update"):
        twice.put(name, "std", 2e-3, slice(FIRST, FIRST + 1))
        leapt.put(name, "std", 1e-3, slice(FIRST, FIRST + 1))
    for name in leapt.names("gradient"):
        leapt.scale(name, np.where(np.arange(140) == FIRST, 64.0, 1.0))
    assert told_by("optimizer_health", twice) == told_by("optimizer_health", leapt) == []


def test_updates_that_grow_to_that_size_row_by_row_are_no_reset() -> None:
    """At a new task all gradients point the same way, and Adam's updates come near to one rate."""
    trace = adam_run()
    rows = np.arange(140)
    size = np.where(rows < FIRST, 0.3, np.minimum(0.3 + 0.1 * (rows - FIRST), 1.0))
    for name in trace.names("update"):
        trace.put(name, "std", 1e-3 * size, slice(None))
    assert told_by("optimizer_health", trace) == []


def test_a_rate_that_is_logged_later_is_no_reset() -> None:
    """Levels of updates without a rate are no measure for updates by it."""
    trace = adam_run()
    for name in trace.names("update"):
        trace.put(name, "std", 1e-3, slice(None))
    trace.missing = {("lr", row) for row in range(FIRST)}
    assert told_by("optimizer_health", trace) == []


def test_gradients_that_all_fall_where_nothing_is_left_to_learn_are_quiet() -> None:
    """The last of a loss goes faster than the second moment forgets."""
    trace = _all_updates(adam_run(), 2.0**-7)
    for name in trace.names("gradient"):
        trace.scale(name, 2.0**-7, FIRST)
    trace.scalars["loss"][FIRST - 10 :] = 1e-3
    assert told_by("optimizer_health", trace) == []


def test_a_look_up_table_whose_updates_fell_is_named() -> None:
    """Sums of squares that were overwritten: its gradients are what they were."""
    trace = stale_table()
    (finding,) = told_by("optimizer_health", trace)
    assert (finding.kind, finding.onset_step) == ("update_too_small", FIRST)
    assert names_of([finding], trace) == [f"update:{LAYER}.weight"]


@pytest.mark.parametrize("factor", [1e-3, 30.0])
def test_a_table_that_falls_with_its_gradient_or_by_little_is_quiet(factor: float) -> None:
    """Each batch looks other rows up."""
    trace = stale_table()
    name = f"gradient:{LAYER}.weight" if factor < 1 else f"update:{LAYER}.weight"
    trace.scale(name, factor, FIRST)
    assert told_by("optimizer_health", trace) == []
