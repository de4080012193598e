"""Spikes of gradients and activations: amplitude and significance together."""

from __future__ import annotations

import numpy as np
import pytest

from tests.detectors.traces import Trace, healthy, opened


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
