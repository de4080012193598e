"""Overwrite: updates so large that a few of them replace what was learned."""

from __future__ import annotations

from tests.detectors.faults import overwritten_weights
from tests.detectors.traces import Trace, changes_of, told_by


def _updates_of(share: float, first: int = 0, num_matrices: int = 13) -> Trace:
    """Updates of a share of the weight from a row on, a thousandth before."""
    trace = overwritten_weights()
    for name in trace.names("update"):
        trace.scale(name, 1e-3, 0)
    for name in trace.names("update")[:num_matrices]:
        trace.scale(name, 1e3 * share, first)
    return trace


def test_updates_as_large_as_the_weights_are_told_without_a_history() -> None:
    """As soon as twelve rows stand after the first eight, and nobody is named."""
    (finding,) = told_by("overwrite", overwritten_weights())
    assert (finding.kind, finding.severity) == ("update_too_large", "warning")
    assert (finding.step, finding.series) == (19, None)


def test_the_sentence_says_how_large_they_are() -> None:
    """As a share of the weight."""
    sentences = [c.sentence for c in changes_of(overwritten_weights())]
    assert any("Updates overwrite the weights" in s and "1 of the weight" in s for s in sentences)


def test_a_tenth_of_the_weight_is_quiet() -> None:
    """Small networks at large rates reach it and learn."""
    assert told_by("overwrite", _updates_of(0.1)) == []


def test_a_few_large_updates_are_quiet() -> None:
    """The median of twelve rows does not see five."""
    trace = _updates_of(0.5, first=40)
    for name in trace.names("update"):
        trace.scale(name, 1e-3, 45)
    assert told_by("overwrite", trace) == []


def test_a_minority_of_matrices_is_quiet() -> None:
    """Of single tensors others tell."""
    assert told_by("overwrite", _updates_of(0.5, num_matrices=5)) == []


def test_weights_that_begin_at_zero_are_quiet() -> None:
    """Their first updates are all there is of them."""
    trace = _updates_of(1e-3)
    for name in trace.names("update"):
        trace.put(name, "std", 1.0, slice(0, 8))
    assert told_by("overwrite", trace) == []
