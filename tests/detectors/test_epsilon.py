"""Gradients that are as small as the optimizer's epsilon."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from foreshock_service.domain.facts import RunFacts

from tests.detectors.faults import LAYER, tiny_gradients
from tests.detectors.traces import changes_of, healthy, names_of, told_by


def test_gradients_below_epsilon_are_told_of_nobody() -> None:
    """After twenty rows, from the first on."""
    (finding,) = told_by("epsilon", tiny_gradients())
    assert (finding.kind, finding.series, finding.onset_step, finding.step) == (
        "update_too_small", None, 0, 19,
    )  # fmt: skip


def test_the_sentence_has_epsilon_and_the_gradients() -> None:
    """Both numbers stand side by side."""
    change = changes_of(tiny_gradients())[0]
    assert "the optimizer's epsilon (1e-08) outweighs gradients of " in change.sentence


def test_one_matrix_is_named() -> None:
    """Where the others are well, it is this layer's gradient that is too small."""
    trace = healthy(80)
    trace.facts = RunFacts(optimizer="Adam", eps=1e-8)
    trace.scale(f"gradient:{LAYER}.weight", 1e-9)
    found = told_by("epsilon", trace)
    assert names_of(found, trace) == [f"update:{LAYER}.weight"]


def test_larger_gradients_are_quiet() -> None:
    """Ten epsilons are enough."""
    trace = healthy(80)
    trace.facts = RunFacts(optimizer="Adam", eps=1e-8)
    for name in trace.names("gradient"):
        trace.scale(name, 1e-7)
    assert told_by("epsilon", trace) == []


def test_an_epsilon_that_nobody_told_is_quiet() -> None:
    """It is not guessed, and SGD has none."""
    trace = tiny_gradients()
    silent = [RunFacts(optimizer="AdamW"), RunFacts(optimizer="SGD", eps=1e-8)]
    assert [told_by("epsilon", replace(trace, facts=facts)) for facts in silent] == [[], []]


def test_a_run_that_has_converged_is_quiet() -> None:
    """At a hundredth of its first loss it needs no updates."""
    trace = tiny_gradients()
    trace.scalars["loss"] = np.where(np.arange(80) < 12, 5.0, 0.05)
    assert told_by("epsilon", trace) == []


def test_large_gradients_are_remembered_as_long_as_the_optimizer_does() -> None:
    """With a decay of 0.999 the second moment outlasts sixty rows of small gradients."""
    trace = tiny_gradients()
    trace.facts = RunFacts(optimizer="AdamW", eps=1e-8, betas=(0.9, 0.999))
    for name in trace.names("gradient"):
        trace.scale(name, np.where(np.arange(80) < 20, 1e10, 1.0))
    assert told_by("epsilon", trace) == []


def test_a_run_that_is_seen_from_its_middle_on_is_quiet() -> None:
    """It may have converged long before its first row."""
    trace = tiny_gradients()
    trace.steps = trace.steps + 5000
    assert told_by("epsilon", trace) == []
