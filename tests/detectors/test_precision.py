"""Precision: values that leave the range of their number format."""

from __future__ import annotations

import numpy as np
import pytest

from tests.detectors.faults import (
    FIRST,
    LAYER,
    half_rounded_updates,
    rounded_updates,
    skipped_steps,
    unheeded_overflows,
)
from tests.detectors.traces import Trace, changes_of, healthy, names_of, told_by


def _with_gradients(num: int, *, size: float, zeros: float) -> Trace:
    """A run in which the gradients of the first matrices have a size and a share of zeros."""
    trace = healthy(120)
    for name in trace.names("gradient")[:num]:
        for statistic, value in (("std", size), ("min", -4 * size), ("max", 4 * size)):
            trace.put(name, statistic, value, slice(FIRST, None))
        trace.put(name, "zero_frac", zeros, slice(FIRST, None))
    return trace


def _with_scale(scale: np.ndarray) -> Trace:
    trace = healthy(len(scale))
    trace.scalars["loss_scale"] = scale
    return trace


def test_gradients_that_were_flushed_to_zero_are_named() -> None:
    """Tiny values with many exact zeros between them, in several matrices."""
    trace = _with_gradients(5, size=1e-6, zeros=0.7)
    found = told_by("precision", trace)
    assert names_of(found, trace) == trace.names("gradient")[:5]
    assert {(f.kind, str(f.severity)) for f in found} == {("precision_underflow", "warning")}
    assert {f.onset_step for f in found} == {FIRST}


def test_the_zeros_of_a_relu_are_quiet() -> None:
    """Many zeros with large neighbours come from units that are off."""
    assert told_by("precision", _with_gradients(5, size=0.1, zeros=0.7)) == []


def test_small_gradients_without_zeros_are_quiet() -> None:
    """What is small but all there was not flushed."""
    assert told_by("precision", _with_gradients(5, size=1e-6, zeros=0.0)) == []


def test_a_few_flushed_rows_are_quiet() -> None:
    """A batch of easy samples has small gradients."""
    trace = _with_gradients(5, size=1e-6, zeros=0.7)
    for name in trace.names("gradient")[:5]:
        trace.put(name, "zero_frac", 0.0, slice(FIRST + 8, None))
    assert told_by("precision", trace) == []


def test_gradients_that_are_all_zero_are_quiet() -> None:
    """They did not flow that way, which another rule tells, however small the others are."""
    trace = _with_gradients(5, size=0.0, zeros=1.0)
    for name in trace.names("gradient")[5:]:
        trace.scale(name, 1e-7)
    assert told_by("precision", trace) == []


def test_one_flushed_matrix_is_quiet() -> None:
    """A format is the same for all of a network's matrices."""
    assert told_by("precision", _with_gradients(1, size=1e-6, zeros=0.7)) == []


def test_look_up_tables_are_quiet() -> None:
    """Rows that no sample of the batch asked for have no gradient."""
    trace = _with_gradients(5, size=1e-6, zeros=0.7)
    for name in trace.names("gradient")[:5]:
        trace.describe(name, module_type="Embedding")
    assert told_by("precision", trace) == []


def test_updates_that_are_rounded_away_are_named_by_their_weights() -> None:
    """Nearly no element changes although the gradient has hardly a zero."""
    trace = rounded_updates()
    found = told_by("precision", trace)
    assert names_of(found, trace) == trace.names("weight")[:5]
    assert {(f.kind, f.onset_step) for f in found} == {("precision_underflow", FIRST)}


def test_frozen_weights_are_quiet() -> None:
    """A weight that never moved is not in the optimizer."""
    trace = rounded_updates()
    for name in trace.names("update")[:5]:
        trace.scale(name, 0.0)
        trace.put(name, "zero_frac", 1.0, slice(None))
    assert told_by("precision", trace) == []


def test_weights_without_a_gradient_are_quiet() -> None:
    """Where the gradient is zero the weight has no reason to change."""
    trace = rounded_updates()
    for name in trace.names("gradient")[:5]:
        trace.put(name, "zero_frac", 0.97, slice(FIRST, None))
    assert told_by("precision", trace) == []


def test_a_half_that_nears_its_largest_value_is_named() -> None:
    """A float16 activation of 60,000 is one step from Inf."""
    trace = healthy(120)
    name = f"activation:{LAYER}"
    trace.describe(name, dtype="float16")
    trace.put(name, "max", 60_000.0, slice(FIRST, None))
    (finding,) = told_by("precision", trace)
    assert (finding.kind, finding.severity) == ("precision_overflow", "warning")
    assert (finding.onset_step, names_of([finding], trace)) == (FIRST, [name])


def test_the_same_value_of_a_float32_is_quiet() -> None:
    """It has room up to 3e38."""
    trace = healthy(120)
    trace.put(f"activation:{LAYER}", "max", 60_000.0, slice(FIRST, None))
    assert told_by("precision", trace) == []


def test_a_loss_scale_that_collapses_is_critical() -> None:
    """Halved on every step: the gradients overflow at any scale."""
    halved = 65_536.0 * np.exp2(-np.clip(np.arange(120) - FIRST, 0, 14))
    (finding,) = told_by("precision", _with_scale(halved))
    assert (finding.kind, finding.severity, finding.series) == (
        "precision_overflow", "critical", None,
    )  # fmt: skip
    assert FIRST < finding.step < FIRST + 14


def test_a_loss_scale_below_one_is_critical() -> None:
    """A scale that makes gradients smaller is none, however slowly it came there."""
    halved = np.exp2(2.0 - np.arange(240) // 60)
    (finding,) = told_by("precision", _with_scale(halved))
    assert (finding.severity, finding.step) == ("critical", 180)


def test_the_search_for_a_loss_scale_is_quiet() -> None:
    """Doubled every 40 steps and halved when that was too much is how it is found."""
    rows = np.arange(400)
    assert told_by("precision", _with_scale(np.exp2(14 + rows // 40 % 3))) == []


def test_a_schedule_that_ends_may_round_updates_away() -> None:
    """Below a fiftieth of its largest rate a run has made its steps."""
    trace = rounded_updates()
    trace.scalars["lr"] = np.full(120, 1e-3)
    assert told_by("precision", trace) != []
    trace.scalars["lr"][FIRST:] = 1e-5
    assert told_by("precision", trace) == []
    trace.scalars["lr"][FIRST:] = 3e-5
    assert told_by("precision", trace) != []


def test_a_run_that_has_learned_nearly_all_may_round_updates_away() -> None:
    """Below a hundredth of its first losses its updates have little left to do."""
    trace = rounded_updates()
    trace.scalars["loss"][FIRST:] = 0.04
    assert told_by("precision", trace) == []
    trace.scalars["loss"][FIRST:] = 0.1
    assert told_by("precision", trace) != []


def test_steps_that_are_all_skipped_are_critical() -> None:
    """Sixteen in a row, after some were made: no scale is small enough."""
    (finding,) = told_by("precision", skipped_steps())
    assert (finding.kind, finding.severity, finding.series) == (
        "precision_overflow", "critical", None,
    )  # fmt: skip
    assert (finding.onset_step, finding.step) == (FIRST, FIRST + 15)


def test_the_sentence_says_at_which_scale_all_steps_are_skipped() -> None:
    """And since when."""
    (opened, *_) = changes_of(skipped_steps())
    assert opened.sentence.startswith(
        f"All steps are skipped since step {FIRST}: gradients overflow at a loss scale of 256"
    )


@pytest.mark.parametrize(("num_rows", "first"), [(15, FIRST), (39, 0)])
def test_fewer_skipped_steps_are_the_search_for_a_scale(num_rows: int, first: int) -> None:
    """From the first row on it may come down from 2 to the 40th."""
    assert told_by("precision", skipped_steps(num_rows, first)) == []


def test_a_run_that_never_made_a_step_is_told_on_its_fortieth_row() -> None:
    """No search takes longer."""
    (finding,) = told_by("precision", skipped_steps(40, 0))
    assert (finding.severity, finding.onset_step, finding.step) == ("critical", 0, 39)


def test_overflows_that_do_not_lower_the_scale_are_told() -> None:
    """On the eighth: a scale that is fixed, or whose factor is one."""
    (finding,) = told_by("precision", unheeded_overflows())
    assert (finding.kind, finding.severity) == ("precision_overflow", "warning")
    assert (finding.onset_step, finding.step) == (FIRST, FIRST + 7 * 3)
    told = [c.sentence for c in changes_of(unheeded_overflows()) if c.transition == "opened"]
    start = f"Steps are skipped again and again since step {FIRST}: the loss scale stays at 65536"
    assert told[0].startswith(start)


def test_overflows_that_lower_the_scale_are_quiet() -> None:
    """However often it is tried again."""
    assert told_by("precision", unheeded_overflows(lowers=True)) == []


def test_rare_overflows_at_a_fixed_scale_are_quiet() -> None:
    """Some hundredths of the steps, of a batch that is larger than the others."""
    assert told_by("precision", unheeded_overflows(every=10)) == []


def test_half_of_all_elements_that_change_no_more_are_told() -> None:
    """Weights of a format too short for their updates, of which nearly all changed at first."""
    found = told_by("precision", half_rounded_updates())
    assert {f.kind for f in found} == {"precision_underflow"}
    assert {(f.onset_step, f.step) for f in found} == {(FIRST, FIRST + 19)}


def test_elements_that_never_changed_are_no_sign() -> None:
    """As those of masks and of experts that wait."""
    trace = half_rounded_updates()
    for name in trace.names("update"):
        trace.put(name, "zero_frac", 0.6, slice(None))
    assert told_by("precision", trace) == []


def test_half_of_some_matrices_are_no_sign() -> None:
    """Part of a network may be masked from some step on."""
    assert told_by("precision", half_rounded_updates(num_matrices=5)) == []


def test_elements_without_a_gradient_are_no_sign() -> None:
    """They have nothing to change for."""
    trace = half_rounded_updates()
    for name in trace.names("gradient"):
        trace.put(name, "zero_frac", 0.6, slice(FIRST, None))
    assert told_by("precision", trace) == []
