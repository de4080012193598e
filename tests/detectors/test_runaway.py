"""Runaway: outputs and the loss that grow together."""

from __future__ import annotations

import numpy as np

from tests.detectors.faults import FIRST, boundless_loss, runaway_values
from tests.detectors.traces import changes_of, healthy, names_of, told_by


def test_values_that_run_away_are_told_with_their_output() -> None:
    """Of which its growth alone says nothing: outputs may grow by seven octaves."""
    trace = runaway_values()
    (finding,) = told_by("runaway", trace)
    assert (finding.kind, finding.severity) == ("explosion", "warning")
    assert names_of([finding], trace) == ["activation:head"]
    assert told_by("growth", trace) == []


def test_the_incident_is_about_the_output() -> None:
    """And says how far it has grown."""
    opened = [c for c in changes_of(runaway_values()) if c.transition == "opened"]
    assert any("head" in c.sentence for c in opened)


def test_an_output_that_grows_while_the_loss_does_not_is_quiet() -> None:
    """That is what learning to answer looks like."""
    trace = runaway_values()
    trace.scalars["loss"] = healthy(160).scalars["loss"]
    assert told_by("runaway", trace) == []


def test_a_loss_that_grows_alone_is_quiet() -> None:
    """Of which other rules tell."""
    trace = runaway_values()
    trace.scale("activation:head", np.exp2(-np.clip(np.arange(160) - FIRST, 0, None) / 12.0))
    assert told_by("runaway", trace) == []


def test_growth_that_stops_is_quiet() -> None:
    """As values do that are learned: each half must have its share."""
    trace = healthy(160)
    growth = np.exp2(np.clip((np.arange(160) - FIRST) / 2.0, 0, 3))
    trace.scalars["loss"] = growth
    trace.scale("activation:head", growth)
    assert told_by("runaway", trace) == []


def test_a_loss_below_its_first_ones_is_quiet() -> None:
    """It comes back to where it was."""
    trace = runaway_values()
    trace.scalars["loss"][:16] *= 1e6
    assert told_by("runaway", trace) == []


def test_a_loss_below_nought_has_no_octaves() -> None:
    """And breaks the count."""
    trace = runaway_values()
    trace.scalars["loss"] *= -1.0
    assert told_by("runaway", trace) == []


def test_a_loss_without_a_bound_is_told_by_its_output() -> None:
    """It falls ever faster below nought, and the logits grow: it pays to pull them apart."""
    trace = boundless_loss()
    (finding,) = told_by("runaway", trace)
    assert (finding.kind, finding.severity) == ("output_logit_drift", "warning")
    assert names_of([finding], trace) == ["activation:head"]
    told = [c.sentence for c in changes_of(trace) if "it has no bound" in c.sentence]
    assert told[0].startswith("The outputs of head grow from step")


def test_a_density_that_is_learned_is_quiet() -> None:
    """Its loss may go below nought as well, and slows down."""
    assert told_by("runaway", boundless_loss(gathers=False)) == []


def test_a_model_that_returns_its_loss_has_no_output() -> None:
    """A single number is no logit."""
    trace = boundless_loss()
    trace.put("activation:head", "mean", trace.scalars["loss"], slice(None))
    trace.put("activation:head", "std", 0.0, slice(None))
    assert told_by("runaway", trace) == []


def test_a_young_run_whose_loss_goes_below_nought_is_quiet() -> None:
    """A likelihood is learned so: outputs grow from next to nothing."""
    trace = boundless_loss()
    told = told_by("runaway", trace)[0].step
    trace.stats, trace.scalars["loss"] = trace.stats[40:], trace.scalars["loss"][40:]
    trace.steps, trace.flags = trace.steps[:-40], trace.flags[40:]
    assert told - 40 < 98 == told_by("runaway", trace)[0].step
