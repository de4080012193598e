"""Softmax taken twice: cross entropy of what are probabilities already."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.nn import functional

from tests.detectors.faults import softmax_twice
from tests.detectors.traces import changes_of, names_of, told_by


def test_a_loss_between_the_bounds_of_probabilities_is_told_with_its_output() -> None:
    """After 8 rows of logits that lie so far apart."""
    trace = softmax_twice()
    finding = told_by("doubled", trace)[0]
    assert (finding.kind, finding.severity) == ("plateau", "warning")
    assert names_of([finding], trace) == ["activation:head"]
    assert finding.step == 58


def test_the_sentence_tells_where_the_loss_ends() -> None:
    """In the numbers of the evidence."""
    sentences = [change.sentence for change in changes_of(softmax_twice())]
    assert any(
        s.startswith("The loss cannot fall below 2.52: logits of head differ by") for s in sentences
    )


@pytest.mark.parametrize("classes", [4, 10, 1000])
def test_the_bounds_are_those_of_pytorch(classes: int) -> None:
    """What cross_entropy says of probabilities that are right, and wrong, for sure."""
    sure = torch.eye(classes)[:2]
    right = functional.cross_entropy(sure, torch.tensor([0, 1])).item()
    wrong = functional.cross_entropy(sure, torch.tensor([1, 0])).item()
    assert right == pytest.approx(math.log(math.e + classes - 1) - 1, rel=1e-5)
    assert wrong == pytest.approx(right + 1, rel=1e-5)


def test_a_loss_that_goes_below_is_quiet() -> None:
    """No probability would take it there."""
    assert told_by("doubled", softmax_twice(lowest=1.5)) == []


def test_one_loss_above_is_enough() -> None:
    """A wrong answer that a network is sure of costs more than one."""
    trace = softmax_twice()
    trace.scalars["loss"][40] = 3.6
    assert told_by("doubled", trace) == []


def test_logits_that_lie_close_together_are_quiet() -> None:
    """The network has not learned yet, and its loss is where it would be anyway."""
    assert told_by("doubled", softmax_twice(spread=2.0)) == []


def test_a_loss_that_begins_elsewhere_is_another() -> None:
    """It is no cross entropy of so many classes."""
    trace = softmax_twice()
    trace.scalars["loss"] -= 0.1 * (np.arange(160) < 20)
    assert told_by("doubled", trace) == []


def test_a_run_that_is_joined_later_is_quiet() -> None:
    """Nobody knows its first losses."""
    trace = softmax_twice()
    trace.steps += 1000
    assert told_by("doubled", trace) == []
