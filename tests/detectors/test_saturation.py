"""Saturation: bounded outputs at their limits."""

from __future__ import annotations

import numpy as np
import pytest

from tests.detectors.faults import FIRST, LAYER, saturated_tanh
from tests.detectors.traces import names_of, told_by


@pytest.mark.parametrize("module_type", ["Tanh", "GRU"])
def test_an_output_at_its_limits_is_named(module_type: str) -> None:
    """A warning, dated to the first of the rows that made it one."""
    trace = saturated_tanh(module_type)
    (finding,) = told_by("saturation", trace)
    assert (finding.kind, finding.severity) == ("saturation", "warning")
    assert names_of([finding], trace) == [f"activation:{LAYER}"]
    assert finding.onset_step == FIRST


def test_a_sigmoid_is_measured_around_its_middle() -> None:
    """Zeros and ones in equal parts have a mean of a half and no slope."""
    trace = saturated_tanh("Sigmoid")
    for statistic, value in (("mean", 0.5), ("std", 0.49), ("min", 0.0), ("max", 1.0)):
        trace.put(f"activation:{LAYER}", statistic, value, slice(FIRST, None))
    trace.put(f"activation:{LAYER}", "std", 0.2, slice(0, FIRST))
    trace.put(f"activation:{LAYER}", "mean", 0.5, slice(0, FIRST))
    (finding,) = told_by("saturation", trace)
    assert finding.onset_step == FIRST


def test_a_sigmoid_in_its_middle_is_quiet() -> None:
    """Values about a half have the steepest slope."""
    trace = saturated_tanh("Sigmoid")
    for statistic, value in (("mean", 0.5), ("std", 0.2), ("min", 0.0), ("max", 1.0)):
        trace.put(f"activation:{LAYER}", statistic, value, slice(None))
    assert told_by("saturation", trace) == []


def test_the_same_values_of_an_unbounded_module_are_quiet() -> None:
    """A linear layer has no limits to sit at."""
    assert told_by("saturation", saturated_tanh("Linear")) == []


def test_a_code_that_becomes_sure_is_quiet() -> None:
    """Gates that learn to say yes or no go to their limits, and the loss falls."""
    trace = saturated_tanh()
    trace.scalars["loss"] = np.linspace(5.0, 1.0, 120)
    assert told_by("saturation", trace) == []


def test_a_run_that_has_learned_nearly_all_is_quiet() -> None:
    """There is next to no gradient left to pass on."""
    trace = saturated_tanh()
    trace.scalars["loss"][40:] = 0.05 * trace.scalars["loss"][0]
    assert told_by("saturation", trace) == []


def test_the_deepest_output_is_left_out() -> None:
    """A classifier that has learned is sure of its answers."""
    assert told_by("saturation", saturated_tanh("Tanh", "head")) == []


def test_an_output_that_uses_its_range_is_quiet() -> None:
    """A uniform spread over the range is where tanh works."""
    trace = saturated_tanh()
    trace.put(f"activation:{LAYER}", "std", 0.6, slice(None))
    assert told_by("saturation", trace) == []


def test_a_few_rows_at_the_limits_are_quiet() -> None:
    """Some batches drive a unit further than others."""
    trace = saturated_tanh()
    trace.put(f"activation:{LAYER}", "std", 0.6, slice(FIRST + 8, None))
    assert told_by("saturation", trace) == []


def test_an_output_beyond_the_limits_is_not_bounded_by_them() -> None:
    """A recurrent layer may return more than what its tanh made."""
    trace = saturated_tanh("LSTM")
    trace.put(f"activation:{LAYER}", "max", 10.0, slice(None))
    assert told_by("saturation", trace) == []
