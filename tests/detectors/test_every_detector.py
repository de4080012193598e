"""What each detector in the registry owes: to survive restarts, and to know no unit or name."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import pytest
from foreshock_service.detectors.registry import DETECTORS
from foreshock_service.domain.findings import Finding
from foreshock_service.pipeline.session import DetectionSession

from tests.detectors.faults import (
    FAULTS,
    boundless_loss,
    climbing_rate,
    copied_weights,
    creeping_rate,
    decaying_weights,
    doubtful_weight,
    easy_loss,
    gone_rate,
    half_rounded_updates,
    jumping_activation,
    left_out_weight,
    lifted_losses,
    never_reached,
    rarely_measured_collapse,
    skipped_steps,
    stale_table,
    sunk_logits,
    unheeded_overflows,
    vanished_at_once,
    worn_rate,
    zero_gradients,
)
from tests.detectors.traces import Trace, healthy, only, renamed, told_by

every_detector = pytest.mark.parametrize("detector", DETECTORS)

Told = list[tuple[str, int, int, int | None, str]]


def _told(findings: list[Finding], *, later: int = 0) -> Told:
    return [
        (f.kind, f.step - later, f.onset_step - later, f.series, str(f.severity)) for f in findings
    ]


@cache
def _plain(detector: str) -> list[Finding]:
    """What the detector finds of its fault, as it is."""
    return told_by(detector, FAULTS[detector]())


def _with_gradients_scaled(trace: Trace, factor: float) -> Trace:
    for name in trace.names("gradient"):
        trace.scale(name, factor)
    if "grad_norm" in trace.scalars:
        trace.scalars["grad_norm"] = factor * trace.scalars["grad_norm"]
    return trace


def test_every_detector_has_its_fault() -> None:
    """A detector that is added to the registry is added to these tests as well."""
    assert list(FAULTS) == list(DETECTORS)


@every_detector
def test_the_fault_is_told_by_its_detector(detector: str) -> None:
    """Each rule speaks of the fault that it is for."""
    assert {finding.detector for finding in _plain(detector)} == {detector}


@every_detector
def test_a_healthy_run_is_quiet(detector: str) -> None:
    """And of nothing in a run without a fault."""
    assert told_by(detector, healthy(300, seed=7)) == []


@every_detector
def test_restarts_change_no_finding(detector: str) -> None:
    """Saved and taken up again after every row, the same findings to the last digit."""
    assert _restarted_after_every_row(detector, FAULTS[detector]()) == _plain(detector)


def _restarted_after_every_row(detector: str, trace: Trace) -> list[Finding]:
    found = []
    data = DetectionSession(only(detector), trace.facts).state()
    for frame in trace.frames():
        session = DetectionSession(only(detector), trace.facts)
        session.restore(data)
        found += [finding for finding, _ in session.push(frame).findings]
        data = session.state()
    return found


@pytest.mark.parametrize(
    ("detector", "fault"),
    [
        ("replicas", copied_weights),
        ("rate", gone_rate),
        ("rate", worn_rate),
        ("rate", climbing_rate),
        ("updates", creeping_rate),
        ("fading", decaying_weights),
        ("collapse", rarely_measured_collapse),
        ("stopped", left_out_weight),
        ("vanishing", never_reached),
        ("unreached", zero_gradients),
        ("precision", skipped_steps),
        ("precision", unheeded_overflows),
        ("precision", half_rounded_updates),
        ("vanishing", vanished_at_once),
        ("runaway", boundless_loss),
        ("loss", lifted_losses),
        ("identity", doubtful_weight),
        ("drift", sunk_logits),
        ("windfall", easy_loss),
        ("spike", jumping_activation),
        ("optimizer_health", stale_table),
    ],
)
def test_restarts_change_no_finding_of_a_second_rule(
    detector: str, fault: Callable[[], Trace]
) -> None:
    """What these rules count besides is saved as well."""
    trace = fault()
    plain = told_by(detector, trace)
    assert plain
    assert _restarted_after_every_row(detector, trace) == plain


@every_detector
def test_other_names_change_no_finding(detector: str) -> None:
    """Rules know the structure of a network, not what its author called it."""
    told = _told(told_by(detector, renamed(FAULTS[detector]())))
    assert told == _told(_plain(detector)) != []


HAVE_A_SCALE = ("doubled",)


@pytest.mark.parametrize("detector", [name for name in DETECTORS if name not in HAVE_A_SCALE])
def test_scaling_the_loss_changes_no_finding(detector: str) -> None:
    """A sum over the batch instead of a mean is no fault and hides none. The bounds of a cross
    entropy are those of one that was not scaled."""
    trace = FAULTS[detector]()
    trace.scalars["loss"] = 1024.0 * trace.scalars["loss"]
    assert _told(told_by(detector, trace)) == _told(_plain(detector)) != []


@every_detector
def test_scaling_the_gradients_changes_no_finding(detector: str) -> None:
    """Neither is a loss scale that was not taken out."""
    trace = _with_gradients_scaled(FAULTS[detector](), 1024.0)
    assert _told(told_by(detector, trace)) == _told(_plain(detector)) != []


ASK_FOR_THE_START = ("climb", "doubled", "early", "epsilon", "formats", "plateau")


@pytest.mark.parametrize("detector", [name for name in DETECTORS if name not in ASK_FOR_THE_START])
def test_later_steps_change_no_finding(detector: str) -> None:
    """The same rows 1000 steps later give the same findings 1000 steps later. Some rules
    ask whether a run is seen from its start, which is another question."""
    trace = FAULTS[detector]()
    trace.steps = trace.steps + 1000
    assert _told(told_by(detector, trace), later=1000) == _told(_plain(detector)) != []
