"""Massive activations, and activations that grow with depth."""

from __future__ import annotations

import numpy as np

from tests.detectors.faults import FIRST, LAYER, massive_element
from tests.detectors.traces import Trace, changes_of, healthy, names_of, opened, told_by

NAME = f"activation:{LAYER}"


def _deep(octaves: float, *, first: int = 0, num_rows: int = 80) -> Trace:
    """Twelve blocks whose activations grow by so many octaves from the first layer to the last."""
    trace = healthy(num_rows, num_blocks=12)
    layers = trace.names("activation")[:-1]
    for depth, name in enumerate(layers):
        trace.scale(name, float(np.exp2(octaves * depth / (len(layers) - 1))), first)
    return trace


def test_a_massive_element_is_told_with_its_layer() -> None:
    """Twenty rows later, with the step at which it came."""
    trace = massive_element()
    (incident,) = opened(trace)
    assert (incident.kind, incident.group, incident.onset_step) == (
        "massive_activation", LAYER, FIRST,
    )  # fmt: skip
    assert incident.opened_step == FIRST + 19


def test_the_sentence_has_the_numbers_of_the_evidence() -> None:
    """How far above the rms, and how far at first."""
    (change,) = changes_of(massive_element())
    assert f"the largest is {change.incident.evidence['value']:.1f}x the rms, 4.0x at first" in (
        change.sentence
    )


def test_heavy_tails_are_quiet() -> None:
    """Many large elements have a low kurtosis."""
    trace = massive_element()
    trace.put(NAME, "kurtosis", 40.0, slice(FIRST, None))
    assert told_by("massive", trace) == []


def test_without_a_kurtosis_the_size_decides() -> None:
    """A run that does not report it is judged all the same."""
    trace = massive_element()
    trace.put(NAME, "kurtosis", np.nan, slice(None))
    assert names_of(told_by("massive", trace), trace) == [NAME]


def test_what_was_massive_from_the_start_is_quiet() -> None:
    """It is how this network is."""
    trace = healthy(120)
    trace.put(NAME, "max", 32.0 * trace.stats[:, trace.index(NAME), 2], slice(None))
    trace.put(NAME, "kurtosis", 900.0, slice(None))
    assert told_by("massive", trace) == []


def test_a_few_rows_are_quiet() -> None:
    """One sample of a batch may be odd."""
    trace = massive_element()
    trace.put(NAME, "max", 4.0, slice(FIRST + 12, None))
    assert told_by("massive", trace) == []


def test_units_that_fall_silent_are_quiet() -> None:
    """The rms of few living units is that of those units: the largest has not grown."""
    trace = healthy(120)
    for statistic, value in (("zero_frac", 0.999), ("std", 0.03), ("kurtosis", 900.0)):
        trace.put(NAME, statistic, value, slice(FIRST, None))
    assert told_by("massive", trace) == []


def test_the_output_and_softmax_are_quiet() -> None:
    """Both are peaked by design."""
    assert told_by("massive", massive_element("head")) == []
    trace = massive_element()
    trace.describe(NAME, module_type="Softmax")
    assert told_by("massive", trace) == []


def test_growth_with_depth_is_told_in_the_first_rows() -> None:
    """Once, of nobody: it is the design of the network."""
    (change,) = changes_of(_deep(12.0))[:1]
    assert (change.step, change.incident.kind, change.incident.group) == (9, "explosion", None)
    assert "from the first to the last of 48 Linear layers from step 0" in change.sentence
    assert [f.kind for f in told_by("massive", _deep(12.0))] == ["explosion"]


def test_growth_with_depth_does_not_recover_by_itself() -> None:
    """Nothing has changed, so the incident stays open."""
    assert [c.transition for c in changes_of(_deep(12.0))] == ["opened"]


def test_a_rise_that_is_new_needs_less() -> None:
    """Seven octaves that were none at the start."""
    (finding,) = told_by("massive", _deep(7.5, first=30))
    assert (finding.kind, finding.step, finding.onset_step) == ("explosion", 49, 30)
    assert told_by("massive", _deep(7.5)) == []


def test_one_large_layer_is_no_depth() -> None:
    """A layer that stands out is not a line."""
    trace = healthy(80, num_blocks=12)
    trace.scale(trace.names("activation")[-2], 2.0**14)
    assert told_by("massive", trace) == []


def test_few_layers_are_no_depth() -> None:
    """Five of a type tell nothing of geometric growth."""
    trace = _deep(12.0)
    for i, name in enumerate(trace.names("activation")):
        if i % 10:
            trace.describe(name, module_type=f"Kind{i}")
    assert told_by("massive", trace) == []
