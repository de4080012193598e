"""Spikes of gradients and activations: amplitude and significance together."""

from __future__ import annotations

import numpy as np
import pytest

from tests.detectors.faults import GRADIENT, LAYER, jumping_activation
from tests.detectors.traces import Trace, healthy, names_of, opened, told_by


def _gradients(trace: Trace, factor: float, row: int, *, but: str = "") -> None:
    for series in trace.schema.series:
        if series.kind == "gradient" and series.name != but:
            trace.scale(f"gradient:{series.name}", np.where(np.arange(200) == row, factor, 1.0))


def test_one_tensor_far_above_its_normal_is_named() -> None:
    """200 times its own level, though the global norm is dominated by others."""
    trace = healthy(200)
    trace.scale("gradient:head.weight", 1000.0)
    trace.scale("gradient:blocks.1.mlp.up.weight", np.where(np.arange(200) == 150, 200.0, 1.0))
    (incident,) = opened(trace)
    assert (incident.kind, incident.onset_step) == ("gradient_spike", 150)
    assert incident.group == "blocks.1.mlp.up"


def test_a_jump_of_the_whole_norm_is_found_once() -> None:
    """Thirty times the usual norm on one row, led by the tensor that rose most."""
    trace = healthy(200)
    _gradients(trace, 30.0, 150)
    (incident,) = opened(trace)
    assert (incident.kind, incident.opened_step) == ("gradient_spike", 150)


@pytest.mark.parametrize("factor", [3.0, 9.0])
def test_the_blips_of_small_transformers_are_quiet(factor: float) -> None:
    """Nine times the median on single rows is how healthy transformers train."""
    trace = healthy(200)
    for row in (60, 100, 101, 150):
        _gradients(trace, factor, row)
    assert opened(trace) == []


def test_a_corrupt_batch_is_told_by_its_first_layer() -> None:
    """Activations from the first layer on jump together with the gradients."""
    trace = healthy(200)
    _gradients(trace, 8.0, 150)
    for series in trace.schema.series:
        if series.kind == "activation":
            trace.scale(f"activation:{series.name}", np.where(np.arange(200) == 150, 20.0, 1.0))
    (incident,) = opened(trace)
    assert incident.kind == "bad_batch"
    assert incident.group == "blocks.0.attn.qkv"


def test_scaling_all_gradients_changes_nothing() -> None:
    """The same spike at the same step under a loss scale of 1024."""
    trace = healthy(200)
    trace.scale("gradient:blocks.1.mlp.up.weight", np.where(np.arange(200) == 150, 200.0, 1.0))
    plain = [(i.kind, i.group, i.onset_step) for i in opened(trace)]
    for series in trace.schema.series:
        if series.kind == "gradient":
            trace.scale(f"gradient:{series.name}", 1024.0)
    assert plain == [(i.kind, i.group, i.onset_step) for i in opened(trace)] != []


def _norms(before: np.ndarray, spike: float) -> Trace:
    """A run that logs these gradient norms, and at the end one that many times as large."""
    trace = healthy(len(before) + 1)
    trace.scalars["grad_norm"] = np.append(before, spike * np.median(before[-64:]))
    return trace


def test_large_norms_of_the_start_hide_no_spike() -> None:
    """Thirty times the level of the last rows is as much as the first ones had, long ago."""
    level = np.maximum(30.0 * 0.9 ** np.arange(200), 1.0)
    noise = np.random.default_rng(0).lognormal(0, 0.1, 200)
    (finding,) = [f for f in told_by("spike", _norms(level * noise, 30.0)) if f.series is None]
    assert (finding.kind, finding.step) == ("gradient_spike", 200)


def test_norms_that_reached_as_far_lately_are_no_spike() -> None:
    """Forty rows ago it was the same."""
    norms = np.random.default_rng(0).lognormal(0, 0.1, 200)
    norms[160] = 25.0
    assert [f.step for f in told_by("spike", _norms(norms, 30.0))] == [160]


def test_an_input_that_jumps_is_told_while_the_loss_falls() -> None:
    """No learning makes the first layer answer six times as large from one row to the next."""
    trace = healthy(120)
    trace.scalars["loss"] = np.linspace(10, 1, 120)
    trace.scalars["grad_norm"] = np.where(np.arange(120) == 80, 6.0, 1.0)
    for name in trace.names("activation"):
        trace.scale(name, np.where(np.arange(120) == 80, 6.0, 1.0))
    assert {(f.kind, f.step) for f in told_by("spike", trace)} == {("bad_batch", 80)}


def test_of_gradients_that_jump_alike_the_one_nearest_to_the_loss_is_named() -> None:
    """A factor comes to all that lie beyond it, and noise decides which is the largest."""
    trace = healthy(200)
    names = trace.names("gradient")
    for name in names[:5]:
        trace.scale(name, np.where(np.arange(200) == 150, 64.0, 1.0))
    for name in names[5:]:
        trace.scale(name, 0.05)
    (first, *_) = told_by("spike", trace)
    assert first.kind == "gradient_spike"
    named = [f for f in told_by("spike", trace) if f.series is not None]
    assert names_of(named[:1], trace) == [names[4]]


def test_a_hard_sample_of_a_run_that_has_learned_all_is_quiet() -> None:
    """Thirty times the other batches' gradient, and less than any of the first ones."""
    trace = _norms(np.where(np.arange(220) < 60, 1.0, 0.01), 31.0)
    assert told_by("spike", trace) != []
    trace.scalars["loss"][60:] = 1e-3
    assert told_by("spike", trace) == []


def test_a_young_activation_must_jump_further() -> None:
    """A few batches are no measure of what the next may do to a layer."""
    for row, told in ((60, False), (160, True)):
        assert bool(told_by("spike", jumping_activation([row, row + 1]))) == told


def test_an_activation_that_jumps_by_itself_must_jump_again() -> None:
    """Within three rows, where the gradient norm does not jump with it."""
    assert told_by("spike", jumping_activation([160])) == []
    assert told_by("spike", jumping_activation([160, 164])) == []
    (finding,) = told_by("spike", jumping_activation())
    assert (finding.kind, finding.step) == ("explosion", 163)


def test_an_activation_that_jumps_with_the_gradient_norm_is_told_at_once() -> None:
    """Five times the norm is no spike of its own."""
    trace = jumping_activation([160])
    _gradients(trace, 5.0, 160)
    (finding,) = told_by("spike", trace)
    assert (finding.kind, finding.step) == ("explosion", 160)


def test_rows_without_activations_do_not_count() -> None:
    """Measured on every third row, the next two that are measured may be six rows away."""
    trace = jumping_activation([160, 166], factor=12.0)
    for name in trace.names("activation"):
        trace.stats[np.arange(200) % 3 != 1, trace.index(name)] = np.nan
    assert [f.step for f in told_by("spike", trace)] == [166]


def test_a_bias_that_had_no_gradient_but_rounding_does_not_jump() -> None:
    """In front of a normalisation; it gets one once that is frozen. A matrix never has such one."""
    trace = healthy(200)
    trace.scale(GRADIENT, np.where(np.arange(200) < 150, 1e-8, 1.0))
    trace.describe(GRADIENT, name=f"{LAYER}.bias", shape=(32,))
    assert told_by("spike", trace) == []
    trace.describe(f"gradient:{LAYER}.bias", name=f"{LAYER}.weight", shape=(32, 32))
    assert names_of(told_by("spike", trace), trace) == [GRADIENT]
