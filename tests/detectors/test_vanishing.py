"""Vanishing gradients and dead units."""

from __future__ import annotations

import numpy as np
import pytest
from foreshock_service.incidents.verdict import sentence

from tests.detectors.faults import GRADIENT, LAYER, WEIGHT, idle, never_reached, vanished_at_once
from tests.detectors.traces import Trace, healthy, names_of, opened, told_by


def test_gradients_that_vanish_with_depth() -> None:
    """The first block's gradients at a millionth of the largest do not learn."""
    trace = healthy(100)
    for name in ("attn.qkv", "attn.proj", "mlp.up", "mlp.down"):
        trace.scale(f"gradient:blocks.0.{name}.weight", 1e-8)
    (incident,) = opened(trace)
    assert (incident.kind, incident.opened_step) == ("vanishing_gradient", 23)
    assert incident.group == "blocks.0.attn.qkv"


def test_a_gradient_that_was_alive_and_is_exactly_zero() -> None:
    """Zero on six rows after having been alive, while others go on."""
    trace = healthy(100)
    trace.scale("gradient:blocks.1.mlp.up.weight", np.where(np.arange(100) < 60, 1.0, 0.0))
    (incident,) = opened(trace)
    assert (incident.kind, incident.onset_step) == ("vanishing_gradient", 60)
    assert (incident.group, incident.opened_step) == ("blocks.1.mlp.up", 65)


def test_a_gradient_that_pauses_now_and_then_is_told_beyond_its_habit() -> None:
    """After pauses of five rows it takes fifteen."""
    trace = healthy(140)
    rows = np.arange(140)
    pauses = ((rows >= 30) & (rows < 35)) | ((rows >= 50) & (rows < 55)) | (rows >= 100)
    trace.scale("gradient:blocks.1.mlp.up.weight", np.where(pauses, 0.0, 1.0))
    (finding,) = told_by("vanishing", trace)
    assert (finding.onset_step, finding.step) == (100, 114)


def test_pauses_of_a_sibling_are_a_habit_as_well() -> None:
    """A router passes its experts over at different times, and none for the first time alone."""
    trace, rows = healthy(140), np.arange(140)
    once = (rows >= 50) & (rows < 55)
    trace.scale("gradient:blocks.0.mlp.up.weight", np.where(once, 0.0, 1.0))
    trace.scale("gradient:blocks.1.mlp.up.weight", np.where(rows >= 100, 0.0, 1.0))
    (finding,) = told_by("vanishing", trace)
    assert (finding.onset_step, finding.step) == (100, 114)


def test_zero_from_the_first_step_is_intended() -> None:
    """A parameter that never had a gradient was meant to have none."""
    trace = healthy(100)
    trace.scale("gradient:blocks.1.mlp.up.weight", 0.0)
    assert opened(trace) == []


def test_a_frozen_parameter_has_no_gradient_at_all() -> None:
    """Absent from the start, rows of NaN in every column are not zero and not NaN."""
    trace = healthy(100)
    idle(trace, GRADIENT, slice(None))
    assert opened(trace) == []


def test_a_path_that_was_cut_from_the_start_is_told() -> None:
    """Zero on each of 24 rows, in more than a quarter of the matrices; the last is named first."""
    trace = never_reached()
    found = told_by("vanishing", trace)
    assert names_of(found, trace) == trace.names("gradient")[3::-1]
    assert {(f.kind, f.onset_step, f.step) for f in found} == {("vanishing_gradient", 0, 23)}


@pytest.mark.parametrize("num_matrices", [2, 3])
def test_fewer_that_never_had_a_gradient_are_quiet(num_matrices: int) -> None:
    """Parts of a network that wait for their use."""
    assert told_by("vanishing", never_reached(num_matrices)) == []


def test_small_gradients_that_still_rise_are_quiet() -> None:
    """Far below the largest, and larger from row to row: what grows does not vanish."""
    trace = healthy(100)
    for name in trace.names("gradient")[:4]:
        trace.scale(name, 1e-9 * np.exp2(np.arange(100) / 6))
    assert told_by("vanishing", trace) == []


def test_converging_shrinks_all_gradients_alike() -> None:
    """A million times smaller everywhere is success, if the loss has followed."""
    trace = _shrinking()
    trace.scalars["loss"] *= np.exp2(-np.arange(300) / 24)
    assert opened(trace) == []


def test_converging_upon_a_loss_that_cannot_fall_is_quiet() -> None:
    """All of the data in every batch: such a loss has a floor, and no noise upon it."""
    trace = _shrinking()
    trace.scalars["loss"] = 2 + 3 * np.exp(-np.arange(300) / 50)
    assert opened(trace) == []


def test_gradients_that_all_vanish_under_a_loss_with_more_to_learn_are_told() -> None:
    """Batches still differ, so their gradients cannot all be nought."""
    trace = healthy(300)
    for name in trace.names("gradient"):
        trace.scale(name, 1e-4, 200)
    (incident,) = opened(trace)
    assert (incident.kind, incident.severity, incident.group) == (
        "vanishing_gradient",
        "warning",
        None,
    )
    assert (incident.onset_step, incident.opened_step) == (200, 207)
    left = incident.evidence["ratio"]
    assert sentence(incident).startswith(
        f"The median gradient has fallen to {left:.3g} of its size since step 200"
    )


def test_of_gradients_that_fall_later_the_one_nearest_to_the_loss_is_named() -> None:
    """It is on the way to all the others."""
    trace = healthy(120)
    names = trace.names("gradient")
    for name in names[:7]:
        trace.scale(name, 1e-4, 60)
    (first, *_) = told_by("vanishing", trace)
    assert names_of([first], trace) == [names[6]]


def _shrinking() -> Trace:
    """All gradients shrink by 25 octaves in 300 rows."""
    trace = healthy(300)
    for name in trace.names("gradient"):
        trace.scale(name, np.exp2(-np.arange(300) / 12))
    return trace


def test_units_that_die_are_found_against_the_start() -> None:
    """From half zeros to nearly all, on fifteen rows."""
    trace = healthy(120)
    trace.put("activation:blocks.1.mlp.up", "zero_frac", 0.5, slice(0, 60))
    trace.put("activation:blocks.1.mlp.up", "zero_frac", 0.97, slice(60, None))
    (incident,) = opened(trace)
    assert (incident.kind, incident.onset_step, incident.opened_step) == ("dead_units", 60, 74)
    assert incident.group == "blocks.1.mlp.up"


def test_the_zeros_of_a_relu_are_ordinary() -> None:
    """Half, and even 80 %, is what ReLUs do; 95 % from the start is a mask."""
    trace = healthy(120)
    for name, share in (("attn.qkv", 0.5), ("mlp.up", 0.8), ("mlp.down", 0.95)):
        trace.put(f"activation:blocks.1.{name}", "zero_frac", share, slice(0, None))
    assert opened(trace) == []


def test_nothing_but_zeros_from_the_first_row_on_is_told() -> None:
    """A mask leaves something; a layer whose bias keeps it below nought leaves nothing."""
    trace = healthy(80)
    trace.put("activation:blocks.1.mlp.up", "zero_frac", 1.0, slice(None))
    (incident,) = opened(trace)
    assert (incident.kind, incident.opened_step) == ("dead_units", 14)
    assert sentence(incident).startswith(
        "blocks.1.mlp.up has put out nothing but zeros since step 0"
    )


def test_rows_without_gradients_do_not_count() -> None:
    """Measured on every second row, it takes twice as many to see that all have vanished."""
    trace = healthy(300)
    for name in trace.names("gradient"):
        trace.scale(name, 1e-4, 200)
        trace.stats[1::2, trace.index(name), :] = np.nan
    (incident,) = opened(trace)
    assert (incident.kind, incident.group) == ("vanishing_gradient", None)
    assert (incident.onset_step, incident.opened_step) == (200, 214)


def test_a_branch_that_has_not_opened_yet_is_not_dead() -> None:
    """A weight that begins at nought puts out nothing, and gets a gradient; or it is frozen."""
    trace = healthy(100)
    trace.put(f"activation:{LAYER}", "zero_frac", 1.0, slice(None))
    trace.scale(WEIGHT, 0.0)
    assert told_by("vanishing", trace) == []
    idle(trace, GRADIENT, slice(None))
    assert told_by("vanishing", trace) == []


def test_a_branch_without_a_way_out_is_dead() -> None:
    """With a gradient that is zero as well it never opens."""
    trace = healthy(100)
    trace.put(f"activation:{LAYER}", "zero_frac", 1.0, slice(None))
    for name in (WEIGHT, GRADIENT):
        trace.scale(name, 0.0)
    (finding,) = told_by("vanishing", trace)
    assert (finding.kind, names_of([finding], trace)) == ("dead_units", [f"activation:{LAYER}"])


@pytest.mark.parametrize(("share", "is_dead"), [(0.7, False), (0.8, True)])
def test_half_of_the_units_that_lived_must_die(share: float, is_dead: bool) -> None:
    """Of a layer of which half never lived, a quarter of all."""
    trace = healthy(120)
    trace.put(f"activation:{LAYER}", "inactive_unit_frac", 0.5, slice(0, 60))
    trace.put(f"activation:{LAYER}", "inactive_unit_frac", share, slice(60, None))
    assert bool(told_by("vanishing", trace)) is is_dead


def test_gradients_that_vanish_from_one_row_to_the_next_need_eight_rows() -> None:
    """No network converges within a step."""
    (finding,) = told_by("vanishing", vanished_at_once())
    assert (finding.kind, finding.series) == ("vanishing_gradient", None)
    assert (finding.onset_step, finding.step) == (100, 107)


def test_gradients_that_vanish_within_some_rows_need_24() -> None:
    """They may come back."""
    trace = vanished_at_once()
    for number, name in enumerate(trace.names("gradient")):
        trace.scale(name, np.where(np.arange(160) < 100 + number % 3, 1.0, 1 / 64))
        trace.scale(name, np.where(np.arange(160) == 100, 16.0, 1.0))
    assert [f.step for f in told_by("vanishing", trace) if f.series is None] != [107]
