"""Weight corruption: a weight that changes by more than its update explains."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.detectors.faults import (
    FIRST,
    LAYER,
    WEIGHT,
    corrupt_weight,
    doubtful_weight,
    small_updates,
)
from tests.detectors.traces import names_of, opened, told_by


def test_a_weight_that_leaps_beyond_its_update_is_named_at_once() -> None:
    """Three times its size from one step to the next is told on that step, and as critical."""
    trace = corrupt_weight()
    (finding,) = told_by("identity", trace)
    assert (finding.kind, finding.step, finding.onset_step) == ("weight_corruption", FIRST, FIRST)
    assert finding.severity == "critical"
    assert names_of([finding], trace) == [WEIGHT]


def test_the_incident_is_about_the_module() -> None:
    """With every detector on, it is still the corruption that the incident is about."""
    (incident,) = opened(corrupt_weight())
    assert (incident.kind, incident.group) == ("weight_corruption", LAYER)


def test_a_small_change_is_a_warning() -> None:
    """Eight percent is more than the update allows and less than what ends a run."""
    trace = small_updates(120)
    trace.scale(WEIGHT, 1.08, FIRST)
    assert [str(f.severity) for f in told_by("identity", trace)] == ["warning"]


def test_one_flipped_bit_shows_in_the_largest_element() -> None:
    """One element among a million moves no rms, but the largest absolute value."""
    trace = small_updates(120)
    trace.put(WEIGHT, "max", 1e4, slice(FIRST, None))
    assert [f.step for f in told_by("identity", trace)] == [FIRST]


def test_an_update_that_leaps_without_its_gradient_is_too_large() -> None:
    """Its moments were written, or it was taken across what was written into the weight."""
    trace = corrupt_weight()
    trace.scale(f"update:{LAYER}.weight", np.where(np.arange(120) == FIRST, 3000.0, 1.0))
    (finding,) = told_by("identity", trace)
    assert (finding.kind, finding.step) == ("update_too_large", FIRST)
    assert names_of([finding], trace) == [f"update:{LAYER}.weight"]


@pytest.mark.parametrize(("first", "is_told"), [(1.0, True), (8.0, True), (40.0, False)])
def test_a_leap_must_pass_the_largest_update_so_far(first: float, is_told: bool) -> None:
    """By four times: the first steps of Adam are larger than those that follow."""
    trace, rows = small_updates(120), np.arange(120)
    factor = np.where(rows < 3, first, np.where(rows == FIRST, 64.0, 1.0))
    trace.scale(f"update:{LAYER}.weight", factor)
    kinds = [f.kind for f in told_by("identity", trace) if f.step == FIRST]
    assert ("update_too_large" in kinds) is is_told


def test_updates_of_half_the_matrices_may_leap() -> None:
    """Second moments of two layers of four are lost: a quarter of them must stay, no more."""
    trace = small_updates(120)
    for name in trace.names("update")[4:]:
        trace.stats[:, trace.index(name), :] = np.nan
    for name in trace.names("update")[:2]:
        trace.scale(name, np.where(np.arange(120) == FIRST, 3000.0, 1.0))
    found = [f for f in told_by("identity", trace) if f.kind == "update_too_large"]
    assert sorted(names_of(found, trace)) == sorted(trace.names("update")[:2])


def test_a_large_update_with_its_gradient_is_quiet() -> None:
    """A step that is large because its gradient was is no fault of memory."""
    trace = corrupt_weight()
    for kind in ("update", "gradient"):
        trace.scale(f"{kind}:{LAYER}.weight", np.where(np.arange(120) == FIRST, 3000.0, 1.0))
    assert told_by("identity", trace) == []


def test_the_first_rows_are_quiet() -> None:
    """A weight that is set up by hand while the run starts is nobody's fault."""
    trace = small_updates(120)
    trace.scale(WEIGHT, 3.0, 4)
    assert told_by("identity", trace) == []


def test_across_a_gap_nothing_is_compared() -> None:
    """Between two steps that are ten apart lie nine updates that nobody saw."""
    trace = corrupt_weight()
    trace.steps[FIRST:] += 9
    assert told_by("identity", trace) == []


def test_across_a_resumed_attempt_nothing_is_compared() -> None:
    """A run that is taken up from a checkpoint has that checkpoint's weights."""
    frames = [
        replace(frame, attempt=int(frame.ord >= FIRST)) for frame in corrupt_weight().frames()
    ]
    assert told_by("identity", frames) == []


@pytest.mark.parametrize("share", [0.7, 1.0])
def test_a_checkpoint_that_is_loaded_is_quiet(share: float) -> None:
    """Most weights at once are exchanged on purpose."""
    trace = small_updates(120)
    weights = trace.names("weight")
    for name in weights[: round(share * len(weights))]:
        trace.scale(name, 3.0, FIRST)
    assert told_by("identity", trace) == []


def test_a_weight_that_habitually_leaps_is_told_no_more_than_once() -> None:
    """Averaging every tenth step moves a weight without an update, again and again."""
    trace = small_updates(200)
    trace.scale(WEIGHT, np.where(np.arange(200) // 10 % 2, 1.5, 1.0))
    assert len(told_by("identity", trace)) <= 1


def test_a_leap_beyond_the_habit_is_told() -> None:
    """What happens every tenth step does not excuse what is ten times as large."""
    trace = small_updates(200)
    trace.scale(WEIGHT, np.where(np.arange(200) // 10 % 2, 1.1, 1.0))
    trace.scale(WEIGHT, 30.0, 155)
    assert 155 in [f.step for f in told_by("identity", trace)]


def test_an_outer_step_that_moves_all_weights_a_little_is_quiet() -> None:
    """One of them moves by four updates, the others by two: no fault of memory moves them all."""
    trace = small_updates(120)
    update = float(trace.stats[FIRST, trace.index(f"update:{LAYER}.weight"), 2])
    size = float(trace.stats[FIRST, trace.index(WEIGHT), 2])
    for name in trace.names("weight"):
        own = trace.stats[FIRST, trace.index(name), 2]
        moved = 2.0 * trace.stats[FIRST, trace.index(name.replace("weight:", "update:")), 2]
        trace.scale(name, 1.0 + float((moved + 0.003 * own) / own), FIRST)
    trace.scale(WEIGHT, 1.0 + 4.0 * update / size, FIRST)
    assert told_by("identity", trace) == []


def test_an_outer_step_that_comes_again_is_a_habit_of_all_weights() -> None:
    """A tensor that it moves by twice what it did to others is no news, five times as far is."""
    trace = small_updates(120)
    for step, name, updates in (
        (12, "weight:blocks.0.attn.qkv.weight", 2.0),
        (24, "weight:blocks.2.mlp.up.weight", 5.0),
        (FIRST, WEIGHT, 30.0),
    ):
        own = float(trace.stats[step, trace.index(name), 2])
        size = float(trace.stats[step, trace.index(name.replace("weight:", "update:")), 2])
        trace.scale(name, 1.0 + updates * size / own + 0.003, step)
    found = told_by("identity", trace)
    assert [(f.step, *names_of([f], trace)) for f in found] == [(FIRST, WEIGHT)]


@pytest.mark.parametrize("everywhere", [False, True])
def test_what_was_told_and_what_moved_all_weights_is_no_habit(everywhere: bool) -> None:
    """A corruption after another one, and one after a checkpoint was loaded, are told."""
    trace = small_updates(200)
    for name in trace.names("weight") if everywhere else ["weight:head.weight"]:
        trace.scale(name, 1.2 if everywhere else 30.0, FIRST)
    trace.scale(WEIGHT, 1.5, 120)
    found = told_by("identity", trace)
    assert (120, WEIGHT) in [(f.step, *names_of([f], trace)) for f in found]


def test_what_no_update_allowed_is_no_measure() -> None:
    """A weight of zeros that is touched once has moved infinitely further than its update."""
    trace = small_updates(200)
    for kind in ("weight", "update"):
        trace.scale(f"{kind}:head.weight", 0.0)
    trace.put("weight:head.weight", "std", 1e-12, slice(4, 5))
    trace.scale(WEIGHT, 3.0, 120)
    assert [f.step for f in told_by("identity", trace)] == [120]


def test_a_doubtful_change_is_told_if_it_goes_on() -> None:
    """A gain, by one and a half times what is allowed, on two rows in a row."""
    trace = doubtful_weight()
    (finding,) = told_by("identity", trace)
    assert (finding.step, *names_of([finding], trace)) == (FIRST + 1, WEIGHT)
    assert told_by("identity", doubtful_weight([(FIRST, 1.5)])) == []


def test_a_doubtful_change_that_does_not_go_on_becomes_a_habit() -> None:
    """Two and a half times what is allowed is then less than twice as much."""
    later = (FIRST + 2, 2.5)
    assert [f.step for f in told_by("identity", doubtful_weight([later]))] == [FIRST + 2]
    assert told_by("identity", doubtful_weight([(FIRST, 1.5), later])) == []


def test_twice_what_is_allowed_is_told_at_once() -> None:
    """There is no doubt, and of a matrix none from one on."""
    assert [f.step for f in told_by("identity", doubtful_weight([(FIRST, 2.1)]))] == [FIRST]
    trace = doubtful_weight([(FIRST, 1.5)])
    trace.describe(WEIGHT, shape=(32, 32))
    assert [f.step for f in told_by("identity", trace)] == [FIRST]


@pytest.mark.parametrize(("updates", "is_told"), [(60.0, False), (150.0, True)])
def test_weights_that_often_move_beyond_their_updates_must_leap_further(
    updates: float, is_told: bool
) -> None:
    """Outer steps that move one and a half updates on four rows: then twenty allowances are none of
    memory's doing, fifty are."""
    trace = small_updates(120)
    name = "weight:blocks.0.attn.qkv.weight"

    def move(name: str, updates: float, step: int) -> None:
        own = float(trace.stats[step, trace.index(name), 2])
        size = float(trace.stats[step, trace.index(name.replace("weight:", "update:")), 2])
        trace.scale(name, 1.0 + updates * size / own + 0.003 * updates / 3.0, step)

    for step in (12, 20, 28, 36):
        move(name, 2.0, step)
    move(WEIGHT, updates, FIRST)
    found = told_by("identity", trace)
    assert [(f.step, *names_of([f], trace)) for f in found] == [(FIRST, WEIGHT)] * is_told


def test_a_weight_with_nan_in_it_is_left_to_others() -> None:
    """What is left of it has another size, and that is not what went wrong."""
    trace = corrupt_weight()
    trace.put(WEIGHT, "nan_count", 3, slice(FIRST, None))
    assert told_by("identity", trace) == []
    assert opened(trace)[0].kind == "non_finite"


@pytest.mark.parametrize(("num_weights", "is_told"), [(1, True), (2, False)])
def test_two_of_three_weights_at_once_are_no_fault_of_memory(
    num_weights: int, is_told: bool
) -> None:
    """Of a small network too: somebody prunes it, or loads another."""
    trace = small_updates(120)
    for weight in trace.names("weight")[3:]:
        module = weight.removeprefix("weight:").removesuffix(".weight")
        trace.drop(f"activation:{module}")
        for kind in ("gradient", "weight", "update"):
            trace.drop(f"{kind}:{module}.weight")
    for name in trace.names("weight")[:num_weights]:
        trace.scale(name, 0.5, FIRST)
    assert bool(told_by("identity", trace)) is is_told
