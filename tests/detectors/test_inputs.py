"""Inputs: output over weight of the first layer tells the size of what it is given."""

from __future__ import annotations

import numpy as np
import pytest

from tests.detectors.faults import FIRST, FIRST_LAYER, larger_input
from tests.detectors.traces import Trace, changes_of, healthy, names_of, told_by

WEIGHT = "weight:blocks.0.attn.qkv.weight"


@pytest.mark.parametrize("factor", [6.0, 1 / 6])
def test_an_input_of_another_size_is_told_on_the_third_row(factor: float) -> None:
    """Larger or smaller; the first layer is named."""
    trace = larger_input(factor=factor)
    (finding,) = told_by("inputs", trace)
    assert (finding.kind, finding.severity) == ("bad_batch", "warning")
    assert (finding.onset_step, finding.step) == (FIRST, FIRST + 2)
    assert names_of([finding], trace) == [FIRST_LAYER]


def test_a_drift_is_told_once_it_is_far() -> None:
    """A sensor whose gain grows by 2 % a row."""
    trace = healthy(240)
    trace.scale(FIRST_LAYER, np.power(1.02, np.clip(np.arange(240) - 80, 0, None)))
    (finding,) = told_by("inputs", trace)
    assert 140 < finding.step < 200


def test_the_sentence_says_of_which_layer() -> None:
    """And since when, from what to what."""
    sentences = [c.sentence for c in changes_of(larger_input(factor=0.2)) if c.step < FIRST + 4]
    assert any(
        s.startswith("The input of blocks.0.attn.qkv, the first layer, has changed its size since")
        for s in sentences
    )


@pytest.mark.parametrize("factor", [3.5, 1 / 3.5])
def test_what_filters_do_as_they_learn_is_quiet(factor: float) -> None:
    """They come to fit their data within less than two octaves."""
    assert told_by("inputs", larger_input(factor=factor)) == []


def test_two_odd_batches_are_quiet() -> None:
    """One is another rule's; and one above and one below are no other input."""
    trace = healthy(160)
    trace.scale(FIRST_LAYER, np.where(np.isin(np.arange(160), (80, 81)), 8.0, 1.0))
    trace.scale(FIRST_LAYER, np.where(np.arange(160) == 82, 0.1, 1.0))
    assert told_by("inputs", trace) == []


def test_a_weight_that_grows_with_its_output_is_quiet() -> None:
    """The output over the weight is what it was."""
    trace = larger_input()
    trace.scale(WEIGHT, 6.0, FIRST)
    assert told_by("inputs", trace) == []


def test_a_weight_that_explodes_says_nothing_of_the_input() -> None:
    """An output that did not follow is no smaller input."""
    trace = healthy(160)
    trace.scale(WEIGHT, 8.0, FIRST)
    assert told_by("inputs", trace) == []


def test_the_first_rows_are_quiet() -> None:
    """Filters find their shape."""
    trace = healthy(160)
    trace.scale(FIRST_LAYER, np.where(np.arange(160) < 20, 1.0, 8.0))
    assert told_by("inputs", trace) == []


def test_a_look_up_table_is_no_filter() -> None:
    """Its rows are the input."""
    trace = larger_input()
    for name in (FIRST_LAYER, WEIGHT):
        trace.describe(name, module_type="Embedding")
    assert told_by("inputs", trace) == []


def test_a_network_without_a_weight_there_is_quiet() -> None:
    """As one whose first module is a normalisation without parameters."""
    trace = larger_input()
    trace.drop(WEIGHT)
    assert told_by("inputs", trace) == []


def test_another_first_layer_begins_a_level_of_its_own() -> None:
    """A schema that loses the first layer moves nobody else's level."""
    trace = healthy(160)
    trace.scale("activation:blocks.0.attn.proj", 8.0)
    shorter = healthy(160)
    shorter.scale("activation:blocks.0.attn.proj", 8.0)
    for kind, tail in (("activation", ""), ("weight", ".weight")):
        shorter.drop(f"{kind}:blocks.0.attn.qkv{tail}")
    frames = [*trace.frames()][:80] + [*shorter.frames()][80:]
    assert told_by("inputs", frames) == []


def test_the_detector_is_quiet_on_a_trace_of_nothing() -> None:
    """Rows on which nothing was measured say nothing."""
    trace: Trace = larger_input()
    trace.stats[:] = np.nan
    assert told_by("inputs", trace) == []
