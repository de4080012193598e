"""Loss of plasticity: tasks that are learned ever worse while units fall silent."""

from __future__ import annotations

import numpy as np
from foreshock_service.pipeline.session import DetectionSession

from tests.detectors.faults import LAYER, forgetful_run
from tests.detectors.traces import names_of, only, told_by

NAME = f"activation:{LAYER}"


def test_tasks_that_are_learned_worse_by_a_network_that_falls_silent_are_told() -> None:
    """On the third recovery, the second in a row that is worse."""
    trace = forgetful_run()
    (finding,) = told_by("plasticity", trace)
    assert (finding.kind, names_of([finding], trace)) == ("loss_of_plasticity", [NAME])
    assert 340 <= finding.step <= 345


def test_the_sentence_says_what_the_loss_recovers_to() -> None:
    """Now and two tasks before, and the units with them."""
    session = DetectionSession(only("plasticity"))
    changes = [c for frame in forgetful_run().frames() for c in session.push(frame).changes]
    evidence = changes[0].incident.evidence
    assert (
        f"the loss recovers to {evidence['recovered_to']:.3g}, "
        f"to {evidence['recovered_before']:.3g} before" in changes[0].sentence
    )


def test_tasks_of_changing_difficulty_are_quiet() -> None:
    """A task that is learned better between two hard ones says that learning is as good as ever."""
    assert told_by("plasticity", forgetful_run((0.3, 1.4, 0.3, 1.4))) == []


def test_tasks_that_are_harder_are_quiet_while_the_units_live() -> None:
    """The network is as it was."""
    trace = forgetful_run()
    trace.put(NAME, "inactive_unit_frac", 0.0, slice(None))
    assert told_by("plasticity", trace) == []


def test_units_that_come_on_again_are_quiet() -> None:
    """What is off for one task and on for the next is not lost."""
    trace = forgetful_run()
    share = np.where(np.arange(len(trace.steps)) // 10 % 2, 0.8, 0.4)
    trace.put(NAME, "inactive_unit_frac", share[100:], slice(100, None))
    assert told_by("plasticity", trace) == []


def test_zeros_tell_where_units_are_not_counted() -> None:
    """A share of zeros near one is one of silent units."""
    trace = forgetful_run()
    index = trace.index(NAME)
    trace.put(NAME, "zero_frac", trace.stats[:, index, 12], slice(None))
    trace.put(NAME, "inactive_unit_frac", np.nan, slice(None))
    assert [finding.statistic for finding in told_by("plasticity", trace)] == ["zero_frac"]


def test_the_statistic_is_that_of_the_foremost() -> None:
    """Zeros of the first layer are told as zeros, though a later one counts its units."""
    trace = forgetful_run()
    first = trace.names("activation")[0]
    trace.put(first, "zero_frac", 0.9, slice(100, None))
    session = DetectionSession(only("plasticity"))
    (change,) = [c for frame in trace.frames() for c in session.push(frame).changes][:1]
    evidence = change.incident.evidence
    assert f", {100 * float(evidence['value']):.0f} % of its outputs are zero, " in change.sentence
    assert evidence["statistic"] == "zero_frac"


def test_one_task_is_quiet() -> None:
    """Silent units alone are told by another rule."""
    trace = forgetful_run()
    trace.scalars["loss"] = trace.scalars["loss"][:1] * np.exp(-np.arange(len(trace.steps)) / 100)
    assert told_by("plasticity", trace) == []


def test_a_loss_that_is_not_finite_is_passed_over() -> None:
    """It is no level to recover to."""
    trace = forgetful_run()
    trace.scalars["loss"][[150, 225, 330]] = [np.nan, np.inf, -np.inf]
    assert names_of(told_by("plasticity", trace), trace) == [NAME]


def test_a_run_that_diverges_is_quiet() -> None:
    """Above the first losses nothing has recovered."""
    trace = forgetful_run((0.3, 0.7, 5.0, 20.0))
    assert told_by("plasticity", trace) == []
