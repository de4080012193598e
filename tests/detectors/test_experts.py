"""Lost experts: siblings of a routed layer that are never chosen again."""

from __future__ import annotations

import numpy as np
from foreshock.wire import FrameFlag

from tests.detectors.faults import FIRST, LAYER, idle, lost_expert
from tests.detectors.traces import Trace, changes_of, healthy, names_of, told_by

GRADIENT = f"gradient:{LAYER}.weight"
SIBLINGS = [f"gradient:blocks.{block}.mlp.up.weight" for block in range(3)]


def test_an_expert_that_is_passed_over_for_good_is_named() -> None:
    """On the twentieth row, from the first on, while the others live."""
    trace = lost_expert()
    (finding,) = told_by("experts", trace)
    assert (finding.kind, finding.onset_step, finding.step) == ("dead_units", FIRST, FIRST + 19)
    assert names_of([finding], trace) == [GRADIENT]


def test_the_sentence_counts_its_siblings() -> None:
    """Whoever reads it sees that it has two others beside it."""
    sentences = [change.sentence for change in changes_of(lost_expert())]
    assert any(
        f"{LAYER} has had nothing to do since step {FIRST}, while others of its 2 siblings had"
        in sentence
        for sentence in sentences
    )


def test_a_gradient_of_zeros_is_idle_as_well() -> None:
    """Where the framework fills in zeros for an expert that no token reached."""
    trace = lost_expert()
    trace.stats[FIRST:, trace.index(GRADIENT), :] = trace.stats[0, trace.index(GRADIENT), :]
    trace.scale(GRADIENT, 0.0, FIRST)
    trace.put(GRADIENT, "zero_frac", 1.0, slice(FIRST, None))
    assert names_of(told_by("experts", trace), trace) == [GRADIENT]


def test_a_plain_stack_is_quiet() -> None:
    """A layer of a stack that nobody routes was frozen, which another rule may tell."""
    assert told_by("experts", lost_expert(routed=False)) == []


def test_layers_that_are_frozen_one_by_one_are_quiet() -> None:
    """None of them comes back."""
    trace = healthy(160)
    for number, name in enumerate(SIBLINGS[:2]):
        idle(trace, name, slice(40 + 50 * number, None))
    assert told_by("experts", trace) == []


def test_heads_that_take_turns_are_quiet() -> None:
    """One a task, never two on the same row."""
    trace = healthy(300)
    for number, name in enumerate(SIBLINGS):
        for task in range(10):
            if task % 3 != number:
                idle(trace, name, slice(30 * task, 30 * (task + 1)))
    assert told_by("experts", trace) == []


def test_an_expert_that_is_seldom_chosen_is_quiet() -> None:
    """A longer pause than before is lost only when it is twice as long."""
    trace = healthy(200)
    for first, last in ((30, 45), (60, 76), (90, 118)):
        idle(trace, GRADIENT, slice(first, last))
    assert told_by("experts", trace) == []


def test_rows_on_which_no_sibling_was_measured_are_not_counted() -> None:
    """Activations are measured now and then: all absent is not lost."""
    trace = lost_expert()
    for name in SIBLINGS:
        idle(trace, name, slice(FIRST + 5, None))
    assert told_by("experts", trace) == []


def test_thinned_frames_are_passed_over() -> None:
    """What was left out to save time was not idle."""
    trace = lost_expert()
    trace.flags = trace.flags | np.where(np.arange(120) >= FIRST, FrameFlag.THINNED, 0).astype(
        np.uint32
    )
    assert told_by("experts", trace) == []


def test_two_siblings_are_no_layer_of_experts() -> None:
    """An encoder and a decoder may differ by a number."""
    trace: Trace = lost_expert()
    trace.describe(SIBLINGS[2], shape=(16, 64))
    assert told_by("experts", trace) == []
