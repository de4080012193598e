"""The line below a verdict: how many tensors are off, and which one is farthest."""

from __future__ import annotations

import math

from foreshock_service.domain.findings import Severity
from foreshock_service.domain.incidents import Departure, Incident, State
from foreshock_service.web.verdict import verdict_of_incident


def _detail(*ratios: float) -> str:
    incident = Incident(
        number=1,
        kind="explosion",
        severity=Severity.WARNING,
        state=State.OPEN,
        onset_step=5,
        opened_step=8,
        opened_ord=8,
        updated_step=8,
        group="layers.0",
        root_series="weight:layers.0.weight",
        confidence=1.0,
        departures=tuple(
            Departure(series=f"weight:layers.{i}.weight", step=5, statistic="rms", ratio=ratio)
            for i, ratio in enumerate(ratios)
        ),
    )
    return verdict_of_incident(incident, "", link=None, events=[], newest_step=9).detail


def test_a_fall_counts_as_far_as_a_rise() -> None:
    assert "layers.1.weight is now the farthest off, at 1/50" in _detail(2.0, 1 / 50, 1.2)


def test_what_has_no_ratio_is_never_the_farthest() -> None:
    """Without a baseline, or fallen to exactly zero, no number says how far off it is."""
    assert "layers.1.weight is now the farthest off, at 2.0" in _detail(math.inf, 2.0, 0.0)
    assert "farthest" not in _detail(math.inf, 0.0)


def test_what_is_where_it_was_is_not_off() -> None:
    """An incident may be told by something other than a size: two units that are copies, say."""
    assert "farthest" not in _detail(1.0, 1.01)
